"""A page of another site, in a real browser on this host, gets nothing from any surface.

Neither by our addresses nor, as after DNS rebinding, by a name of its own that resolves to them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.sandbox import sandbox_in_thread
from tests.root.hostile_site import HostileSite, Report, hostile_site, visit
from tests.root.metadata_host import MetadataHost, metadata_host
from tests.root.own_network import CONTAINER, IMDS, own_network

NAMES = {
    "evil.test": "127.0.0.1",
    "evil-imds.test": IMDS,
    "evil-container.test": CONTAINER,
    "page.test": "127.0.0.1",
}
SHOW_ANYTHING = ("--disable-web-security", "--disable-site-isolation-trials")
IMDS_PATHS = (
    "/latest/api/token",
    "/latest/meta-data/",
    "/latest/meta-data/iam/security-credentials/",
    "/latest/meta-data/iam/security-credentials/deploy",
)
CONTAINER_PATHS = ("/v1/credentials", "/role/deploy", "/t/x/v1/credentials")
OPS_PATHS = ("/healthz", "/metrics")

ANYBODY = """
[[rules]]
who = { any_local = true }
roles = ["deploy"]
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[MetadataHost]:
    """To it the browser's user is one who may have credentials."""
    with (
        own_network(),
        sandbox_in_thread() as sandbox,
        metadata_host(
            sandbox,
            tmp_path,
            rules=ANYBODY,
            imds=(f"{IMDS}:80", "127.0.0.1:0"),
            container=(f"{CONTAINER}:80", "127.0.0.1:0"),
        ) as host,
    ):
        yield host


@pytest.fixture
def site(host: MetadataHost) -> Iterator[HostileSite]:
    with hostile_site() as site:
        yield site


def addresses(host: MetadataHost) -> list[str]:
    """Return everything worth trying."""
    endpoints = host.broker.endpoints
    paths = {"imds": IMDS_PATHS, "container": CONTAINER_PATHS, "ops": OPS_PATHS}
    return [
        url + path for surface in paths for url in endpoints[surface] for path in paths[surface]
    ]


def rebound(urls: list[str]) -> list[str]:
    """Return the same by names that are the page's owner's."""
    for name, address in NAMES.items():
        urls = [url.replace(f"//{address}:", f"//{name}:") for url in urls]
    return urls


def visited(
    host: MetadataHost, site: HostileSite, targets: list[str], *flags: str, folder: Path
) -> Report:
    """Return what the page reports; nothing of it, nor any 200, may be ours."""
    folder = folder / "browser"
    folder.mkdir()
    report = visit(site, targets, *flags, names=NAMES, folder=folder)
    assert len(report) > len(targets)
    assert [each for each in report if each.get("status") == 200] == []
    assert not any(secret in text_read(report) for secret in secrets_of(host))
    assert host.served() == []
    return report


def text_read(report: Report) -> str:
    return "\n".join(str(each.get("text", "")) for each in report)


def secrets_of(host: MetadataHost) -> set[str]:
    issued = host.sandbox.aws.issued
    ids, keys = (
        {getattr(each, name) for each in issued} for name in ("access_key_id", "secret_access_key")
    )
    return {*ids, *keys, host.token()}


def refused(host: MetadataHost) -> set[tuple[str, str]]:
    return {reason for reason, times in host.refusals().items() if times}


def test_a_page_of_another_site_reads_nothing(
    host: MetadataHost, site: HostileSite, tmp_path: Path
) -> None:
    targets = addresses(host)

    report = visited(host, site, targets + rebound(targets), folder=tmp_path)

    assert not any(each.get("status") for each in report)
    assert refused(host) >= {
        *(("imds", reason) for reason in ("host", "browser", "token-missing")),
        *(("container", reason) for reason in ("host", "browser", "token-missing")),
        *(("ops", reason) for reason in ("host", "browser")),
    }


def test_nor_does_one_whose_name_has_become_our_address(
    host: MetadataHost, site: HostileSite, tmp_path: Path
) -> None:
    """After DNS rebinding the browser shows the page every answer, as it does here."""
    report = visited(host, site, rebound(addresses(host)), *SHOW_ANYTHING, folder=tmp_path)

    assert {each["status"] for each in report if each.get("status")} == {401, 403}
    assert refused(host) >= {("imds", "host"), ("container", "host"), ("ops", "host")}


def test_a_service_that_has_no_guard_would_be_read_by_that_page(
    host: MetadataHost, site: HostileSite, tmp_path: Path
) -> None:
    """What makes the tests above worth something."""
    (tmp_path / "browser").mkdir()
    with hostile_site() as unguarded:
        report = visit(
            site,
            [f"http://evil.test:{unguarded.port}/any"],
            *SHOW_ANYTHING,
            names=NAMES,
            folder=tmp_path / "browser",
        )

    read = {each["way"] for each in report if "open" in str(each.get("text"))}
    assert read >= {"fetch", "fetch, quietly", "PUT", "iframe", "form GET", "form POST"}
