"""Which requests the guard objects to."""

import pytest

from broker.http.guard import Guard
from broker.http.message import Request


def asked(*headers: tuple[str, str], http_version: tuple[int, int] = (1, 1)) -> Request:
    return Request(method="GET", path="/", headers=headers, http_version=http_version)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8170",
        "127.200.3.4:80",
        "[::1]",
        "[::1]:8170",
        "::1",
        "::1:8170",
        "[::ffff:127.0.0.1]:80",
        "localhost",
        "LocalHost:8170",
        "localhost:",
        "169.254.169.254",
        "169.254.169.254:80",
        "169.254.170.2",
        "169.254.170.23:80",
        "fd00:ec2::254",
        "[fd00:ec2::254]",
        "[FD00:EC2::254]:80",
        "fd00:ec2::23",
        "fd00:0ec2:0:0:0:0:0:23",
    ],
)
def test_every_loopback_and_metadata_address_is_ours_in_any_form(host: str) -> None:
    objection = Guard().objection(asked(("host", host)))

    assert objection is None


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        ":80",
        "example.com",
        "example.com:8170",
        "localhost.example.com",
        "localhost@example.com",
        "127.0.0.1.example.com",
        "127.0.0.1:80:80",
        "127.0.0.1:http",
        "[localhost]",
        "[::1",
        "::1]",
        "[::1]x",
        "169.254.169.253",
        "10.0.0.1",
        "[fd00:ec2::255]",
        "2130706433",
        "127.1",
        "0.0.0.0",
        "127.0.0.1, example.com",
        "localhost\x00",
        "\udcff",
    ],
)
def test_a_foreign_or_malformed_host_is_objected_to(host: str) -> None:
    objection = Guard().objection(asked(("host", host)))

    assert objection == "host"


@pytest.mark.parametrize(
    "host", ["broker", "Broker:80", "10.0.0.7", "10.0.0.7:8170", "[fd12::1]:80", "fd12:0::1"]
)
def test_configured_hosts_are_ours_too_whatever_their_form(host: str) -> None:
    guard = Guard(allowed_hosts=frozenset({"BROKER", "10.0.0.7:80", "[fd12::1]"}))

    objection = guard.objection(asked(("host", host)))

    assert objection is None


def test_an_absent_host_is_http_1_0s_only() -> None:
    assert Guard().objection(asked(http_version=(1, 0))) is None
    assert Guard().objection(asked(http_version=(1, 1))) == "host"


def test_two_hosts_are_one_too_many_even_when_both_are_ours() -> None:
    objection = Guard().objection(asked(("host", "localhost"), ("host", "localhost")))

    assert objection == "host"


@pytest.mark.parametrize(
    "name", ["origin", "referer", "sec-fetch-mode", "sec-fetch-site", "sec-fetch-whatever"]
)
def test_what_only_browsers_send_is_objected_to_even_empty(name: str) -> None:
    objection = Guard().objection(asked(("host", "localhost"), (name, "")))

    assert objection == "browser"


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded", "via"])
def test_what_only_proxies_send_is_objected_to_even_empty(name: str) -> None:
    objection = Guard().objection(asked(("host", "localhost"), (name, "")))

    assert objection == "forwarded"


def test_a_plain_clients_request_is_not_objected_to() -> None:
    headers = (("host", "localhost"), ("user-agent", "Boto3/1.43"), ("accept", "*/*"))

    assert Guard().objection(asked(*headers)) is None


@pytest.mark.parametrize(
    ("authority", "host", "objection"),
    [
        ("169.254.169.254", "169.254.169.254", None),
        ("localhost:8170", "127.0.0.1", None),
        ("evil.example", "169.254.169.254", "host"),
        ("169.254.169.254", "evil.example", "host"),
        ("", "169.254.169.254", "host"),
        ("user@169.254.169.254", "169.254.169.254", "host"),
    ],
)
def test_an_absolute_target_is_judged_by_its_host_as_well(
    authority: str, host: str, objection: str | None
) -> None:
    request = Request(method="GET", path="/", headers=(("host", host),), authority=authority)

    assert Guard().objection(request) == objection


def test_a_wildcard_stands_for_every_address_that_this_host_has() -> None:
    guard = Guard(allowed_hosts=["0.0.0.0:8171"], is_local=lambda a: str(a) == "192.0.2.7")

    assert guard.objection(asked(("host", "192.0.2.7:8171"))) is None
    assert guard.objection(asked(("host", "192.0.2.8:8171"))) == "host"
    assert guard.objection(asked(("host", "rebound.example:8171"))) == "host"


def test_an_address_that_this_host_gets_later_is_ours_from_then_on() -> None:
    addresses: set[str] = set()
    guard = Guard(allowed_hosts=["[::]"], is_local=lambda a: str(a) in addresses)
    refused = guard.objection(asked(("host", "[2001:db8::7]:8171")))

    addresses.add("2001:db8::7")

    assert refused == "host"
    assert guard.objection(asked(("host", "[2001:db8::7]:8171"))) is None


def test_without_a_wildcard_another_address_of_this_host_is_not_ours() -> None:
    guard = Guard(allowed_hosts=["127.0.0.1:8171"], is_local=lambda _: True)

    assert guard.objection(asked(("host", "192.0.2.7"))) == "host"
