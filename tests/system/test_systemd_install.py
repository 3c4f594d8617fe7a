"""`install` and `uninstall` on a machine that boots systemd, as its administrator types them."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.system.machine import Machine
from tests.system.program import AWS, COMMAND, OTHER_COMMAND
from tests.system.stage import (
    CLIENT_ENVIRONMENT,
    ROLE_ARN,
    TOKEN_FILE,
    asked_by,
    fresh_token,
    install,
)

CONFIG = "/etc/namespace-broker/config.toml"
SERVICE, SOCKET = "namespace-broker.service", "namespace-broker.socket"
UNITS = "/etc/systemd/system"
ANSWERING = ("python3", "-m", "http.server", "--bind", "169.254.169.254", "80")


def files_of(machine: Machine) -> dict[str, tuple[str, int]]:
    """Return the content and time of every file where an installation has any business."""
    found: dict[str, tuple[str, int]] = {}
    for folder in ("/etc", "/run/namespace-broker", "/var/lib/private", "/var/log/private"):
        for path in sorted(machine.path(folder).rglob("*namespace-broker*")):
            for file in [path, *path.rglob("*")]:
                name = str(file).removeprefix(str(machine.path("/")))
                if file.is_symlink():
                    found[name] = str(file.readlink()), 0
                elif file.is_file():
                    found[name] = file.read_text(errors="replace"), file.stat().st_mtime_ns
    return found


@contextmanager
def answering(machine: Machine) -> Iterator[None]:
    """Have somebody else answer at EC2's address for the block."""
    machine.run("ip", "address", "add", "169.254.169.254/32", "dev", "lo")
    machine.run("systemd-run", "--unit=other", *ANSWERING)
    machine.until(
        lambda: machine.run("curl", "--silent", "169.254.169.254", check=False).stdout,
        what="the other one's answer",
    )
    yield
    machine.systemctl("stop", "other")


@contextmanager
def listening_on(machine: Machine, port: str) -> Iterator[None]:
    """Have somebody else listen on a port of every address for the block."""
    machine.run("systemd-run", "--unit=other", "python3", "-m", "http.server", port)
    machine.until(
        lambda: machine.run("curl", "--silent", f"127.0.0.1:{port}", check=False).stdout,
        what="the other one on our port",
    )
    yield
    machine.systemctl("stop", "other")


def test_an_ordinary_users_programs_find_credentials_with_nothing_configured(
    machine: Machine,
) -> None:
    done = install(machine)

    assert 'who = { user = "alice" }' in done.stdout
    assert "as alice:  aws sts get-caller-identity" in done.stdout
    assert "assumed-role/deploy" in asked_by(machine, "alice").stdout
    typed = shlex.split(done.stdout.strip().splitlines()[-1].partition(":  ")[2])
    said = machine.run_as("alice", AWS, *typed[1:], environ=CLIENT_ENVIRONMENT).stdout
    assert "assumed-role/deploy" in said


def test_whom_no_rule_names_gets_nothing(machine: Machine) -> None:
    install(machine)

    refused = asked_by(machine, "bob")

    assert refused.returncode != 0
    assert "NoCredentialsError" in refused.stderr


def test_any_local_is_every_user(machine: Machine) -> None:
    done = install(machine, "--role-arn", ROLE_ARN, "--allow", "any-local", "--region", "us-east-1")

    assert "any_local = true" in done.stdout
    assert "assumed-role/deploy" in asked_by(machine, "bob").stdout


def test_a_second_time_changes_nothing_and_says_so(machine: Machine) -> None:
    install(machine)
    before, pid = files_of(machine), machine.shows(SERVICE, "MainPID")

    done = install(machine)

    assert "nothing was changed" in done.stderr
    assert "Ready." in done.stdout
    assert (files_of(machine), machine.shows(SERVICE, "MainPID")) == (before, pid)


def test_other_flags_change_what_they_say_and_no_more(machine: Machine) -> None:
    install(machine)

    done = install(machine, "--role-arn", ROLE_ARN, "--allow", "user:bob", "--region", "us-east-1")

    assert [line for line in done.stderr.splitlines() if "wrote" in line] == [
        f"namespace-broker: wrote {CONFIG}"
    ]
    assert "assumed-role/deploy" in asked_by(machine, "bob").stdout
    assert asked_by(machine, "alice").returncode != 0


def test_what_the_administrator_edited_stays(machine: Machine) -> None:
    install(machine)
    edited = machine.path(CONFIG).read_text() + "# mine\n"
    machine.write(CONFIG, edited)

    again = install(machine)
    other = install(
        machine, "--role-arn", ROLE_ARN, "--allow", "user:bob", "--region", "us-east-1", check=False
    )

    *difference, refusal = other.stderr.splitlines()
    assert "was edited and stays as it is" in again.stderr
    assert other.returncode == 1
    assert '+who = { user = "bob" }' in difference
    assert refusal.startswith(f"namespace-broker: {CONFIG}: was edited, so it is not replaced; ")
    assert machine.path(CONFIG).read_text() == edited


def test_a_token_elsewhere_and_a_token_spec_are_handed_over(machine: Machine) -> None:
    usual = ("--role-arn", ROLE_ARN, "--allow", "user:alice", "--region", "us-east-1")
    machine.write("/etc/nsc/my token.json", fresh_token(machine), mode=0o600)
    spec = machine.journal("sandbox").partition('"token_spec":"')[2].partition('"')[0]
    machine.write("/etc/nsc/spec", f"{spec}\n", mode=0o600)
    machine.path(TOKEN_FILE).unlink()

    install(machine, *usual, "--token-file", "/etc/nsc/my token.json")
    by_file = asked_by(machine, "alice")
    install(machine, *usual, "--token-spec", "/etc/nsc/spec")
    by_spec = asked_by(machine, "alice")

    assert "assumed-role/deploy" in by_file.stdout
    assert "assumed-role/deploy" in by_spec.stdout
    assert machine.systemctl("is-enabled", "namespace-broker-token.path", check=False) == "disabled"


