"""Callers that only root can play: other users, other networks. Run by CI, by name."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RUN = (sys.executable, "-m")
SOURCE_PORT = 40123
AS_4242 = ("--uid=4242",)
IN_USER_NAMESPACE = ("--user-namespace",)
IN_NETWORK = ("unshare", "--net")

Process = subprocess.Popen[str]


@contextmanager
def started(command: Sequence[str]) -> Iterator[Process]:
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line_from(process: Process) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, "the process has failed; it says why above"
    return line


def go(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def caller_seen(
    *,
    probe: Sequence[str] = (),
    client: Sequence[str] = (),
    address: str = "127.0.0.1",
    bystander: int = 0,
    source_port: int = 0,
    here: Sequence[str] = (),
    there: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what a probe says of a client: each with options of its own, each by way of a command
    that takes it *here* or *there*."""
    probing = [*here, *RUN, "tests.root.probe", *probe, address, str(bystander)]
    with started(probing) as server:
        port = line_from(server)
        asking = [*there, *RUN, "tests.root.client", *client, address, port, str(source_port)]
        with started(asking) as process:
            go(process)
            seen: dict[str, Any] = json.loads(line_from(server))
    return seen


def test_another_user_is_known_by_uid_and_cgroup() -> None:
    seen = caller_seen(client=AS_4242)

    assert (seen["uid"], seen["address"]) == (4242, "127.0.0.1")


def test_an_ordinary_user_may_ask_about_root() -> None:
    assert caller_seen(probe=AS_4242)["uid"] == 0


def test_a_process_in_a_user_namespace_shows_the_uid_that_it_has_outside() -> None:
    assert caller_seen(client=(*AS_4242, *IN_USER_NAMESPACE))["uid"] == 4242


def test_a_uid_without_a_place_in_our_user_namespace_is_unknown_not_nobody() -> None:
    assert caller_seen(probe=IN_USER_NAMESPACE, client=AS_4242)["uid"] is None


def test_a_uid_with_a_place_in_our_user_namespace_is_known_by_its_name_there() -> None:
    assert caller_seen(probe=(*AS_4242, *IN_USER_NAMESPACE), client=AS_4242)["uid"] == 0


@contextmanager
def two_networks() -> Iterator[tuple[list[str], list[str]]]:
    """Yield how to enter each of two network namespaces: 192.0.2.1 here, 192.0.2.2 there."""
    waiting = [*IN_NETWORK, sys.executable, "-c", "print(1, flush=True); input()"]
    with started(waiting) as first, started(waiting) as second:
        for process in (first, second):
            line_from(process)  # it is in its namespace when it speaks
        here, there = _way_into(first), _way_into(second)
        link = f"ip link add left type veth peer name right netns {second.pid}"
        for way, command in (
            (here, link),
            (here, "ip address add 192.0.2.1/24 dev left"),
            (there, "ip address add 192.0.2.2/24 dev right"),
            (here, "ip link set left up"),
            (there, "ip link set right up"),
        ):
            subprocess.run([*way, *command.split()], check=True)
        yield here, there


def _way_into(process: Process) -> list[str]:
    return ["nsenter", f"--target={process.pid}", "--net"]


def test_a_client_in_another_network_namespace_is_only_an_address() -> None:
    with two_networks() as (here, there):
        seen = caller_seen(address="192.0.2.1", here=here, there=there)

    assert (seen["uid"], seen["cgroup_id"], seen["address"]) == (None, None, "192.0.2.2")


def test_it_is_not_taken_for_a_bystander_that_listens_on_the_same_port_here() -> None:
    with two_networks() as (here, there):
        seen = caller_seen(
            address="192.0.2.1",
            here=here,
            there=there,
            source_port=SOURCE_PORT,
            bystander=SOURCE_PORT,
        )

    assert (seen["uid"], seen["cgroup_id"]) == (None, None)
