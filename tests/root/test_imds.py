"""Real users, units and networks ask the metadata address by boto3: their own role or nothing."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pwd import getpwnam
from typing import Any

from tests.root.imds_server import ADDRESS
from tests.root.stage import (
    AS_4242,
    ROOT,
    RUN,
    cgroup,
    go,
    line_from,
    started,
    two_networks,
)
from tests.support.fakes import some_credentials

AS_4243 = ("--uid=4243",)
UNIT = "broker-test-6.service"
MANAGER = "user.slice/user-4242.slice/user@4242.service"

DEPLOY, AUDIT, VAULT = (
    some_credentials(name, serial=serial).access_key_id
    for serial, name in enumerate(("deploy", "audit", "vault"), 1)
)

Ways = tuple[list[str], list[str]]


@contextmanager
def imds(*rules: tuple[Mapping[str, Any], Sequence[str]]) -> Iterator[Ways]:
    """Serve by those rules in a network of its own.

    Yield the command that enters it, and the one that enters a neighbour's with a route to it.
    """
    written = json.dumps([{"who": who, "roles": roles} for who, roles in rules])
    with two_networks() as (here, there):
        for way, command in (
            (here, f"ip address add {ADDRESS}/32 dev lo"),
            (there, f"ip route add {ADDRESS}/32 via 192.0.2.1"),
        ):
            subprocess.run([*way, *command.split()], check=True)
        with started([*here, *RUN, "tests.root.imds_server", written]) as server:
            assert line_from(server) == "ready"
            yield here, there
            go(server)
            assert server.wait() == 0


def key_of(way: Sequence[str], *asker: str) -> str | None:
    """Return the access key that boto3 finds, run that way by that asker."""
    command = [*way, *RUN, "tests.root.sdk", *asker]
    shown = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    key: str | None = json.loads(shown.stdout)
    return key


def test_each_user_gets_its_own_role_and_root_none_that_no_rule_gives_it() -> None:
    with imds(({"uid": 4242}, ["deploy"]), ({"uid": 4243}, ["audit"])) as (here, _):
        keys = [key_of(here, *asker) for asker in (AS_4242, AS_4243, ("--uid=4244",), ())]

    assert keys == [DEPLOY, AUDIT, None, None]


def test_two_units_of_one_user_get_different_roles() -> None:
    rules = (
        ({"uid": 4242, "unit": UNIT}, ["deploy"]),
        ({"uid": 4242, "user_unit": "mine.service"}, ["audit"]),
    )
    with (
        imds(*rules) as (here, _),
        cgroup(f"system.slice/{UNIT}") as unit,
        cgroup(MANAGER, owner=4242) as manager,
    ):
        own = f"--cgroup-of-own={manager}/app.slice/mine.service"
        forged = f"--cgroup-of-own={manager}/system.slice/{UNIT}"
        keys = [
            key_of(here, f"--cgroup={unit}", *AS_4242),
            key_of(here, f"--cgroup={manager}", own, *AS_4242),
            key_of(here, f"--cgroup={manager}", forged, *AS_4242),
            key_of(here, f"--cgroup={unit}", *AS_4243),
        ]

    assert keys == [DEPLOY, AUDIT, None, None]


def test_a_neighbour_gets_what_its_address_is_given_and_nobody_here_does() -> None:
    rules = (({"cidr": "192.0.2.2/32"}, ["deploy"]), ({"cidr": "0.0.0.0/0"}, ["vault"]))
    with imds(*rules) as (here, there):
        neighbour, local = key_of(there), key_of(here, *AS_4242)

    assert (neighbour, local) == (DEPLOY, None)


def test_a_user_in_a_namespace_of_its_own_is_who_it_is_outside() -> None:
    with imds(({"uid": 0}, ["vault"]), ({"uid": 4242}, ["deploy"])) as (here, _):
        key = key_of(here, "--user-namespace", *AS_4242)

    assert key == DEPLOY


def test_a_user_of_this_host_is_a_local_caller_here_and_none_from_elsewhere() -> None:
    a_user, without_a_name = f"--uid={getpwnam('daemon').pw_uid}", "--uid=4242"
    with imds(({"any_local": True}, ["deploy"])) as (here, there):
        asked = ((here, a_user), (there, a_user), (here, without_a_name))
        keys = [key_of(*each) for each in asked]

    assert keys == [DEPLOY, None, None]