def test_a_program_that_no_package_brought_brings_its_units(machine: Machine) -> None:
    machine.run("dpkg", "--purge", "namespace-broker")
    usual = ("--role-arn", ROLE_ARN, "--allow", "user:alice", "--region", "us-east-1")

    machine.run(OTHER_COMMAND, "install", *usual)
    by_it = asked_by(machine, "alice")
    machine.run(OTHER_COMMAND, "uninstall", "--purge")

    assert "assumed-role/deploy" in by_it.stdout
    units = {path.name for path in machine.path(UNITS).glob("namespace-broker*")}
    assert units == {"namespace-broker.service.d"}  # where the tests say which clouds to ask


def test_where_something_answers_at_the_address_nothing_is_installed(machine: Machine) -> None:
    before = files_of(machine)

    with answering(machine):
        done = install(machine, check=False)

    assert done.returncode == 1
    assert "169.254.169.254: answers already" in done.stderr.splitlines()[-1]
    assert files_of(machine) == before
    for unit in (SERVICE, "namespace-broker.socket"):
        assert machine.systemctl("is-enabled", unit, check=False) == "disabled"
        assert machine.systemctl("is-active", unit, check=False) == "inactive"


def test_where_it_begins_to_answer_later_the_units_leave_the_address_alone(
    machine: Machine,
) -> None:
    install(machine)
    machine.systemctl("stop", "namespace-broker.socket", "namespace-broker-address.service")
    assert "169.254.169.254" not in machine.run("ip", "address").stdout

    with answering(machine):
        started = machine.run("systemctl", "start", "namespace-broker.socket", check=False)

        assert started.returncode != 0
        assert "answers already" in machine.journal("namespace-broker-address.service")
        assert "SimpleHTTP" in machine.run("curl", "-si", "169.254.169.254").stdout
    machine.run("systemctl", "stop", "namespace-broker*")
    assert "169.254.169.254" in machine.run("ip", "address").stdout  # it was not ours


def test_a_start_that_fails_is_taken_back(machine: Machine) -> None:
    before = files_of(machine)

    with listening_on(machine, "8170"):
        done = install(machine, check=False)

    assert done.returncode == 1
    assert "failed and was undone" in done.stderr.splitlines()[-1]
    assert files_of(machine) == before
    assert "169.254.169.254" not in machine.run("ip", "address").stdout
    assert install(machine).returncode == 0


def test_the_reason_of_a_failed_install_is_the_one_of_this_attempt(machine: Machine) -> None:
    with listening_on(machine, "8170"):
        first = install(machine, check=False)
    with listening_on(machine, "80"):
        second = install(machine, check=False)

    assert (first.returncode, second.returncode) == (1, 1)
    for done, address, other in (
        (first, "127.0.0.1:8170", "169.254.169.254"),
        (second, "169.254.169.254:80", "127.0.0.1:8170"),
    ):
        (reason,) = done.stderr.strip().splitlines()[-1:]
        assert "failed and was undone" in reason
        assert f"{address}" in reason
        assert "Address already in use" in reason
        assert other not in reason


def test_a_refused_lease_is_an_error_in_the_journal(machine: Machine) -> None:
    refused = ROLE_ARN.replace("deploy", "nosuch")
    usual = ("--allow", "user:alice", "--region", "us-east-1")

    done = install(machine, "--role-arn", refused, *usual, check=False)

    errors = machine.run("journalctl", "--quiet", "--output=cat", "-p", "err", "-u", SERVICE).stdout
    assert done.returncode == 1
    assert "lease.refused" in errors
    assert refused in errors
    assert "daemon.ready" not in errors


def test_the_target_stops_serving_until_it_is_started(machine: Machine) -> None:
    install(machine)

    machine.systemctl("stop", "namespace-broker.target")
    stopped = asked_by(machine, "alice")
    states = {unit: machine.systemctl("is-active", unit, check=False) for unit in (SERVICE, SOCKET)}
    machine.systemctl("start", "namespace-broker.target")

    assert "NoCredentialsError" in stopped.stderr
    assert states == {SERVICE: "inactive", SOCKET: "inactive"}
    assert "assumed-role/deploy" in asked_by(machine, "alice").stdout


def test_uninstall_leaves_the_configuration_and_purge_leaves_nothing(machine: Machine) -> None:
    before = files_of(machine)
    install(machine)

    kept = machine.run(COMMAND, "uninstall")
    left = {name for name in files_of(machine) if name not in before}
    install(machine)
    machine.run(COMMAND, "uninstall", "--purge")

    assert f"Kept: {CONFIG}" in kept.stdout
    assert not [name for name in left if name.startswith(UNITS)]
    assert CONFIG in left
    assert files_of(machine) == before
    assert "169.254.169.254" not in machine.run("ip", "address").stdout
    assert asked_by(machine, "alice").returncode != 0
    for folder in (
        "/run/namespace-broker",
        "/run/namespace-broker-private",
        str(Path(CONFIG).parent),
    ):
        assert not machine.path(folder).exists()
    for folder in ("/var/lib/namespace-broker", "/var/log/namespace-broker"):
        assert not machine.path(folder).is_symlink()
