"""ID tokens: a fresh one at each fetch, short, and a stale bearer renewed once."""

from datetime import timedelta

import pytest

from broker.credentials import NamespaceToken
from broker.lease import Lease, Refused, Unavailable
from broker.sandbox import Sandbox
from tests.support.sources import Holding, Pipeline, jwt_of


async def test_each_fetch_issues_a_fresh_short_token(pipeline: Pipeline, sandbox: Sandbox) -> None:
    source = pipeline.id_token()

    first, second = await source.fetch(), await source.fetch()

    assert first.value.jwt != second.value.jwt
    assert first.expires_at is not None
    assert first.expires_at - first.issued_at <= timedelta(seconds=600)
    calls = sandbox.namespace.calls_of("IssueIdToken")
    assert [call.params for call in calls] == [
        {"audience": "sts.amazonaws.com", "version": 1, "duration_secs": 600}
    ] * 2


async def test_a_token_says_who_is_presented(pipeline: Pipeline) -> None:
    token = (await pipeline.id_token().fetch()).value

    assert token.issuer == "https://federation.namespaceapis.com"
    assert (token.subject, token.audience) == ("ws_1/i-abc", "sts.amazonaws.com")
    assert token.jwt not in repr(token)


@pytest.mark.parametrize(
    ("tenant_id", "instance_id", "claims", "name"),
    [
        ("ws_1", "i-abc", {"tenant_id": "ws_2"}, "nsc.instance=i-abc"),
        ("ws_1", None, {"tenant_id": "ws_2"}, "nsc.tenant=ws_1"),
        (None, None, {"tenant_id": "ws_2", "sub": "ws_3/x"}, "nsc.tenant=ws_2"),
        (None, None, {"sub": "ws_3/x/y"}, "nsc.tenant=ws_3"),
        (None, None, {}, "namespace-broker"),
        ("w s/1", None, {}, "nsc.tenant=w-s-1"),
    ],
)
async def test_the_session_is_named_by_the_bearer_else_by_the_id_token(
    pipeline: Pipeline,
    sandbox: Sandbox,
    tenant_id: str | None,
    instance_id: str | None,
    claims: dict[str, str],
    name: str,
) -> None:
    bearer = NamespaceToken(bearer="nsrt_x", tenant_id=tenant_id, instance_id=instance_id)
    held = Holding(Lease(value=bearer, issued_at=pipeline.clock.now(), expires_at=None))
    sandbox.fail("IssueIdToken", status=200, body={"id_token": jwt_of(claims)})

    lease = await pipeline.id_token(held).fetch()

    assert lease.value.session_name == name


async def test_an_opaque_bearer_is_as_good_as_another(pipeline: Pipeline, sandbox: Sandbox) -> None:
    bearer = NamespaceToken(bearer=sandbox.namespace.revocable_token())
    held = Holding(Lease(value=bearer, issued_at=pipeline.clock.now(), expires_at=None))

    lease = await pipeline.id_token(held).fetch()

    assert lease.value.session_name == "nsc.tenant=ws_1"


async def test_a_bearer_that_was_not_taken_is_renewed_once(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    old, new = sandbox.namespace.workload_token(), sandbox.namespace.workload_token()
    sandbox.namespace.revoke(old)
    held = pipeline.holding(old, new)

    lease = await pipeline.id_token(held).fetch()

    assert lease.value.subject == "ws_1/i-abc"
    assert held.renewals == 1
    sent = [call.headers["Authorization"] for call in sandbox.namespace.calls]
    assert sent == [f"Bearer {old}", f"Bearer {new}"]


async def test_two_bearers_that_were_not_taken_are_a_refusal(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    old, new = sandbox.namespace.workload_token(), sandbox.namespace.workload_token()
    sandbox.namespace.revoke(old)
    sandbox.namespace.revoke(new)
    held = pipeline.holding(old, new)

    with pytest.raises(Refused, match="does not accept this identity's token") as error:
        await pipeline.id_token(held).fetch()

    assert error.value.word == "unauthenticated"
    assert held.renewals == 1
    assert len(sandbox.namespace.calls) == 2
    assert new not in str(error.value)


class NothingNewer(Holding):
    """A keeper whose source has the same token again."""

    async def newer_than(self, lease: Lease[object]) -> Lease[NamespaceToken]:
        raise Refused("identity/default was not taken, and its source has no newer one")


async def test_a_bearer_that_nobody_renews_is_a_refusal_that_says_why(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    sandbox.fail("IssueIdToken", code="UNAUTHENTICATED", message="session revoked")
    held = NothingNewer(await pipeline.holding().fetch())

    with pytest.raises(Refused, match=r"session revoked; .* no newer one"):
        await pipeline.id_token(held).fetch()


async def test_a_missing_permission_is_named(pipeline: Pipeline, sandbox: Sandbox) -> None:
    held = pipeline.holding(sandbox.namespace.revocable_token(permissions=("tenant/get",)))

    with pytest.raises(Refused, match="missing: federation/issue_federation") as error:
        await pipeline.id_token(held).fetch()

    assert error.value.word == "access-denied"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"id_token": ""},
        {"id_token": 5},
        {"id_token": ["a.b.c"]},
        {"id_token": "a b"},
        {"id_token": "not-a-jwt"},
        {"id_token": "a.b.c"},
        {"id_token": "eyJ\nx"},
        {"id_token": "é.é.é"},
        {"token": "a.b.c"},
    ],
)
async def test_an_answer_without_a_proper_token_is_none(
    pipeline: Pipeline, sandbox: Sandbox, body: dict[str, object]
) -> None:
    sandbox.fail("IssueIdToken", status=200, body=body)

    with pytest.raises(Unavailable) as error:
        await pipeline.id_token().fetch()

    assert error.value.word == "bad-answer"


async def test_an_answer_in_camel_case_is_as_good(pipeline: Pipeline, sandbox: Sandbox) -> None:
    token = jwt_of({"sub": "ws_1/x", "aud": ["other", "sts.amazonaws.com"]})
    sandbox.fail("IssueIdToken", status=200, body={"idToken": token, "news": 1})

    lease = await pipeline.id_token().fetch()

    assert lease.value.jwt == token
    assert lease.value.audience == "sts.amazonaws.com"
    assert lease.expires_at is None


async def test_an_audience_that_we_did_not_ask_for_is_shown_as_it_is(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    sandbox.fail("IssueIdToken", status=200, body={"id_token": jwt_of({"aud": ["a", "b"]})})

    assert (await pipeline.id_token().fetch()).value.audience == "a, b"


async def test_the_workspace_can_be_asked_for(pipeline: Pipeline, sandbox: Sandbox) -> None:
    tenant = await pipeline.iam.get_tenant(sandbox.namespace.revocable_token())

    assert (tenant.tenant_id, tenant.name) == ("ws_1", "Acme")


@pytest.mark.parametrize("body", [{}, {"tenant": None}, {"tenant": {"name": 5}}, {"tenant": []}])
async def test_every_member_of_a_workspace_may_be_missing(
    pipeline: Pipeline, sandbox: Sandbox, body: dict[str, object]
) -> None:
    sandbox.fail("GetTenant", status=200, body=body)

    tenant = await pipeline.iam.get_tenant(sandbox.namespace.workload_token())

    assert (tenant.tenant_id, tenant.name) == (None, None)
