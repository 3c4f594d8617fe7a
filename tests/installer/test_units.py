"""The unit files, as far as they can be read without systemd."""

import pytest

from broker.installer import units
from broker.systemd.listen_fds import SURFACES


def unit(name: str) -> list[tuple[str, str]]:
    """Return a unit's settings, section by section, repeated ones too."""
    found, section = [], ""
    for line in units.unit_files("/opt/broker")[name].splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.append((f"{section}.{key}", value))
    return found


def value(name: str, key: str) -> str:
    return dict(unit(name))[key]


def test_each_socket_has_a_name_that_the_broker_knows() -> None:
    names = [value(each, "Socket.FileDescriptorName") for each in units.SOCKETS]

    assert len(set(names)) == len(names)
    assert set(names) <= set(SURFACES)


@pytest.mark.parametrize("socket", units.SOCKETS)
def test_the_service_has_every_socket(socket: str) -> None:
    assert socket in value(units.SERVICE, "Unit.Requires").split()
    assert socket in value(units.SERVICE, "Unit.After").split()


def test_one_name_stops_all_of_them() -> None:
    others = {units.TARGET, units.READY, units.TOKEN_TIMER}
    parts = [name for name in units.UNITS if ("Unit.PartOf", units.TARGET) in unit(name)]

    assert set(parts) == set(units.UNITS) - others
    assert value(units.TOKEN_TIMER, "Unit.PartOf") == units.TOKEN_PATH
    assert value(units.SERVICE, "Unit.Wants") == units.TARGET


def test_jobs_can_wait_for_the_first_leases() -> None:
    assert value(units.READY, "Unit.Requires") == value(units.READY, "Unit.After") == units.SERVICE
    assert value(units.READY, "Service.ExecStart").startswith("/opt/broker wait")


def test_the_metadata_addresses_are_kept_to_this_host() -> None:
    listened = [text for key, text in unit(units.SOCKET) if key == "Socket.ListenStream"]

    assert listened == ["169.254.169.254:80", "[fd00:ec2::254]:80"]
    assert value(units.SOCKET, "Socket.BindToDevice") == "lo"
    assert value(units.SOCKET, "Unit.Requires") == units.ADDRESS


def test_callers_are_known_in_the_sandbox() -> None:
    settings = dict(unit(units.SERVICE))

    assert settings["Service.PrivateUsers"] == "no"
    assert "AF_NETLINK" in settings["Service.RestrictAddressFamilies"]
    assert settings["Service.ProtectProc"] == "default"


def test_the_copy_of_the_token_is_where_the_service_looks_for_it() -> None:
    source, _, target = value(units.SERVICE, "Service.BindReadOnlyPaths").partition(":")
    command = value(units.TOKEN_SERVICE, "Service.ExecStart")

    assert command.endswith(f" --to {source.removeprefix('-')}/{units.TOKEN_COPY.name}")
    assert target.replace("/private/", "/") == str(units.TOKEN_COPY.parent)
