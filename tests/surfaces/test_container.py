"""The container endpoint as a function: who gets what, by which path."""

import json

import pytest

from broker.access.caller import Caller, Grant
from broker.access.rules import OwnerOnly
from tests.support.fakes import START, some_credentials
from tests.support.surfaces import (
    ALICE,
    BOB,
    NOBODY,
    SECRET,
    Holding,
    Rule,
    a_container,
    container_get,
    lease_for,
    nothing_held,
    request,
)

DEPLOY_ARN = "arn:aws:iam::123456789012:role/deploy"


def role_of(body: bytes) -> str:
    arn: str = json.loads(body)["RoleArn"]
    return arn.rpartition("/")[2]


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("/v1/credentials", "deploy"),
        ("/creds", "deploy"),
        ("/2016-11-01/credentialprovider/", "deploy"),
        ("//creds/", "deploy"),
        ("/role/deploy", "deploy"),
        ("/role/audit/", "audit"),
        ("/role-arn/" + DEPLOY_ARN, "deploy"),
        ("/role-arn/arn:aws:iam::123456789012:role/audit", "audit"),
    ],
)
def test_each_path_gives_its_role_also_below_the_token(path: str, role: str) -> None:
    by_header = container_get(a_container(), path)
    by_path = a_container().answer(request("GET", f"/t/{SECRET}{path}"), ALICE, now=START)

    assert (by_header.status, role_of(by_header.body)) == (200, role)
    assert (by_header.route, by_header.role) == ("container", role)
    assert by_path == by_header


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/role",
        "/role/",
        "/role/no-such-role",
        "/role/vault",
        "/role/deploy/more",
        "/role-arn/arn:aws:iam::123456789012:role/vault",
        "/role-arn/arn:aws:iam::999999999999:role/deploy",
        "/v2/credentials",
        "/t",
        "/latest/meta-data/",
        "/nsc/v1/x/workload_token",
    ],
)
def test_what_is_not_there_and_what_may_not_be_had_answer_alike(path: str) -> None:
    answer = container_get(a_container(), path)

    assert answer.status == 404
    assert answer.body == container_get(a_container(), "/role/no-such-role").body
    assert b"vault" not in answer.body


def test_of_two_roles_with_one_arn_the_default_one_is_served() -> None:
    keepers = {
        "first": Holding(lease_for("deploy", serial=1)),
        "second": Holding(lease_for("deploy", serial=2)),
    }
    grant = Grant(roles=frozenset(keepers), default_role="second")

    answer = container_get(a_container(keepers, rules=Rule(grant)), "/role-arn/" + DEPLOY_ARN)

    assert answer.role == "second"


def test_a_caller_without_a_grant_gets_nothing_even_with_a_good_token() -> None:
    answer = container_get(a_container(rules=NOBODY), "/creds")

    assert (answer.status, answer.refusal) == (404, "not-granted")


def test_on_the_floor_whoever_holds_the_token_is_admitted() -> None:
    floor = OwnerOnly(owner_uid=1, roles=("deploy",), default_role="deploy")
    stranger = Caller(address="10.0.0.8")

    assert container_get(a_container(rules=floor), "/creds", caller=stranger).status == 200
    assert a_container(rules=floor).answer(request("GET", "/creds"), BOB, now=START).status == 401


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ((), "token-missing"),
        ((("authorization", "wrong"),), "token-bad"),
        ((("authorization", ""),), "token-bad"),
        ((("authorization", f"Bearer {SECRET}"),), "token-bad"),
        ((("authorization", SECRET), ("authorization", SECRET)), "token-bad"),
        ((("authorization", "\u00ff\udcff"),), "token-bad"),
    ],
)
def test_without_the_very_token_every_path_is_401(
    headers: tuple[tuple[str, str], ...], refusal: str
) -> None:
    for path in ("/creds", "/role/deploy", "/role/no-such-role", "/"):
        answer = a_container().answer(request("GET", path, *headers), ALICE, now=START)

        assert (answer.status, answer.refusal) == (401, refusal)


@pytest.mark.parametrize("path", ["/t/wrong/creds", "/t/wrong", "/t//creds"])
def test_a_wrong_token_in_the_path_is_401_even_with_a_good_header(path: str) -> None:
    assert container_get(a_container(), path).status == 401


@pytest.mark.parametrize(
    ("header", "refusal"),
    [
        (("origin", "null"), "browser"),
        (("sec-fetch-mode", "cors"), "browser"),
        (("via", "1.1 proxy"), "forwarded"),
        (("forwarded", "for=10.1.2.3"), "forwarded"),
    ],
)
def test_browsers_and_proxies_are_refused_with_a_good_token(
    header: tuple[str, str], refusal: str
) -> None:
    for method in ("GET", "HEAD", "POST", "OPTIONS"):
        answer = container_get(a_container(), "/creds", header, method=method)

        assert (answer.status, answer.refusal) == (403, refusal)
        assert json.loads(answer.body)["code"] == "Forbidden"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", "BREW"])
def test_only_get_and_head_are_allowed(method: str) -> None:
    answer = container_get(a_container(), "/creds", method=method)

    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_what_is_granted_but_not_there_is_404_and_names_the_role_to_us_alone() -> None:
    answer = container_get(a_container(nothing_held()), "/creds")

    assert (answer.status, answer.role, answer.refusal) == (404, "deploy", None)
    assert b"deploy" not in answer.body


def test_the_rules_see_each_token_by_its_name() -> None:
    class OnlyCi:
        decide_by_process = False

        def grant_for(self, caller: Caller) -> Grant:
            roles = {"ci": "audit"}.get(caller.token or "", "deploy")
            return Grant(roles=frozenset({roles}), default_role=roles)

    container = a_container(rules=OnlyCi(), tokens={"default": (SECRET,), "ci": ("x" * 32,)})

    as_ci = container.answer(
        request("GET", "/creds", ("authorization", "x" * 32)), ALICE, now=START
    )
    assert as_ci.role == "audit"
    assert container_get(container, "/creds").role == "deploy"


def test_no_answer_shows_a_secret_in_its_repr() -> None:
    answer = container_get(a_container(), "/creds")

    assert some_credentials().secret_access_key not in repr(answer)
