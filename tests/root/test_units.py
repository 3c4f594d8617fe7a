"""Callers by unit and container: real cgroups, some of them made by who wants to be another."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.root.stage import (
    AS_4242,
    RUN,
    caller_seen,
    cgroup,
    cgroup_root,
    go,
    line_from,
    said,
    started,
)

ID = "0123456789abcdef" * 4
UNIT = "broker-test-5.service"
MANAGER = "user.slice/user-4242.slice/user@4242.service"
PYTHON = os.path.realpath(sys.executable)


def place_seen(seen: dict[str, Any]) -> tuple[str | None, str | None, str | None]:
    return seen["unit"], seen["user_unit"], seen["container"]


@pytest.mark.parametrize("probe", [(), AS_4242], ids=["by root", "by an ordinary user"])
def test_a_process_is_known_by_the_unit_that_it_runs_in(probe: tuple[str, ...]) -> None:
    with cgroup(f"system.slice/{UNIT}") as place:
        seen = caller_seen(probe=probe, client=(f"--cgroup={place}", "--uid=4243"))

    assert seen["uid"] == 4243
    assert place_seen(seen) == (UNIT, None, None)


def test_it_is_known_by_it_on_the_control_socket_too(tmp_path: Path) -> None:
    with cgroup(f"system.slice/{UNIT}") as place:
        seen = caller_seen(client=(f"--cgroup={place}",), address=str(tmp_path / "broker.sock"))

    assert place_seen(seen) == (UNIT, None, None)


def test_who_has_ended_is_in_no_unit_whatever_has_its_pid_now(tmp_path: Path) -> None:
    address = str(tmp_path / "broker.sock")
    probing = [*RUN, "tests.root.probe", "--when-told", address, "0"]
    with cgroup(f"system.slice/{UNIT}") as place, started(probing) as server:
        port = line_from(server)
        asking = [*RUN, "tests.root.client", "--hang-up", f"--cgroup={place}", address, port, "0"]
        with started(asking) as process:
            go(process)
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # its pid is still taken
            go(server)
            seen = said(server)

    assert seen["pid"] is not None
    assert place_seen(seen) == (None, None, None)


def test_a_container_is_known_by_its_id_also_where_it_has_cgroups_of_its_own() -> None:
    with cgroup(f"system.slice/docker-{ID}.scope/system.slice/ssh.service") as place:
        seen = caller_seen(client=(f"--cgroup={place}",))

    assert place_seen(seen) == (f"docker-{ID}.scope", None, ID)


@pytest.mark.parametrize(
    "name", ["lxc.payload.web", "lxc.payload.web.slice", "lxc.payload.ssh.service"]
)
def test_an_lxc_container_is_in_no_unit_whatever_its_name_and_its_inside_say(name: str) -> None:
    with cgroup(f"{name}/system.slice/ssh.service") as place:
        seen = caller_seen(client=(f"--cgroup={place}",))

    assert place_seen(seen) == (None, None, None)
    assert seen["is_located"]


def seen_in_cgroup_of_own(name: str, *, uid: int = 4242) -> dict[str, Any]:
    """Return how a process looks that user 4242 has put in a cgroup of its own making."""
    with cgroup(MANAGER, owner=4242) as manager:
        own = manager / name
        as_user = (f"--cgroup={manager}", f"--cgroup-of-own={own}", f"--uid={uid}")
        return caller_seen(client=as_user)


def test_a_unit_of_a_users_own_counts_as_that_and_no_more() -> None:
    seen = seen_in_cgroup_of_own("app.slice/mine.service")

    assert place_seen(seen) == ("user@4242.service", "mine.service", None)


@pytest.mark.parametrize(
    "forged",
    [
        "system.slice/ssh.service",
        f"system.slice/docker-{ID}.scope",
        f"docker/{ID}",
        f"machine.slice/libpod-{ID}.scope",
        f"kubepods.slice/cri-containerd-{ID}.scope",
        "user.slice/user-0.slice/user@0.service/app.slice/root.service",
        "..system.slice/ssh.service",
    ],
)
def test_a_name_that_a_user_chose_makes_nobody_else_of_it(forged: str) -> None:
    seen = seen_in_cgroup_of_own(forged)

    unit, _, container = place_seen(seen)
    assert (seen["uid"], unit, container) == (4242, "user@4242.service", None)


def test_root_in_a_users_session_is_not_known_by_names_of_that_user() -> None:
    seen = seen_in_cgroup_of_own("app.slice/mine.service", uid=0)

    assert seen["uid"] == 0
    assert place_seen(seen) == ("user@4242.service", None, None)


def test_a_broker_that_sees_a_part_of_the_tree_believes_no_path_in_it() -> None:
    """As in a container, whose root may hold a forged tree."""
    with cgroup("broker-test/system.slice/ssh.service") as forged:
        top = cgroup_root() / "broker-test"
        into_container = (
            f"echo $$ > {top}/cgroup.procs && "
            "exec unshare --cgroup --mount sh -c '"
            f"umount -l {cgroup_root()} && "
            f'mount -t cgroup2 none {cgroup_root()} && exec "$@"'
            '\' - "$@"'
        )
        seen = caller_seen(
            here=["sh", "-c", into_container, "-"], client=(f"--cgroup={forged}", *AS_4242)
        )

    assert (seen["uid"], seen["cgroup_id"] is None) == (4242, False)
    assert place_seen(seen) == (None, None, None)


def test_root_can_tell_which_program_asks() -> None:
    with cgroup(f"system.slice/{UNIT}") as place:
        seen = caller_seen(client=(f"--cgroup={place}", *AS_4242))

    assert seen["behind"]["exe"] == PYTHON
    assert seen["behind"]["pid"] is not None


def test_an_ordinary_user_cannot_tell_another_users_program() -> None:
    seen = caller_seen(probe=AS_4242, client=("--uid=4243",))

    assert seen["uid"] == 4243
    assert seen["behind"] == {"pid": None, "exe": None}


def test_a_program_in_a_root_directory_of_its_own_is_not_known_by_its_path(tmp_path: Path) -> None:
    """There anything may be called /usr/bin/aws."""
    copied = f"cp {PYTHON} {tmp_path}/python && mount --bind {tmp_path}/python {PYTHON}"
    there = ["unshare", "--mount", "sh", "-c", f'{copied} && exec "$@"', "-"]

    seen = caller_seen(there=there)

    assert seen["behind"]["pid"] is not None
    assert seen["behind"]["exe"] is None
