"""Trouble on demand: every kind of wrong answer, as often as scripted, on a real wire."""

import asyncio
import time
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)
from botocore.parsers import ResponseParserError

from broker.sandbox import Sandbox
from tests.support.sandbox_clients import assume, client, http, refusal, rpc, web_identity_token

TENANT = "nsl.tenants.TenantsService/GetTenant"
ASSUME = "AssumeRoleWithWebIdentity"


async def assumed_by_sdk(sandbox: Sandbox) -> Any:
    async with client("sts", sandbox, None) as unsigned:
        return await unsigned.assume_role_with_web_identity(
            RoleArn=sandbox.role_arn,
            RoleSessionName="nsc.instance=i-abc",
            WebIdentityToken=sandbox.namespace.id_token(),
        )


# Errors as STS spells them: the table of aws-api.md 3, one row each.


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("IDPCommunicationError", 400),
        ("InvalidIdentityToken", 400),
        ("ExpiredTokenException", 400),
        ("IDPRejectedClaim", 403),
        ("AccessDenied", 403),
        ("ValidationError", 400),
        ("PackedPolicyTooLarge", 400),
        ("MalformedPolicyDocument", 400),
        ("RegionDisabledException", 403),
        ("Throttling", 400),
        ("InternalFailure", 500),
        ("ServiceUnavailable", 503),
    ],
)
async def test_a_scripted_code_comes_with_its_usual_status_and_an_sdk_reads_it(
    sandbox: Sandbox, code: str, status: int
) -> None:
    sandbox.fail(ASSUME, code=code, message="because")

    with pytest.raises(ClientError) as refused:
        await assumed_by_sdk(sandbox)

    response = refused.value.response
    assert response["Error"]["Code"] == code
    assert response["Error"]["Message"] == "because"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "ValidationError"),
        (403, "AccessDenied"),
        (429, "Throttling"),
        (502, "InternalFailure"),
    ],
)
async def test_a_status_alone_comes_with_a_code_that_fits(
    sandbox: Sandbox, status: int, code: str
) -> None:
    sandbox.fail(ASSUME, status=status)

    answer = await assume(sandbox)

    assert (answer.status, answer.code) == (status, code)


# The other direction's: the rows of aws-api.md 5 and 6.1.


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("OutboundWebIdentityFederationDisabledException", 403, None),
        ("SessionDurationEscalationException", 403, None),
        ("JWTPayloadSizeExceededException", 400, None),
        ("AccessDenied", 403, "ClientError"),
        ("ExpiredToken", 403, "ClientError"),
        ("InvalidClientTokenId", 403, "ClientError"),
        ("Throttling", 400, "ClientError"),
        ("InternalFailure", 500, "ClientError"),
    ],
)
async def test_an_identity_token_can_be_refused_by_any_code(
    sandbox: Sandbox, code: str, status: int, kind: str | None
) -> None:
    keys = sandbox.aws.role_session(sandbox.guide_by_sts())
    sandbox.fail("GetWebIdentityToken", code=code, message="because", count=1)

    async with client("sts", sandbox, keys) as signed:
        told = await refusal(
            signed.get_web_identity_token(Audience=["x"], SigningAlgorithm="ES384")
        )
    healed = await web_identity_token(sandbox, keys)

    assert (told.status, told.code, told.message) == (status, code, "because")
    assert told.kind == (kind or code)
    assert healed


@pytest.mark.parametrize(
    ("operation", "code", "status"),
    [
        ("EnableOutboundWebIdentityFederation", "FeatureEnabled", 409),
        ("GetOutboundWebIdentityFederationInfo", "FeatureDisabled", 404),
        ("DisableOutboundWebIdentityFederation", "AccessDenied", 403),
        ("EnableOutboundWebIdentityFederation", "ServiceFailure", 500),
    ],
)
async def test_the_switch_of_an_account_can_be_made_to_fail(
    sandbox: Sandbox, operation: str, code: str, status: int
) -> None:
    sandbox.fail(operation, code=code)

    async with client("iam", sandbox, sandbox.aws.add_user("a"), region="us-east-1") as iam:
        told = await refusal(iam._make_api_call(operation, {}))

    assert (told.status, told.code) == (status, code)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"reset": True}, EndpointConnectionError),
        ({"truncated": True}, HTTPClientError),
        ({"status": 502, "body": "<!doctype html><p>bad gateway"}, ResponseParserError),
        ({"status": 200, "body": b""}, ResponseParserError),
        ({"status": 200, "body": "nonsense"}, ResponseParserError),
        ({"status": 200, "body": "<html></html>"}, KeyError),
        ({"status": 403, "body": {"error": "proxy"}}, ResponseParserError),
        ({"status": 302}, ClientError),
        ({"delay_s": 60}, ReadTimeoutError),
    ],
    ids=str,
)
async def test_an_sdk_meets_what_is_no_proper_answer(
    sandbox: Sandbox,
    fault: dict[str, Any],
    error: type[Exception],
) -> None:
    sandbox.fail(ASSUME, **fault)

    with pytest.raises(error):
        await assumed_by_sdk(sandbox)


