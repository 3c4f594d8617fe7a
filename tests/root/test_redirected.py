"""A local caller is known however its packets reached us, and on hosts with unusual settings."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.root.stage import (
    AS_4242,
    IN_NETWORK,
    RUN,
    caller_seen,
    go,
    line_from,
    said,
    started,
    two_networks,
    way_into,
)

METADATA = "169.254.169.254"


def run(way: Sequence[str], *commands: str) -> None:
    for command in commands:
        subprocess.run([*way, *command.split()], check=True)


@pytest.fixture
def network() -> Iterator[list[str]]:
    """Yield how to enter a network that leads the metadata address to its own."""
    with started([*IN_NETWORK, sys.executable, "-c", "print(1, flush=True); input()"]) as process:
        line_from(process)
        way = way_into(process)
        run(
            way,
            "ip link set lo up",
            "ip address add 192.0.2.1/24 dev lo",
            "ip -6 address add 2001:db8::1/64 dev lo nodad",
            f"ip route add {METADATA}/32 dev lo",
            "ip -6 route add 2001:db8:1::/64 dev lo",
        )
        yield way


def redirected(
    way: Sequence[str], rule: str, *, listening: str, target: tuple[str, int]
) -> dict[str, Any]:
    """Return what a probe says of uid 4242, whose connection to *target* the *rule* leads to it."""
    with started([*way, *RUN, "tests.root.probe", listening, "0"]) as server:
        port = line_from(server)
        run(way, rule.format(port=port))
        address, target_port = target
        asking = [*way, *RUN, "tests.root.client", *AS_4242, address, str(target_port), "0"]
        with started(asking) as process:
            go(process)
            return said(server)


@pytest.mark.parametrize(
    ("rule", "listening", "target"),
    [
        pytest.param(
            f"iptables -t nat -A OUTPUT -d {METADATA} -p tcp --dport 80"
            " -j REDIRECT --to-ports {port}",
            "127.0.0.1",
            (METADATA, 80),
            id="REDIRECT",
        ),
        pytest.param(
            f"iptables -t nat -A OUTPUT -d {METADATA} -p tcp --dport 80"
            " -j DNAT --to-destination 192.0.2.1:{port}",
            "192.0.2.1",
            (METADATA, 80),
            id="DNAT",
        ),
        pytest.param(
            "ip6tables -t nat -A OUTPUT -d 2001:db8:1::7 -p tcp --dport 80"
            " -j REDIRECT --to-ports {port}",
            "::1",
            ("2001:db8:1::7", 80),
            id="IPv6",
        ),
    ],
)
def test_a_redirected_local_caller_has_its_uid(
    network: list[str], rule: str, listening: str, target: tuple[str, int]
) -> None:
    seen = redirected(network, rule, listening=listening, target=target)

    assert (seen["uid"], seen["is_remote"]) == (4242, False)


def test_one_whose_source_is_rewritten_too_is_unknown_and_not_remote(network: list[str]) -> None:
    run(network, "iptables -t nat -A POSTROUTING -p tcp -j SNAT --to-source 192.0.2.1:40000-40100")

    seen = redirected(
        network,
        f"iptables -t nat -A OUTPUT -d {METADATA} -p tcp -j REDIRECT --to-ports {{port}}",
        listening="127.0.0.1",
        target=(METADATA, 80),
    )

    assert (seen["uid"], seen["is_remote"]) == (None, False)


def test_where_any_address_may_be_bound_another_host_is_still_another_host() -> None:
    with two_networks() as (here, there):
        run(here, "sysctl -qw net.ipv4.ip_nonlocal_bind=1")
        seen = caller_seen(address="192.0.2.1", here=here, there=there)

    assert (seen["uid"], seen["address"], seen["is_remote"]) == (None, "192.0.2.2", True)


@pytest.mark.parametrize("uid", [65534, 4294967294])
def test_a_caller_of_an_unusual_uid_is_that_user(uid: int) -> None:
    assert caller_seen(client=(f"--uid={uid}",))["uid"] == uid
    assert caller_seen(probe=(f"--uid={uid}",), client=(f"--uid={uid}",))["uid"] == uid
