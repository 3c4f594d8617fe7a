"""What a workspace trusts: told, and replaced whole under its generation."""

from collections.abc import Mapping
from typing import Any

import pytest

from broker.sandbox import Sandbox
from tests.support.sandbox_clients import rpc

LIST = "nsl.tenants.TenantsService/ListTrustRelationships"
UPDATE = "nsl.tenants.TenantsService/UpdateTrustRelationships"
POOL = "nsl.tenants.TenantsService/TrustAWSCognitoIdentityPool"
PUBLIC_ISSUE = "namespace.cloud.iam.v1beta.TokenService/IssueIdToken"
POOL_ID = "eu-central-1:00000000-0000-0000-0000-000000000000"
ENTRY: Mapping[str, object] = {
    "issuer": "https://a.tokens.sts.global.api.aws",
    "subject_match": "arn:aws:iam::123456789012:role/*",
}


async def listed(sandbox: Sandbox, *, workspace: str | None = None) -> Any:
    bearer = sandbox.namespace.tenant_token(workspace=workspace)
    status, body, _ = await rpc(sandbox, LIST, {}, bearer=bearer)
    assert status == 200
    return body


async def update(
    sandbox: Sandbox, generation: object, /, *entries: object, **params: object
) -> tuple[int, Any]:
    sent = {"generation": generation, "trust_relationships": list(entries), **params}
    bearer = sandbox.namespace.tenant_token(actor_id="user_7")
    status, body, _ = await rpc(sandbox, UPDATE, sent, bearer=bearer)
    return status, body


# Lists.


async def test_an_empty_list_has_neither_members_nor_generation(sandbox: Sandbox) -> None:
    assert await listed(sandbox) == {}


async def test_a_new_entry_is_named_and_dated_by_the_server(timed: Sandbox) -> None:
    status, answer = await update(timed, "", ENTRY)

    body = await listed(timed)
    [made] = body["trust_relationships"]
    assert (status, answer, body["generation"]) == (200, {}, "1")
    assert made["id"].startswith("tr_")
    assert made["created_at"] == "2030-01-02T03:04:05.000000Z"
    assert made["creator_json"] == '{"actor":"user_7"}'
    assert ENTRY.items() <= made.items()


async def test_an_entry_comes_back_as_it_was_with_what_nobody_knows(sandbox: Sandbox) -> None:
    strange = {**ENTRY, "newer": {"deep": [1, {"x": None}]}}
    await update(sandbox, "", strange)
    before = await listed(sandbox)

    await update(sandbox, before["generation"], *before["trust_relationships"], ENTRY)

    after = await listed(sandbox)
    assert after["generation"] == "2"
    assert after["trust_relationships"][0] == before["trust_relationships"][0]
    assert after["trust_relationships"][0]["newer"] == {"deep": [1, {"x": None}]}
    assert len({one["id"] for one in after["trust_relationships"]}) == 2


async def test_what_the_server_set_is_not_the_clients_to_change(sandbox: Sandbox) -> None:
    relationship_id = sandbox.namespace.trust(issuer="https://a.example", subject_match="a")
    [entry] = sandbox.namespace.trust_relationships()
    changed = {**entry, "created_at": "1999", "creator_json": "{}", "subject_match": "b"}

    await update(sandbox, "1", changed)

    [after] = sandbox.namespace.trust_relationships()
    assert after == {**entry, "subject_match": "b"}
    assert after["id"] == relationship_id


@pytest.mark.parametrize("params", [{"trust_relationships": []}, {}], ids=str)
async def test_the_last_entry_goes_by_an_empty_list_or_none(
    sandbox: Sandbox, params: Mapping[str, object]
) -> None:
    sandbox.namespace.trust(issuer="https://a.example", subject_match="a")
    bearer = sandbox.namespace.tenant_token()

    await rpc(sandbox, UPDATE, {"generation": "1", **params}, bearer=bearer)

    assert await listed(sandbox) == {"generation": "2"}


@pytest.mark.parametrize("generation", ["", "1", "3", "x"])
@pytest.mark.parametrize(
    ("code", "status", "number"), [("FAILED_PRECONDITION", 400, 9), ("ABORTED", 409, 10)]
)
async def test_a_stale_generation_changes_nothing(
    sandbox: Sandbox, generation: str, code: str, status: int, number: int
) -> None:
    sandbox.namespace.choices.stale_generation_code = code
    sandbox.namespace.trust(issuer="https://a.example", subject_match="a")
    sandbox.namespace.trust(issuer="https://a.example", subject_match="b")
    before = await listed(sandbox)

    answered, body = await update(sandbox, generation, ENTRY)

    assert (answered, body) == (status, {"code": number, "message": "stale generation"})
    assert await listed(sandbox) == before