# On the wire.


async def test_a_reset_is_a_real_one(sandbox: Sandbox) -> None:
    sandbox.fail("GetTenant", reset=True)

    with pytest.raises(aiohttp.ClientOSError, match="reset by peer"):
        await rpc(sandbox, TENANT)

    assert sandbox.namespace.calls[-1].status is None


async def test_a_truncated_answer_announces_more_than_it_sends(sandbox: Sandbox) -> None:
    sandbox.fail("GetTenant", truncated=True)

    async with http() as session:
        url = f"{sandbox.namespace.url}/{TENANT}"
        headers = {"Authorization": f"Bearer {sandbox.namespace.tenant_token()}"}
        async with session.post(url, json={}, headers=headers) as response:
            announced = response.headers["Content-Length"]
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()

    assert response.status == 200
    assert int(announced) > 0


async def test_a_huge_answer_arrives_whole(sandbox: Sandbox) -> None:
    sandbox.fail("workload_token", body=b"x" * 10_000_000)

    url = sandbox.namespace.metadata_url + "/workload_token"
    async with http() as session, session.get(url) as response:
        body = await response.read()

    assert len(body) == 10_000_000


async def test_a_delay_alone_gives_the_true_answer_late(sandbox: Sandbox) -> None:
    sandbox.fail("GetTenant", delay_s=0.2)
    started = time.monotonic()

    status, _, _ = await rpc(sandbox, TENANT, bearer=sandbox.namespace.tenant_token())

    assert status == 200
    assert time.monotonic() - started >= 0.2


async def test_a_hanging_answer_holds_up_no_other_and_not_the_end() -> None:
    async with Sandbox() as sandbox:
        sandbox.fail("GetTenant", delay_s=3600)
        async with asyncio.TaskGroup() as tasks:
            hanging = tasks.create_task(rpc(sandbox, TENANT))
            admitted = await assume(sandbox)
            while not sandbox.namespace.calls_of("GetTenant"):
                await asyncio.sleep(0)
            hanging.cancel()

    assert admitted.status == 200
    assert sandbox.namespace.calls_of("GetTenant")[0].status is None


async def test_headers_are_sent_along(sandbox: Sandbox) -> None:
    sandbox.fail("GetTenant", status=429, headers={"Retry-After": "7"})

    status, _, headers = await rpc(sandbox, TENANT)

    assert (status, headers["Retry-After"]) == (429, "7")


# How often, and for which.


async def test_a_fault_lasts_for_its_count_and_faults_come_in_order(sandbox: Sandbox) -> None:
    sandbox.fail(ASSUME, code="Throttling", count=2)
    sandbox.fail(ASSUME, status=503, count=1)

    codes = [(await assume(sandbox)).code for _ in range(4)]

    assert codes == ["Throttling", "Throttling", "ServiceUnavailable", None]


async def test_a_fault_without_count_lasts_until_healed_or_replaced(sandbox: Sandbox) -> None:
    sandbox.fail(ASSUME, code="Throttling")
    first = [(await assume(sandbox)).code for _ in range(3)]
    sandbox.fail(ASSUME, code="AccessDenied", count=1)
    then = [(await assume(sandbox)).code for _ in range(2)]
    sandbox.fail(ASSUME, code="Throttling")
    sandbox.heal(ASSUME)

    assert first == ["Throttling"] * 3
    assert then == ["AccessDenied", None]
    assert (await assume(sandbox)).code is None


async def test_a_fault_meets_its_operation_only(sandbox: Sandbox) -> None:
    sandbox.fail("IssueIdToken", code="UNAVAILABLE")

    status, _, _ = await rpc(sandbox, TENANT, bearer=sandbox.namespace.tenant_token())

    assert status == 200


async def test_a_star_meets_every_operation_until_all_is_healed(sandbox: Sandbox) -> None:
    sandbox.fail("*", status=503)
    down = [(await assume(sandbox)).status, (await rpc(sandbox, TENANT))[0]]
    sandbox.heal()

    assert down == [503, 503]
    assert (await assume(sandbox)).status == 200
