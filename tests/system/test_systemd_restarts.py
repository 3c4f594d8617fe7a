"""No request is lost while boto3 asks, with its limit of one second and its one attempt.

The service is restarted, killed, upgraded, cut off and reloaded meanwhile.
"""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.system.machine import Machine
from tests.system.package import changed, dpkg, installed, package
from tests.system.program import COMMAND
from tests.system.stage import (
    TOKEN_FILE,
    Load,
    asked_by,
    copy_in_service,
    fresh_token,
    load,
    status,
)

SERVICE = "namespace-broker.service"
RESTARTS, KILLS, ROTATIONS = 50, 5, 40

Tell = Callable[[str], None]


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Print a line for the record, captured or not."""

    def told(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end=" ")

    return told


def asks(told: list[Load]) -> str:
    longest_ms = max(each.longest_s for each in told) * 1000
    failed = sum(len(each.failed_at) for each in told)
    return (
        f"{sum(each.asked for each in told)} asks: the longest took {longest_ms:.0f} ms, "
        f"{failed} failed"
    )


def is_serving(machine: Machine) -> None:
    """Wait until somebody who came after the restart is answered."""
    url = "http://169.254.169.254/latest/api/token"
    header = "X-aws-ec2-metadata-token-ttl-seconds: 60"
    machine.run("curl", "--silent", "--fail", "--request", "PUT", "--header", header, url)


def main_pid(machine: Machine) -> int:
    return int(machine.shows(SERVICE, "MainPID"))


def test_fifty_restarts_cost_nobody_a_request(service: Machine, tell: Tell) -> None:
    with load(service) as told:
        for _ in range(RESTARTS):
            service.systemctl("restart", SERVICE)
            is_serving(service)

    tell(f"{RESTARTS} restarts, {asks(told)}")
    assert [each.failed_at for each in told] == [(), ()]
    assert all(each.asked > RESTARTS for each in told)


def test_after_a_kill_it_is_there_again_and_only_what_was_under_way_is_lost(
    service: Machine, tell: Tell
) -> None:
    with load(service) as told:
        for _ in range(KILLS):
            killed = main_pid(service)
            service.systemctl("kill", "--kill-who=main", "--signal=KILL", SERVICE)
            service.until(
                lambda killed=killed: (
                    main_pid(service) not in (0, killed)  # type: ignore[misc]
                    and service.shows(SERVICE, "ActiveState") == "active"
                ),
                what="the next process",
            )

    tell(f"{KILLS} kills, {asks(told)}")
    assert sum(len(each.failed_at) for each in told) <= KILLS * len(told)
    assert asked_by(service, "alice").returncode == 0


def test_an_upgrade_of_the_package_loses_no_request(
    service: Machine, tell: Tell, tmp_path: Path
) -> None:
    """Of a program that is another, byte code and all, while dpkg puts it in place of the old."""
    newer = changed(package(), tmp_path, version="9.0")
    pid, before = main_pid(service), names_of_leases(service)
    with load(service) as told:
        installed(service, newer)
        is_serving(service)

    tell(f"one upgrade, {asks(told)}")
    assert [each.failed_at for each in told] == [(), ()]
    assert main_pid(service) not in (0, pid)
    assert status(service)["version"] == "9.0"
    assert service.run(COMMAND, "--version").stdout == f"{COMMAND} 9.0\n"
    assert dpkg(service, "--verify", COMMAND) == ""
    ready = last_told(service, "daemon.ready")
    assert ready["version"] == "9.0"
    assert sorted(ready["restored"]) == before == ["identity/default", "role/deploy"]


def names_of_leases(machine: Machine) -> list[str]:
    return sorted(lease["name"] for lease in status(machine)["leases"])


def last_told(machine: Machine, event: str) -> Mapping[str, Any]:
    """Return the service's last line in the journal of that event."""
    words = ("--no-pager", "--output=cat", f"--unit={SERVICE}", f"--grep={event}", "--lines=1")
    told: Mapping[str, Any] = json.loads(machine.run("journalctl", *words).stdout)
    return told


def test_a_restart_during_an_outage_keeps_serving(service: Machine) -> None:
    service.systemctl("stop", "sandbox")
    before = keys_of(service)
    try:
        with load(service) as told:
            service.systemctl("restart", SERVICE)

        assert [each.failed_at for each in told] == [(), ()]
        assert keys_of(service) == before
    finally:
        service.systemctl("start", "sandbox")


def keys_of(machine: Machine) -> str:
    said = machine.run_as("alice", COMMAND, "credential-process").stdout
    return str(json.loads(said)["AccessKeyId"])


