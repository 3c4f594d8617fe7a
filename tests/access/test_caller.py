"""What a caller is bound to and counted by."""

from dataclasses import replace
from pathlib import Path

import pytest

from broker.access.caller import Caller, unmapped_id
from tests.support.access import ALICE, CONTAINER, NEIGHBOUR, ROOT


@pytest.mark.parametrize(
    ("caller", "binding"),
    [
        pytest.param(Caller(uid=1000), "uid=1000", id="a user"),
        pytest.param(ALICE, "uid=1000 unit=session-3.scope", id="in a unit"),
        pytest.param(
            replace(ALICE, unit="user@1000.service", user_unit="app.scope"),
            "uid=1000 user_unit=app.scope",
            id="in a user unit",
        ),
        pytest.param(
            replace(ROOT, unit=f"docker-{CONTAINER}.scope", container=CONTAINER),
            f"uid=0 container={CONTAINER}",
            id="in a container",
        ),
        pytest.param(NEIGHBOUR, "address=172.17.0.2", id="from elsewhere"),
    ],
)
def test_a_session_token_is_bound_to_user_and_place(caller: Caller, binding: str) -> None:
    assert caller.binding == binding


def test_it_is_not_bound_to_a_connection() -> None:
    another = replace(ALICE, pid=4711, inode=99, cgroup_id=3, address="::1", token="ci")

    assert another.binding == ALICE.binding


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(ALICE, replace(ALICE, user_unit="mine.scope"), id="a unit of one's own"),
        pytest.param(ALICE, replace(ALICE, address="::1"), id="by another address of this host"),
        pytest.param(
            Caller(address="2001:db8::1", is_remote=True),
            Caller(address="2001:db8::ffff:2", is_remote=True),
            id="another address of the same network",
        ),
    ],
)
def test_what_a_caller_can_have_many_of_is_counted_together(one: Caller, other: Caller) -> None:
    assert one.limit_key == other.limit_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(ALICE, ROOT, id="users"),
        pytest.param(ALICE, NEIGHBOUR, id="a neighbour"),
        pytest.param(NEIGHBOUR, replace(NEIGHBOUR, address="172.17.0.3"), id="two neighbours"),
        pytest.param(
            Caller(address="2001:db8::1", is_remote=True),
            Caller(address="2001:db8:0:1::1", is_remote=True),
            id="two networks",
        ),
    ],
)
def test_others_are_counted_by_themselves(one: Caller, other: Caller) -> None:
    assert one.limit_key != other.limit_key


def test_nothing_of_one_user_is_left_in_another() -> None:
    relay = replace(ROOT, gid=0, pid=1, container=CONTAINER, cgroup_id=4, token="ci")

    assert relay.as_user(1000) == Caller(
        uid=1000, is_located=False, address="127.0.0.1", token="ci"
    )
    assert relay.as_user(0) == relay


@pytest.mark.parametrize(
    ("uid_map", "overflow", "unmapped"),
    [
        pytest.param("0 0 4294967295", "65534", None, id="every id is mapped"),
        pytest.param("0 1000 1", "65534", 65534, id="one id is mapped"),
        pytest.param("0 1000 1\n1 100000 65536", "65534", 65534, id="a container's"),
        pytest.param("0 1000 1", "4294967294", 4294967294, id="another overflow uid"),
    ],
)
def test_the_number_of_unmapped_ids_is_the_hosts_and_otherwise_a_user(
    tmp_path: Path, uid_map: str, overflow: str, unmapped: int | None
) -> None:
    for name, text in (("self/uid_map", uid_map), ("sys/kernel/overflowuid", overflow)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text + "\n")

    assert unmapped_id(tmp_path) == unmapped


def test_where_the_map_cannot_be_read_the_usual_number_is_unknown(tmp_path: Path) -> None:
    assert unmapped_id(tmp_path) == 65534
