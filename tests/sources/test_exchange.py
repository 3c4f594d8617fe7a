"""An AWS identity becomes a Namespace token, by both of the guide's ways.

What is presented, what comes, and the message where it is not trusted; through the sandbox's two
clouds.
"""

import json
from datetime import timedelta

import pytest

from broker.clock import SystemClock
from broker.lease import Refused, SourceError, Unavailable
from broker.sandbox import ErrorShape, Sandbox
from broker.sources.http_client import HttpClient
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.errors import CODES
from broker.sources.namespace.exchange import aws_identity_source, exchange_once
from tests.support.fakes import FakeClock
from tests.support.sources import (
    REGION,
    Presenting,
    Workload,
    answering,
    bearer_of,
    chunked_answer,
    hanging,
    http_answer,
    jwt_of,
)

METHODS = {"sts": "ExchangeOIDCToken", "cognito": "ExchangeAWSCognitoJWT"}
BOTH = pytest.mark.parametrize("source", METHODS)
SHAPES: list[ErrorShape] = ["status", "relaxed", "grpc-headers"]
MIB = 1 << 20


async def error_of(
    given: Workload | Presenting, source: str, *, iam: NamespaceIam | None = None
) -> SourceError:
    """Return the error that the next exchange ends in."""
    with pytest.raises(SourceError) as error:
        await given.exchange(source, iam=iam).fetch()
    return error.value


# What is asked, and what comes.


@BOTH
async def test_an_aws_identity_becomes_a_token_of_the_workspace(
    workload: Workload, sandbox: Sandbox, source: str
) -> None:
    exchanged = await workload.exchange(source).exchange()

    token = exchanged.lease.value
    assert token.bearer.startswith("nsct_")
    assert (token.tenant_id, token.instance_id) == ("ws_1", None)
    assert exchanged.lease.expires_at == exchanged.lease.issued_at + timedelta(hours=1)
    assert (exchanged.tenant.tenant_id, exchanged.tenant.name) == ("ws_1", "Acme")
    assert (await workload.iam.get_tenant(token.bearer)).name == "Acme"
    assert token.bearer not in repr(exchanged)


@BOTH
async def test_the_exchange_is_anonymous_and_spelled_as_the_vendors_own(
    workload: Workload, sandbox: Sandbox, source: str
) -> None:
    await workload.exchange(source).fetch()

    (call,) = sandbox.namespace.calls
    assert call.path == f"/nsl.tenants.TenantsService/{METHODS[source]}"
    assert not call.authorization_present
    assert call.headers["NS-Internal-Version"] == "162"
    token = "oidc_token" if source == "sts" else "aws_cognito_token"
    assert set(call.params) == {"tenant_id", token}
    assert call.params["tenant_id"] == "ws_1"


@BOTH
async def test_each_attempt_presents_a_fresh_token(
    workload: Workload, sandbox: Sandbox, source: str
) -> None:
    exchange = workload.exchange(source)

    for _ in range(3):
        await exchange.fetch()

    assert len(sandbox.aws.verified_identities) == len(sandbox.namespace.calls) == 3


async def test_a_workspace_that_is_not_named_is_left_out_with_one_warning(
    workload: Workload, sandbox: Sandbox
) -> None:
    exchange = workload.exchange("sts", workspace=None)

    leases = [await exchange.fetch() for _ in range(2)]

    assert [set(call.params) for call in sandbox.namespace.calls] == [{"oidc_token"}] * 2
    assert [lease.value.tenant_id for lease in leases] == ["ws_1"] * 2
    (warning,) = workload.warnings
    assert "no workspace is named" in warning


@BOTH
async def test_nothing_is_watched(workload: Workload, source: str) -> None:
    assert workload.exchange(source).watched() == ()


@pytest.mark.parametrize(
    ("workspace", "pool"), [(None, "6f0a"), ("ws_1", None), ("ws_1", "6f0a"), ("ws_1", "no pool")]
)
def test_cognito_needs_a_workspace_and_a_pool_with_its_region(
    workload: Workload, workspace: str | None, pool: str | None
) -> None:
    with pytest.raises(ValueError, match=r"identity_pool|region"):
        aws_identity_source(
            source="cognito",
            workspace=workspace,
            region=None,
            identity_pool=pool,
            chain=workload.chain,
            iam=workload.iam,
            clock=workload.clock,
            warn=print,
        )


# Answers.


