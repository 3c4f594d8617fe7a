"""Containers of a real Docker engine, known by address or by id.

By address where they have a network of their own, by id where they are in the host's.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.root.docker_engine import DockerEngine, docker_engine
from tests.root.metadata_host import BOTO3, MetadataHost, as_user, ask, metadata_host, role_of
from tests.root.own_network import IMDS, own_network
from tests.support.clients import Ran, run
from tests.support.proof import Arrivals

BRIDGE = "172.17.0.1"
BRIDGED = "172.17.0.0/16"
OTHER_NETWORK, OTHERS = "other", "172.30.0.0/24"
ON_THE_BRIDGE = f"http://{BRIDGE}/"
EVERYWHERE = (f"{IMDS}:80", f"{BRIDGE}:80")

ROOT_ONLY = """
[[rules]]
who = { uid = 0 }
roles = ["audit"]
"""
PAGE = (Path(__file__).parents[2] / "docs/sidecar.md").read_text()
RECIPE = re.findall(r"^```toml\n(\[imds\].*?)^```", PAGE, re.DOTALL | re.MULTILINE)[0]
BY_ADDRESS = RECIPE[RECIPE.index("[[rules]]") :]
"""The rule of the documented recipe, which is about this network and these addresses."""


def test_the_recipe_is_about_the_bridge() -> None:
    recipe = tomllib.loads(RECIPE)

    assert tuple(recipe["imds"]["listen"]) == EVERYWHERE
    assert recipe["rules"][0]["who"] == {"cidr": BRIDGED}
    assert f"AWS_EC2_METADATA_SERVICE_ENDPOINT={ON_THE_BRIDGE} " in PAGE


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerEngine]:
    with own_network(), docker_engine(tmp_path_factory.mktemp("docker")) as engine:
        engine.done("network", "create", f"--subnet={OTHERS}", OTHER_NETWORK)
        yield engine


@pytest.fixture(scope="module")
def sandbox(engine: DockerEngine) -> Iterator[Sandbox]:
    """It listens on the bridge too, so that containers can reach AWS."""
    with sandbox_in_thread(host="0.0.0.0", advertised_host="127.0.0.1") as sandbox:
        yield sandbox


@pytest.fixture
def arrivals(sandbox: Sandbox) -> Arrivals:
    return Arrivals(sandbox)


def known_in_container(host: MetadataHost, imds: str) -> dict[str, str]:
    """Return the environment of a program in a container: where AWS is, and where IMDS is."""
    told = {**host.bare_environment(), "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds}
    return told | {"AWS_ENDPOINT_URL": told["AWS_ENDPOINT_URL"].replace("127.0.0.1", BRIDGE)}


def boto3_in_container(
    engine: DockerEngine, host: MetadataHost, *, network: str = "bridge", imds: str = ON_THE_BRIDGE
) -> Ran:
    environ = known_in_container(host, imds)
    return engine.run(*BOTO3, network=network, environ=environ)


def is_answered(engine: DockerEngine, address: str) -> bool:
    """Return whether a bridged container gets any answer from IMDS at that address."""
    asking = ("curl", "--silent", "--max-time", "3", f"http://{address}/")
    return engine.run(*asking, network="bridge", environ={}).code == 0


def test_without_a_rule_for_the_network_a_container_reaches_no_metadata_address(
    engine: DockerEngine, sandbox: Sandbox, tmp_path: Path
) -> None:
    with metadata_host(sandbox, tmp_path, rules=ROOT_ONLY, imds=EVERYWHERE):
        assert ask(0, f"http://{IMDS}/latest/meta-data/")[0] == 401
        assert not is_answered(engine, IMDS)
        assert is_answered(engine, BRIDGE)


def test_without_a_rule_for_it_a_container_finds_no_credentials_on_the_bridge_either(
    engine: DockerEngine, sandbox: Sandbox, arrivals: Arrivals, tmp_path: Path
) -> None:
    """Nor does its root pass for root of the host."""
    with metadata_host(sandbox, tmp_path, rules=ROOT_ONLY, imds=EVERYWHERE) as host:
        ran = boto3_in_container(engine, host)

    assert "NoCredentialsError" in ran.errors
    assert arrivals.calls == []


@pytest.mark.parametrize("imds", [ON_THE_BRIDGE, f"http://{IMDS}/"])
def test_a_rule_for_its_network_gives_a_container_its_role(
    engine: DockerEngine, sandbox: Sandbox, arrivals: Arrivals, tmp_path: Path, imds: str
) -> None:
    with metadata_host(sandbox, tmp_path, rules=BY_ADDRESS, imds=EVERYWHERE) as host:
        ran = boto3_in_container(engine, host, imds=imds)

    assert role_of(ran) == "deploy"
    assert arrivals.served("GetCallerIdentity")


def test_a_container_in_another_network_finds_nothing_and_neither_does_the_host(
    engine: DockerEngine, sandbox: Sandbox, arrivals: Arrivals, tmp_path: Path
) -> None:
    with metadata_host(sandbox, tmp_path, rules=BY_ADDRESS, imds=EVERYWHERE) as host:
        of_others = boto3_in_container(engine, host, network=OTHER_NETWORK)
        of_host = host.boto3_as(0)

    assert "NoCredentialsError" in of_others.errors
    assert "NoCredentialsError" in of_host.errors
    assert arrivals.calls == []


def test_a_container_in_the_hosts_network_is_known_by_its_id(
    engine: DockerEngine, sandbox: Sandbox, arrivals: Arrivals, tmp_path: Path
) -> None:
    environ = {"PATH": "/usr/bin:/bin", **sandbox.client_environment()}
    named, unnamed = (engine.create(*BOTO3, network="host", environ=environ) for _ in range(2))
    rules = f'[[rules]]\nwho = {{ container = "{named[:12]}" }}\nroles = ["backup"]\n'

    with metadata_host(sandbox, tmp_path, rules=rules):
        of_named, of_unnamed = engine.start(named), engine.start(unnamed)

    assert role_of(of_named) == "backup"
    assert "NoCredentialsError" in of_unnamed.errors
    assert arrivals.served("GetCallerIdentity")


def test_the_recipe_of_env_serves_a_container_of_any_user(
    engine: DockerEngine, sandbox: Sandbox, arrivals: Arrivals, tmp_path: Path
) -> None:
    """As `env --for docker` prints it: with --network host and --env-file."""
    with metadata_host(sandbox, tmp_path) as host:
        ask_env = (sys.executable, "-m", "broker", "env", "--for", "docker")
        known = {
            "PATH": "/usr/bin:/bin",
            "NAMESPACE_BROKER_RUNTIME_DIR": str(host.broker.runtime_dir),
        }
        file = tmp_path / "broker.env"
        file.write_text(run(*ask_env, environ=known).output)

        for program in (BOTO3, ("/usr/bin/env", *as_user(10001, *BOTO3))):
            container = engine.create(
                *program,
                network="host",
                environ=sandbox.client_environment(),
                options=(f"--env-file={file}", "--cap-add=DAC_READ_SEARCH"),
            )
            assert role_of(engine.start(container)) == "deploy", program

    assert arrivals.served("GetCallerIdentity")
