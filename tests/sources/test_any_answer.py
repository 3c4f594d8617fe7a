"""Whatever an upstream answers ends in a lease or in one of our own errors, through real HTTP."""

import json
from collections.abc import Awaitable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from broker.clock import SystemClock
from broker.lease import Lease, Refused, SourceError, Unavailable
from broker.sources.aws.assume_role import StsClient
from broker.sources.aws.credential_chain import CredentialChain
from broker.sources.aws.web_identity import DeveloperTokenFor, IdentityPoolId, WebIdentityTokenFor
from broker.sources.http_client import HttpClient
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.exchange import OidcExchange
from broker.sources.namespace.id_token import IdTokenFor
from broker.sources.namespace.identity import identity_source
from tests.support.fakes import ScriptedSource, inline
from tests.support.sources import (
    REGION,
    Pipeline,
    answering,
    http_answer,
    jwt_of,
    some_aws_token,
    some_id_token,
    some_role,
    spec_of,
)

anything = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(), inner, max_size=4),
    max_leaves=10,
)
claims = some.dictionaries(
    some.sampled_from(["exp", "iat", "iss", "sub", "aud", "tenant_id"]), anything, max_size=6
)
tokens = claims.map(jwt_of) | claims.map(lambda one: "nscw_" + jwt_of(one)) | some.text()
json_bodies = (
    some.dictionaries(
        some.sampled_from(["id_token", "idToken", "tenant_token", "tenant", "Token", "code"]),
        tokens | anything,
    )
    | anything
).map(lambda document: json.dumps(document).encode())
xml_bodies = some.lists(
    some.sampled_from(
        [
            "<AssumeRoleWithWebIdentityResponse>",
            "</AssumeRoleWithWebIdentityResponse>",
            "<AssumeRoleWithWebIdentityResult>",
            "</AssumeRoleWithWebIdentityResult>",
            "<Credentials>",
            "</Credentials>",
            "<AccessKeyId>ASIAX</AccessKeyId>",
            "<GetWebIdentityTokenResponse><GetWebIdentityTokenResult>",
            "</GetWebIdentityTokenResult></GetWebIdentityTokenResponse>",
            "<WebIdentityToken>",
            "a.e30.c",
            "</WebIdentityToken>",
            "<Expiration>x</Expiration>",
            "<Expiration>2031-05-01T12:00:00Z</Expiration>",
            "<ErrorResponse><Error><Code>",
            "</Code></Error></ErrorResponse>",
            "<Error/>",
            "text",
            "&amp;",
            "&x;",
        ]
    ),
    max_size=12,
).map(lambda parts: "".join(parts).encode())
statuses = some.sampled_from([200, 200, 200, 201, 302, 400, 401, 403, 404, 429, 500, 503])


async def error_of(asking: Awaitable[object]) -> SourceError | None:
    """Return the error it ended in; one of another kind is not caught."""
    try:
        await asking
    except SourceError as error:
        return error
    return None


@settings(max_examples=60)
@given(body=json_bodies | some.binary(max_size=300), status=statuses)
async def test_of_namespace(body: bytes, status: int) -> None:
    clock = SystemClock()
    async with answering(http_answer(status, body)) as url, HttpClient() as http:
        iam = NamespaceIam(http, url)
        held = Pipeline(sandbox=None, http=http, iam=iam, sts=None, clock=clock)  # type: ignore[arg-type]
        source = IdTokenFor("aud", bearer=held.holding("nsrt_x"), iam=iam, clock=clock)

        error = await error_of(source.fetch())

    assert error is None or isinstance(error, Unavailable | Refused)
    assert str(error or "").isprintable()


@settings(max_examples=60)
@given(
    body=tokens.map(lambda token: token.encode(errors="replace")) | some.binary(max_size=300),
    status=statuses,
)
async def test_of_the_metadata_service(body: bytes, status: int) -> None:
    async with answering(http_answer(status, body)) as url, HttpClient() as http:
        source = identity_source(
            run=inline,
            source="auto",
            token_file=None,
            token_spec=None,
            environ={"NSC_TOKEN_SPEC": spec_of({"version": "v1", "metadata_url": url})},
            iam=NamespaceIam(http, url),
            http=http,
            clock=SystemClock(),
        )

        error = await error_of(source.fetch())

    assert error is None or isinstance(error, Unavailable)
    assert str(error or "").isprintable()


@settings(max_examples=40)
@given(body=xml_bodies | some.binary(max_size=300), status=statuses)
async def test_of_sts(body: bytes, status: int) -> None:
    async with answering(http_answer(status, body)) as url, HttpClient() as http:
        sts = StsClient(http, clock=SystemClock(), endpoint=url)
        error = await error_of(sts.assume_role(some_role(), some_id_token(), duration_s=3600))

    assert error is None or isinstance(error, Unavailable | Refused)
    assert str(error or "").isprintable()


@settings(max_examples=60)
@given(body=json_bodies | some.binary(max_size=300), status=statuses)
async def test_of_namespace_to_an_exchange(body: bytes, status: int) -> None:
    clock = SystemClock()
    token = Lease(value=some_aws_token(), issued_at=clock.now(), expires_at=None)
    async with answering(http_answer(status, body)) as url, HttpClient() as http:
        source = OidcExchange(
            ScriptedSource(token),
            iam=NamespaceIam(http, url),
            clock=clock,
            tenant_id="ws_1",
            warn=print,
        )

        error = await error_of(source.fetch())

    assert error is None or isinstance(error, Unavailable | Refused)
    assert str(error or "").isprintable()


@pytest.fixture
def _keys_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAX")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")


@pytest.mark.usefixtures("_keys_in_the_environment")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=xml_bodies | some.binary(max_size=300), status=statuses)
async def test_of_sts_to_a_signed_call(body: bytes, status: int) -> None:
    clock = SystemClock()
    async with answering(http_answer(status, body)) as url, CredentialChain(clock=clock) as chain:
        source = WebIdentityTokenFor("aud", chain=chain, clock=clock, region=REGION, endpoint=url)

        error = await error_of(source.fetch())

    assert error is None or isinstance(error, Unavailable | Refused)
    assert str(error or "").isprintable()


@pytest.mark.usefixtures("_keys_in_the_environment")
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=json_bodies | some.binary(max_size=300), status=statuses)
async def test_of_cognito(body: bytes, status: int) -> None:
    clock = SystemClock()
    pool = IdentityPoolId(region=REGION, guid="6f0a")
    async with answering(http_answer(status, body)) as url, CredentialChain(clock=clock) as chain:
        source = DeveloperTokenFor("ws_1", pool=pool, chain=chain, clock=clock, endpoint=url)

        error = await error_of(source.fetch())

    assert error is None or isinstance(error, Unavailable | Refused)
    assert str(error or "").isprintable()