@BOTH
@pytest.mark.parametrize("tenant", [None, {}, {"name": 5}, "text", [], 7])
async def test_everything_but_the_token_may_be_missing(
    presenting: Presenting, source: str, tenant: object
) -> None:
    bearer = bearer_of(ends_at=presenting.clock.now() + timedelta(hours=1))
    presenting.sandbox.fail(
        METHODS[source], status=200, body=json.dumps({"tenant_token": bearer, "tenant": tenant})
    )

    exchanged = await presenting.exchange(source).exchange()

    assert exchanged.lease.value.bearer == bearer
    assert (exchanged.tenant.tenant_id, exchanged.tenant.name) == ("ws_1", None)


@BOTH
async def test_an_answer_may_be_spelled_in_camel_case(presenting: Presenting, source: str) -> None:
    bearer = "nsct_" + jwt_of({"exp": 4000000000})
    body = {"tenantToken": bearer, "tenant": {"tenantId": "ws_9", "name": "N", "appUrl": "x"}}
    presenting.sandbox.fail(METHODS[source], status=200, body=json.dumps(body))

    exchanged = await presenting.exchange(source).exchange()

    assert exchanged.lease.value.bearer == bearer
    assert exchanged.lease.value.tenant_id == "ws_9"
    assert (exchanged.tenant.tenant_id, exchanged.tenant.name) == ("ws_9", "N")


@BOTH
@pytest.mark.parametrize("bearer", ["nsrt_opaque", "nsct_opaque", "nsct_" + jwt_of({"x": 1})])
async def test_a_token_that_does_not_say_when_it_ends_is_kept_for_an_hour(
    presenting: Presenting, source: str, bearer: str
) -> None:
    presenting.sandbox.fail(METHODS[source], status=200, body=json.dumps({"tenant_token": bearer}))

    lease = await presenting.exchange(source).fetch()

    assert lease.value.bearer == bearer
    assert lease.value.tenant_id == "ws_1"
    assert lease.expires_at == lease.issued_at + timedelta(hours=1)


@BOTH
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"tenant_token": ""},
        {"tenant_token": 5},
        {"tenant_token": "nsct_ a"},
        {"tenant_token": "nsct_\n"},
        {"tenant_token": "st_" + jwt_of({"exp": 4000000000})},
        {"tenant_token": "<html>"},
        {"token": "nsct_x"},
    ],
)
async def test_an_answer_without_a_proper_token_is_no_proper_one(
    presenting: Presenting, source: str, body: dict[str, object]
) -> None:
    presenting.sandbox.fail(METHODS[source], status=200, body=json.dumps(body))

    error = await error_of(presenting, source)

    assert (type(error), error.word) == (Unavailable, "bad-answer")


# Not trusted.


async def test_a_role_that_no_trust_relationship_admits_is_told_which_would(
    workload: Workload, sandbox: Sandbox
) -> None:
    (relationship,) = sandbox.namespace.trust_relationships()
    sandbox.namespace.distrust(str(relationship["id"]))

    error = await error_of(workload, "sts")

    assert (type(error), error.word) == (Refused, "access-denied")
    issuer = relationship["issuer"]
    assert f"iss='{issuer}' sub='{workload.arn}'" in str(error)
    assert "aud='https://federation.namespaceapis.com' to workspace ws_1" in str(error)
    assert (
        f'`nsc auth trust-relationships add --issuer "{issuer}" --subject-match "{workload.arn}"`'
    ) in str(error)
    assert "`namespace-broker setup to-namespace --via sts`" in str(error)


async def test_a_pool_that_is_not_trusted_is_told_so(workload: Workload, sandbox: Sandbox) -> None:
    sandbox.namespace.distrust_pool(workload.pool_id)

    error = await error_of(workload, "cognito")

    assert (type(error), error.word) == (Refused, "access-denied")
    assert "iss='https://cognito-identity.amazonaws.com' sub='eu-central-1:" in str(error)
    assert f"aud='{workload.pool_id}'" in str(error)
    guid = workload.pool_id.partition(":")[2]
    assert (
        f"`nsc auth trust-aws-cognito-identity-pool --aws_region {REGION} --identity_pool {guid} "
        '--tenant_id "ws_1"`'
    ) in str(error)
    assert "`namespace-broker setup to-namespace --via cognito`" in str(error)


async def test_a_workspace_that_has_to_be_named_is_told_so(
    workload: Workload, sandbox: Sandbox
) -> None:
    sandbox.namespace.choices.tenant_id_required = True

    with pytest.raises(Refused, match="where several workspaces trust it, name one") as error:
        await workload.exchange("sts", workspace=None).fetch()

    assert error.value.word == "bad-request"


