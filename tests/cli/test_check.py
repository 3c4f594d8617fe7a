"""`check` where the service runs: it is asked, because it alone sees its files and sockets."""

import pytest

from broker.cli.commands import check
from broker.cli.control_client import Reply
from broker.cli.parser import Options

ENDPOINTS = {
    "imds": ["http://169.254.169.254:80", "http://[fd00:ec2::254]:80"],
    "container": ["http://127.0.0.1:8170/"],
    "ops": [],
    "roles": ["deploy"],
}
LEASES = [
    {"name": "identity/default", "state": "live", "expires_at": None, "reason": None},
    {"name": "role/deploy", "state": "refused", "expires_at": None, "reason": "no trust"},
]


def test_the_services_leases_and_sockets_are_shown() -> None:
    service = Reply(200, {"leases": LEASES, "problems": []}, ENDPOINTS)

    leases = check.held_by(service)

    assert [(lease["name"], lease["ok"], lease["reason"]) for lease in leases] == [
        ("identity/default", True, None),
        ("role/deploy", False, "no trust"),
    ]
    assert check.listened(service.endpoints) == {
        "imds": ["169.254.169.254:80", "[fd00:ec2::254]:80"],
        "container": ["127.0.0.1:8170"],
        "ops": [],
    }


def test_a_user_is_told_what_is_not_seen(capsys: pytest.CaptureFixture[str]) -> None:
    partly = check.held_by(Reply(200, {"leases": LEASES[:1]}, ENDPOINTS))
    refused = check.held_by(Reply(403, {}, ENDPOINTS))

    warnings = capsys.readouterr().err.splitlines()
    assert (len(partly), refused) == (1, [])
    assert "only the leases that you may use; root sees all" in warnings[0]
    assert "its leases are not checked; run this as root" in warnings[1]


@pytest.mark.parametrize("name", ["config", "region", "runtime-dir"])
def test_with_flags_of_its_own_the_service_is_not_meant(name: str) -> None:
    assert check.running_service(Options(check.FLAGS, {name: "x"})) is None
