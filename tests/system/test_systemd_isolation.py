"""What the service may do, and who cannot reach it: measured on the running one."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.machine import Machine, run
from tests.system.program import COMMAND
from tests.system.stage import pid_outside

SERVICE = "namespace-broker.service"
MOST_EXPOSED = 1.5
REACHABLE = Path(__file__).parent / "programs" / "reachable.py"
METADATA = ("169.254.169.254,80", "fd00:ec2::254,80")
WAITING = ("python3", "-c", "print(1, flush=True); input()")


def broker_pid(machine: Machine) -> int:
    return pid_outside(machine, int(machine.shows(SERVICE, "MainPID")))


def status_of(machine: Machine) -> dict[str, str]:
    """Return what the kernel says of the broker's process."""
    lines = Path(f"/proc/{broker_pid(machine)}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_systemd_finds_it_hardly_exposed(
    service: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    table = service.run("systemd-analyze", "security", SERVICE, "--no-pager").stdout
    figure = float(table.partition(f"{SERVICE}: ")[2].split()[0])

    with capsys.disabled():
        print(f"\nsystemd-analyze security: {figure}", end=" ")
    assert figure <= MOST_EXPOSED


def test_it_is_nobody_with_no_power_at_all(service: Machine) -> None:
    said = status_of(service)

    assert 61184 <= int(said["Uid"].split()[0]) <= 65519  # systemd's range of dynamic users
    assert {said[f"Cap{each}"] for each in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2")


def test_it_tells_systemd_how_it_is(service: Machine) -> None:
    assert "leases: 2 live" in service.shows(SERVICE, "StatusText")
    assert int(service.shows(SERVICE, "NFileDescriptorStore")) >= 1


def test_its_secrets_are_read_by_nobody_else(service: Machine) -> None:
    for path in (
        "/var/lib/private/namespace-broker/container-token",
        "/run/namespace-broker-private/identity/token.json",
    ):
        assert service.run("cat", path).returncode == 0
        assert "denied" in service.run_as("alice", "cat", path, check=False).stderr


def test_the_commands_of_ordinary_users_find_it(service: Machine) -> None:
    said = service.run_as("alice", COMMAND, "credential-process").stdout

    assert json.loads(said)["Version"] == 1
    assert service.run_as("bob", COMMAND, "wait", "--timeout", "0").returncode == 0
    assert service.run_as("bob", COMMAND, "credential-process", check=False).returncode == 1


@contextmanager
def neighbour(machine: Machine, *, within: bool) -> Iterator[list[str]]:
    """Yield the command that enters another network namespace, linked to the machine as 192.0.2.1.

    *within*: by a bridge of the machine's own, as containers are; else by a plain link.
    """
    with subprocess.Popen(
        ["unshare", "--net", *WAITING], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        try:
            assert other.stdout is not None
            other.stdout.readline()
            here = machine.into_network()
            there = ["nsenter", f"--target={other.pid}", "--net"]
            for way, command in wiring(here, there, other.pid, within=within):
                run(*way, *command.split())
            yield there
        finally:
            other.kill()
            if within:
                run(*machine.into_network(), "ip", "link", "delete", "cage")


def wiring(
    here: list[str], there: list[str], pid: int, *, within: bool
) -> Iterator[tuple[list[str], str]]:
    yield here, f"ip link add outer type veth peer name inner netns {pid}"
    home = "outer"
    if within:
        yield here, "ip link add cage type bridge"
        yield here, "ip link set outer master cage"
        yield here, "ip link set cage up"
        home = "cage"
        yield here, "sysctl -qw net.ipv4.ip_forward=1"
    yield here, f"ip address add 192.0.2.1/24 dev {home}"
    yield here, f"ip address add 2001:db8::1/64 dev {home} nodad"
    yield here, "ip link set outer up"
    yield there, "ip link set lo up"
    yield there, "ip address add 192.0.2.2/24 dev inner"
    yield there, "ip address add 2001:db8::2/64 dev inner nodad"
    yield there, "ip link set inner up"
    yield there, "ip route add default via 192.0.2.1"
    yield there, "ip route add 169.254.0.0/16 dev inner"
    yield there, "ip -6 route add default via 2001:db8::1"


@pytest.mark.parametrize("within", [False, True], ids=["neighbour", "container"])
def test_from_another_network_nothing_of_it_is_reached(service: Machine, within: bool) -> None:
    ports = ("80", "8170", "8171")
    addresses = ("192.0.2.1", "2001:db8::1", "169.254.169.254", "fd00:ec2::254")
    places = [f"{address},{port}" for address in addresses for port in ports]
    open_to_all = service.run("systemd-run", "--unit=open", "python3", "-m", "http.server", "8000")
    assert open_to_all.returncode == 0
    with neighbour(service, within=within) as there:
        service.until(
            lambda: run(*there, "python3", str(REACHABLE), "192.0.2.1,8000").stdout,
            what="the link to carry anything at all",
        )

        reached = run(*there, "python3", str(REACHABLE), *places).stdout.split()

    service.systemctl("stop", "open")
    assert reached == []
    assert service.run("python3", "/opt/programs/reachable.py", *METADATA).stdout.split() == [
        *METADATA
    ]