UNTRUSTED = [
    ("INVALID_ARGUMENT", "bad-request"),
    ("NOT_FOUND", "not-found"),
    ("PERMISSION_DENIED", "access-denied"),
    ("FAILED_PRECONDITION", "bad-request"),
]
FINAL = [
    ("CANCELLED", "bad-request"),
    ("ALREADY_EXISTS", "bad-request"),
    ("OUT_OF_RANGE", "bad-request"),
    ("UNIMPLEMENTED", "not-found"),
    ("DATA_LOSS", "bad-request"),
]
PASSING = [
    ("UNKNOWN", "upstream-error"),
    ("DEADLINE_EXCEEDED", "timeout"),
    ("RESOURCE_EXHAUSTED", "throttled"),
    ("ABORTED", "upstream-error"),
    ("INTERNAL", "upstream-error"),
    ("UNAVAILABLE", "upstream-error"),
]


def test_every_code_is_in_one_of_the_tables() -> None:
    told = {code for code, _ in UNTRUSTED + FINAL + PASSING}

    assert told | {"UNAUTHENTICATED"} == set(CODES)


@BOTH
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("code", "word"), UNTRUSTED)
async def test_every_way_of_saying_untrusted_says_what_was_presented_and_what_admits_it(
    presenting: Presenting, sandbox: Sandbox, source: str, code: str, word: str, shape: ErrorShape
) -> None:
    sandbox.fail(METHODS[source], code=code, message="no such luck", shape=shape)

    error = await error_of(presenting, source)

    assert (type(error), error.word) == (Refused, word)
    assert f"{code}: no such luck; presented: iss='https://" in str(error)
    assert f"`namespace-broker setup to-namespace --via {source}`" in str(error)
    assert len(sandbox.namespace.calls) == 1


@BOTH
async def test_unauthenticated_is_believed_of_a_second_fresh_token(
    presenting: Presenting, sandbox: Sandbox, source: str
) -> None:
    sandbox.fail(METHODS[source], code="UNAUTHENTICATED", message="token has expired")

    error = await error_of(presenting, source)

    assert (type(error), error.word) == (Refused, "unauthenticated")
    assert "UNAUTHENTICATED: token has expired; presented: iss='https://" in str(error)
    assert len(sandbox.namespace.calls) == presenting.tokens.fetches == 2


@BOTH
async def test_a_token_that_was_not_taken_once_is_replaced(
    workload: Workload, sandbox: Sandbox, source: str
) -> None:
    sandbox.fail(METHODS[source], code="UNAUTHENTICATED", count=1)

    await workload.exchange(source).fetch()

    assert len(sandbox.aws.verified_identities) == 2


@BOTH
@pytest.mark.parametrize(("code", "word"), FINAL)
async def test_another_final_refusal_is_refused(
    presenting: Presenting, sandbox: Sandbox, source: str, code: str, word: str
) -> None:
    sandbox.fail(METHODS[source], code=code)

    error = await error_of(presenting, source)

    assert (type(error), error.word) == (Refused, word)


@BOTH
@pytest.mark.parametrize(("code", "word"), PASSING)
async def test_a_passing_fault_is_unavailable(
    presenting: Presenting, sandbox: Sandbox, source: str, code: str, word: str
) -> None:
    sandbox.fail(METHODS[source], code=code, headers={"Retry-After": "17"})

    error = await error_of(presenting, source)

    assert isinstance(error, Unavailable)
    assert (error.word, error.retry_after_s) == (word, 17)
    assert len(sandbox.namespace.calls) == 1


# No answer, and answers that are none.

REACTIONS: dict[str, tuple[dict[str, object], str]] = {
    "a page": ({"status": 200, "body": b"<html></html>"}, "bad-answer"),
    "a list": ({"status": 200, "body": b"[]"}, "bad-answer"),
    "nothing": ({"status": 200, "body": b""}, "bad-answer"),
    "another success": ({"status": 204, "body": b""}, "bad-answer"),
    "a redirect": ({"status": 302, "body": b"", "headers": {"Location": "/"}}, "bad-answer"),
    "a page of 404": ({"status": 404, "body": b"<html></html>"}, "bad-answer"),
    "a page of 502": ({"status": 502, "body": b"<html></html>"}, "upstream-error"),
    "10 MiB": ({"status": 200, "body": b"x" * (10 * MIB)}, "bad-answer"),
    "a reset": ({"reset": True}, "unreachable"),
    "half an answer": ({"status": 200, "body": b"{}", "truncated": True}, "bad-answer"),
}