def test_whoever_connects_to_a_stopped_service_starts_it(service: Machine) -> None:
    service.systemctl("stop", SERVICE)

    assert service.run_as("alice", COMMAND, "wait", "--timeout", "10").returncode == 0
    assert service.shows(SERVICE, "ActiveState") == "active"


def test_it_takes_over_what_an_earlier_uid_of_its_own_left(service: Machine) -> None:
    service.systemctl("stop", SERVICE)
    for folder in ("/run/namespace-broker", "/var/lib/private/namespace-broker"):
        service.run("chown", "-R", "61999:61999", folder)

    service.systemctl("start", SERVICE)

    service.run(COMMAND, "wait", "--timeout", "10")
    assert asked_by(service, "alice").returncode == 0


def test_a_reload_is_taken_and_a_bad_one_refused_while_everybody_is_served(
    service: Machine,
) -> None:
    config = "/etc/namespace-broker/config.toml"
    good = service.path(config).read_text()
    pid = main_pid(service)
    with load(service) as told:
        service.write(config, good.replace('user = "alice"', 'group = "alice"'))
        service.systemctl("reload", SERVICE)
        service.until(lambda: "config.reloaded" in service.journal(SERVICE), what="the new one")
        service.write(config, f"{good}\nnonsense = 1\n")
        service.systemctl("reload", SERVICE)
        service.until(lambda: "config.refused" in service.journal(SERVICE), what="the refusal")
        service.write(config, good)
        service.systemctl("reload", SERVICE)

    assert [each.failed_at for each in told] == [(), ()]
    assert main_pid(service) == pid


def test_a_token_that_rotates_all_the_time_reaches_the_service_whole(service: Machine) -> None:
    """By its writer's two ways: another file in its place, and the same file rewritten."""
    copy, source = copy_in_service(service), service.path(TOKEN_FILE)
    torn = 0
    with load(service) as told:
        for turn in range(ROTATIONS):
            rotate(source, fresh_token(service), in_place=turn % 2 == 1)
            torn += not is_whole(copy)
        last = fresh_token(service)
        rotate(source, last, in_place=False)
        service.until(lambda: copy.read_text() == last, what="the last token in the service")

    assert torn == 0
    assert [each.failed_at for each in told] == [(), ()]
    service.until(lambda: is_live(service), what="the new token in use")


def rotate(source: Path, text: str, *, in_place: bool) -> None:
    if in_place:
        with source.open("w") as file:
            for half in (text[: len(text) // 2], text[len(text) // 2 :]):
                file.write(half)
                file.flush()
        return
    draft = source.with_name(".draft")
    draft.write_text(text)
    draft.chmod(0o600)
    draft.replace(source)


def is_whole(copy: Path) -> bool:
    return "bearer_token" in json.loads(copy.read_text())


def is_live(machine: Machine) -> bool:
    leases = {lease["name"]: lease["state"] for lease in status(machine)["leases"]}
    return set(leases.values()) == {"live"}


def test_a_token_that_is_no_file_of_roots_is_not_taken(service: Machine) -> None:
    copy = copy_in_service(service)
    before = copy.read_text()
    service.write("/home/bob/token.json", fresh_token(service), mode=0o644)

    service.run("ln", "--symbolic", "--force", "/home/bob/token.json", TOKEN_FILE)
    service.until(
        lambda: "is a link" in service.journal("namespace-broker-token.service"), what="the refusal"
    )

    assert copy.read_text() == before
    # systemd watched where the link led to, so it is the timer that finds the next token, within a
    # minute; the test is it.
    assert service.systemctl("is-active", "namespace-broker-token.timer") == "active"
    good = fresh_token(service)
    service.write(TOKEN_FILE, good, mode=0o600)
    service.systemctl("start", "namespace-broker-token.service")
    service.until(lambda: copy.read_text() == good, what="the next token")


def test_the_watchdog_ends_a_service_that_hangs(service: Machine) -> None:
    service.write(
        "/run/systemd/system/namespace-broker.service.d/short.conf", "[Service]\nWatchdogSec=1s\n"
    )
    service.systemctl("daemon-reload")
    service.systemctl("restart", SERVICE)
    pid = main_pid(service)
    began_at_s = time.monotonic()

    service.systemctl("kill", "--kill-who=main", "--signal=STOP", SERVICE)

    service.until(lambda: main_pid(service) not in (0, pid), what="the next process")
    assert time.monotonic() - began_at_s < 10
    assert asked_by(service, "alice").returncode == 0
