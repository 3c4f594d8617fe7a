"""Callers that only root can play: other users, other networks. Run by CI, by name."""

import subprocess
import sys

import pytest

from tests.root.stage import (
    AS_4242,
    IN_USER_NAMESPACE,
    ROOT,
    RUN,
    caller_seen,
    go,
    line_from,
    said,
    started,
    two_networks,
)

SOURCE_PORT = 40123


def test_another_user_is_known_by_uid_and_cgroup() -> None:
    seen = caller_seen(client=AS_4242)

    assert (seen["uid"], seen["address"]) == (4242, "127.0.0.1")


def test_an_ordinary_user_may_ask_about_root() -> None:
    assert caller_seen(probe=AS_4242)["uid"] == 0


def test_a_process_in_a_user_namespace_shows_the_uid_that_it_has_outside() -> None:
    assert caller_seen(client=(*AS_4242, *IN_USER_NAMESPACE))["uid"] == 4242


def test_a_uid_without_a_place_in_our_user_namespace_is_unknown_not_nobody() -> None:
    assert caller_seen(probe=IN_USER_NAMESPACE, client=AS_4242)["uid"] is None


def test_who_is_unknown_is_not_from_elsewhere_for_that() -> None:
    seen = caller_seen(probe=IN_USER_NAMESPACE, client=AS_4242)

    assert (seen["address"], seen["is_remote"]) == ("127.0.0.1", False)


def test_the_operator_is_told_that_a_user_namespace_hides_callers() -> None:
    asking = (
        "from tests.root.becoming import become, options;"
        "import broker.access.peer as peer;"
        "become(options().parse_args(['--uid=4242', '--user-namespace']));"
        "print(*peer.identity_problems())"
    )

    shown = subprocess.run(
        [sys.executable, "-c", asking], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert "maps only some users, so every other caller is unknown" in shown.stdout


def test_a_uid_with_a_place_in_our_user_namespace_is_known_by_its_name_there() -> None:
    assert caller_seen(probe=(*AS_4242, *IN_USER_NAMESPACE), client=AS_4242)["uid"] == 0


def test_a_client_in_another_network_namespace_is_only_an_address() -> None:
    with two_networks() as (here, there):
        seen = caller_seen(address="192.0.2.1", here=here, there=there)

    assert (seen["uid"], seen["cgroup_id"], seen["address"]) == (None, None, "192.0.2.2")
    assert seen["is_remote"]


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


@pytest.mark.parametrize("client", [AS_4242, ()])
def test_a_client_that_has_hung_up_is_unknown(client: tuple[str, ...]) -> None:
    """Root's too: of a socket that nobody holds the kernel may say uid 0."""
    probing = [*RUN, "tests.root.probe", "--when-told", "127.0.0.1", "0"]
    with started(probing) as server:
        port = line_from(server)
        asking = [*RUN, "tests.root.client", "--hang-up", *client, "127.0.0.1", port, "0"]
        with started(asking) as process:
            go(process)
            assert line_from(process) == "gone"
            go(server)
            seen = said(server)

    assert (seen["uid"], seen["unit"], seen["is_remote"]) == (None, None, False)


def test_nobody_is_taken_for_the_user_who_has_its_port_now() -> None:
    """A refused user connects, sends and resets; then a granted one connects from that port."""
    probing = [*RUN, "tests.root.probe", "--when-told", "127.0.0.1", "0"]
    with started(probing) as server:
        port, source = line_from(server), str(SOURCE_PORT)
        attacking = [*RUN, "tests.root.client", "--reset", "--uid=4303", "127.0.0.1", port, source]
        with started(attacking) as attacker:
            go(attacker)
            assert line_from(attacker) == "gone"
        asking = [*RUN, "tests.root.client", "--announce", *AS_4242, "127.0.0.1", port, source]
        with started(asking) as victim:
            go(victim)
            assert line_from(victim) == "connected"
            go(server)
            seen = said(server)

    assert (seen["uid"], seen["address"]) == (None, None)


def test_a_socket_is_its_makers_whoever_holds_it_later() -> None:
    assert caller_seen(client=(*AS_4242, "--socket-first"))["uid"] == 0


def test_a_relay_looks_like_the_user_who_runs_it() -> None:
    """As docker-proxy and ssh do."""
    with (
        two_networks() as (here, there),
        started([*here, *RUN, "tests.root.probe", "127.0.0.1", "0"]) as server,
    ):
        onward = (*AS_4242, "192.0.2.1", "127.0.0.1", line_from(server))
        with started([*here, *RUN, "tests.root.relay", *onward]) as relay:
            asking = [*there, *RUN, "tests.root.client", "192.0.2.1", line_from(relay), "0"]
            with started(asking) as process:
                go(process)
                seen = said(server)

    assert (seen["uid"], seen["is_remote"]) == (4242, False)


METADATA = "169.254.169.254"


def lead_to_metadata_address(here: list[str], there: list[str]) -> None:
    for way, command in (
        (here, f"ip address add {METADATA}/32 dev lo"),
        (there, f"ip route add {METADATA}/32 via 192.0.2.1"),
    ):
        subprocess.run([*way, *command.split()], check=True)


def test_a_neighbour_on_the_link_reaches_an_address_on_lo_and_is_only_an_address() -> None:
    with two_networks() as (here, there):
        lead_to_metadata_address(here, there)
        seen = caller_seen(address=METADATA, here=here, there=there)

    assert (seen["uid"], seen["address"], seen["is_remote"]) == (None, "192.0.2.2", True)


def test_it_reaches_nothing_that_holds_to_the_device_lo() -> None:
    with two_networks() as (here, there):
        lead_to_metadata_address(here, there)
        probing = [*here, *RUN, "tests.root.probe", "--device=lo", METADATA, "0"]
        with started(probing) as server:
            port = line_from(server)
            asking = [*there, *RUN, "tests.root.client", METADATA, port, "0"]
            with started(asking) as process:
                go(process)
                answer = line_from(process)

    assert answer == "refused"


def test_a_program_of_this_host_reaches_it_there() -> None:
    with two_networks() as (here, there):
        lead_to_metadata_address(here, there)
        seen = caller_seen(
            probe=["--device=lo"], client=AS_4242, address=METADATA, here=here, there=here
        )

    assert (seen["uid"], seen["address"]) == (4242, METADATA)