@pytest.mark.parametrize(
    "entry",
    [
        "text",
        {},
        {"issuer": "https://a.example"},
        {**ENTRY, "subject_match": ""},
        {**ENTRY, "issuer": 7},
        {**ENTRY, "audience": []},
        {**ENTRY, "default_token_duration": "3600"},
        {**ENTRY, "default_token_duration": 3600},
        {**ENTRY, "default_permissions": {}},
        {**ENTRY, "default_permissions": [{"resource_type": "tenant"}]},
        {**ENTRY, "id": "tr_unknown"},
        {**ENTRY, "id": 7},
    ],
    ids=str,
)
async def test_an_entry_that_is_not_proper_is_refused_and_changes_nothing(
    sandbox: Sandbox, entry: object
) -> None:
    status, body = await update(sandbox, "", ENTRY, entry)

    assert (status, body["code"]) == (400, 3)
    assert await listed(sandbox) == {}


async def test_the_same_entry_twice_is_refused(sandbox: Sandbox) -> None:
    sandbox.namespace.trust(issuer="https://a.example", subject_match="a")
    [entry] = sandbox.namespace.trust_relationships()

    status, body = await update(sandbox, "1", entry, entry)

    assert (status, body["code"]) == (400, 3)


@pytest.mark.parametrize(
    "params", [{"trust_relationships": "x"}, {"trust_relationships": None}, {"generation": 1}]
)
async def test_an_update_is_refused_for_a_wrong_request(
    sandbox: Sandbox, params: dict[str, object]
) -> None:
    status, body = await update(sandbox, "", **params)

    assert (status, body["code"]) == (400, 3)


async def test_each_workspace_has_a_list_of_its_own(sandbox: Sandbox) -> None:
    sandbox.namespace.trust(issuer="https://a.example", subject_match="a", workspace="ws_2")

    assert await listed(sandbox) == {}
    assert (await listed(sandbox, workspace="ws_2"))["generation"] == "1"


async def test_what_the_lists_hold_is_not_handed_out_to_be_changed(sandbox: Sandbox) -> None:
    sandbox.namespace.trust(issuer="https://a.example", subject_match="a", newer={"x": 1})

    [entry] = sandbox.namespace.trust_relationships()
    entry["newer"]["x"] = 2  # type: ignore[index]

    assert sandbox.namespace.trust_relationships()[0]["newer"] == {"x": 1}


# Pools.


async def test_a_pool_is_trusted_for_the_bearers_workspace_however_often(sandbox: Sandbox) -> None:
    params = {"aws_cognito_identity_pool": POOL_ID, "identity_provider": "namespace.so"}
    bearer = sandbox.namespace.tenant_token(workspace="ws_2")

    answers = [await rpc(sandbox, POOL, params, bearer=bearer) for _ in range(2)]

    assert [(status, body) for status, body, _ in answers] == [(200, {}), (200, {})]
    assert sandbox.namespace.trusted_pools(workspace="ws_2") == {(POOL_ID, "namespace.so")}
    assert sandbox.namespace.trusted_pools() == frozenset()


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"aws_cognito_identity_pool": POOL_ID},
        {"identity_provider": "namespace.so"},
        {"aws_cognito_identity_pool": POOL_ID[13:], "identity_provider": "namespace.so"},
    ],
    ids=str,
)
async def test_a_pool_is_not_trusted_for_a_wrong_request(
    sandbox: Sandbox, params: Mapping[str, object]
) -> None:
    status, body, _ = await rpc(sandbox, POOL, params, bearer=sandbox.namespace.tenant_token())

    assert (status, body["code"]) == (400, 3)


# Who may.


@pytest.mark.parametrize("method", [LIST, UPDATE, POOL])
async def test_trust_is_only_for_those_who_may(sandbox: Sandbox, method: str) -> None:
    restricted = sandbox.namespace.revocable_token(permissions=("tenant/get",))

    nobody, _, _ = await rpc(sandbox, method, {})
    denied, body, _ = await rpc(sandbox, method, {}, bearer=restricted)
    session, _, _ = await rpc(sandbox, method, {}, bearer=sandbox.namespace.session_token())

    assert (nobody, denied, session) == (401, 403, 401)
    assert body["code"] == 7


@pytest.mark.parametrize("operation", ["ListTrustRelationships", "UpdateTrustRelationships"])
async def test_the_calls_can_be_made_to_fail(sandbox: Sandbox, operation: str) -> None:
    sandbox.fail(operation, code="ABORTED", count=1)

    method = f"nsl.tenants.TenantsService/{operation}"
    bearer = sandbox.namespace.tenant_token()
    answers = [(await rpc(sandbox, method, {}, bearer=bearer))[0] for _ in range(2)]

    assert answers == [409, 200]


# The public API's twin of IssueIdToken.


async def test_the_public_api_answers_in_camel_case(sandbox: Sandbox) -> None:
    bearer = sandbox.namespace.tenant_token()

    status, body, _ = await rpc(sandbox, PUBLIC_ISSUE, {"audience": "x"}, bearer=bearer)

    assert status == 200
    assert body.keys() == {"idToken"}


async def test_the_public_api_spells_codes_as_words(sandbox: Sandbox) -> None:
    bearer = sandbox.namespace.tenant_token()

    without, told, _ = await rpc(sandbox, PUBLIC_ISSUE, {"audience": "x"})
    empty, body, _ = await rpc(sandbox, PUBLIC_ISSUE, {}, bearer=bearer)

    assert (without, told["code"]) == (401, "unauthenticated")
    assert (empty, body["code"]) == (400, "invalid_argument")