@BOTH
@pytest.mark.parametrize("reaction", REACTIONS)
async def test_what_is_no_answer_is_unavailable(
    presenting: Presenting, sandbox: Sandbox, source: str, reaction: str
) -> None:
    scripted, word = REACTIONS[reaction]
    sandbox.fail(METHODS[source], **scripted)  # type: ignore[arg-type]

    error = await error_of(presenting, source)

    assert (type(error), error.word) == (Unavailable, word), str(error)


async def test_nobody_listening_is_unavailable(presenting: Presenting, http: HttpClient) -> None:
    error = await error_of(presenting, "sts", iam=NamespaceIam(http, "http://127.0.0.1:1"))

    assert (type(error), error.word) == (Unavailable, "unreachable")


async def test_an_upstream_that_hangs_is_given_up(presenting: Presenting, http: HttpClient) -> None:
    async with hanging() as url:
        error = await error_of(presenting, "sts", iam=NamespaceIam(http, url, call_limit_s=0.05))

    assert (type(error), error.word) == (Unavailable, "timeout")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        chunked_answer(200, b"x" * 65536, times=160),
        http_answer(200, b"{" * 500000),
    ],
)
async def test_what_is_no_proper_http_is_unavailable(
    presenting: Presenting, http: HttpClient, answer: bytes
) -> None:
    async with answering(answer) as url:
        error = await error_of(presenting, "sts", iam=NamespaceIam(http, url))

    assert type(error) is Unavailable


async def test_aws_being_down_is_told_as_such(workload: Workload, sandbox: Sandbox) -> None:
    sandbox.fail("GetWebIdentityToken", reset=True)

    error = await error_of(workload, "sts")

    assert isinstance(error, Unavailable)
    assert "STS (http://127.0.0.1:" in str(error)
    assert sandbox.namespace.calls == ()


# No secret in what is said.


@BOTH
async def test_neither_token_is_in_an_error(
    workload: Workload, sandbox: Sandbox, source: str
) -> None:
    await workload.exchange(source).fetch()
    sent = sandbox.namespace.calls[0].params
    token = str(sent.get("oidc_token") or sent["aws_cognito_token"])
    for code in ("PERMISSION_DENIED", "UNAUTHENTICATED", "UNAVAILABLE", "DATA_LOSS"):
        told = f"bad token {token}\n\x1b[31m" + "x" * 1000
        sandbox.fail(METHODS[source], code=code, message=told)

        error = str(await error_of(workload, source))

        assert token not in error
        assert token.split(".")[1] not in error
        assert error.isprintable()
        sandbox.heal()


async def test_a_subject_that_a_shell_would_read_is_quoted(
    workload: Workload, sandbox: Sandbox
) -> None:
    claims = {"iss": "https://x", "sub": 'a"$(touch /tmp/x)`\\', "aud": "y"}
    token = f"<WebIdentityToken>{jwt_of(claims)}</WebIdentityToken>"
    result = f"<GetWebIdentityTokenResult>{token}</GetWebIdentityTokenResult>"
    body = f"<GetWebIdentityTokenResponse>{result}</GetWebIdentityTokenResponse>"
    sandbox.fail("GetWebIdentityToken", status=200, body=body)

    error = await error_of(workload, "sts")

    assert r'--subject-match "a\"\$(touch /tmp/x)\`\\"' in str(error)


# Once, without a daemon.


class Impatient:
    """A clock whose sleepers do not sleep."""

    def __init__(self) -> None:
        self.slept_s: list[float] = []
        self._clock = FakeClock()

    def now(self) -> object:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)


async def test_once_goes_on_over_passing_faults(workload: Workload, sandbox: Sandbox) -> None:
    clock = Impatient()
    sandbox.fail("ExchangeOIDCToken", status=503, count=4)

    exchanged = await exchange_once(workload.exchange("sts"), clock=clock)  # type: ignore[arg-type]

    assert exchanged.tenant.name == "Acme"
    assert clock.slept_s == [1, 2, 4, 8]


async def test_once_gives_up_with_the_last_fault(presenting: Presenting, sandbox: Sandbox) -> None:
    sandbox.fail("ExchangeOIDCToken", status=503)

    with pytest.raises(Unavailable, match="HTTP 503"):
        await exchange_once(presenting.exchange("sts"), clock=SystemClock(), limit_s=0.5)


async def test_once_does_not_repeat_a_refusal(presenting: Presenting, sandbox: Sandbox) -> None:
    sandbox.fail("ExchangeOIDCToken", code="PERMISSION_DENIED")

    with pytest.raises(Refused):
        await exchange_once(presenting.exchange("sts"), clock=SystemClock())

    assert len(sandbox.namespace.calls) == 1
