"""Signatures are recomputed: what an SDK signs is accepted, what was touched is not."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from broker.sandbox import Sandbox, sandbox_in_thread
from broker.sandbox.aws.accounts import IssuedKeys
from tests.support.fakes import FakeClock
from tests.support.sandbox_clients import REGION, Answer, client, http, sts

FORM = "Action=GetCallerIdentity&Version=2011-06-15"


async def identity(
    sandbox: Sandbox,
    keys: IssuedKeys,
    *,
    touch: Callable[[AWSRequest], None] | None = None,
    service: str = "sts",
) -> Answer:
    """GetCallerIdentity, signed by botocore, then changed by *touch*."""
    content_type = {"Content-Type": "application/x-www-form-urlencoded"}
    request = AWSRequest("POST", sandbox.aws.url + "/", headers=content_type, data=FORM)
    credentials = Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
    SigV4Auth(credentials, service, REGION).add_auth(request)
    if touch is not None:
        touch(request)
    headers = {name: value for name, value in request.headers.items() if name != "Content-Type"}
    params = dict(pair.split("=") for pair in str(request.data).split("&"))
    return await sts(sandbox, params.pop("Action"), params, headers=headers)


@pytest.fixture
def keys(sandbox: Sandbox) -> IssuedKeys:
    return sandbox.aws.role_session(sandbox.role_arn, session_name="here")


async def test_aiobotocore_is_told_who_it_is(sandbox: Sandbox, keys: IssuedKeys) -> None:
    async with client("sts", sandbox, keys) as signed:
        answer = await signed.get_caller_identity()

    seen = sandbox.aws.verified_identities
    assert answer["Arn"] == "arn:aws:sts::123456789012:assumed-role/deploy/here"
    assert answer["UserId"].startswith("AROA")
    assert answer["Account"] == "123456789012"
    assert [(one.access_key_id, one.session_token) for one in seen] == [
        (keys.access_key_id, keys.session_token)
    ]


def test_boto3_is_told_who_it_is() -> None:
    with sandbox_in_thread() as sandbox:
        keys = sandbox.aws.add_user("alice")
        signed = boto3.client(
            "sts",
            region_name=REGION,
            endpoint_url=sandbox.aws.url,
            aws_access_key_id=keys.access_key_id,
            aws_secret_access_key=keys.secret_access_key,
        )
        answer = signed.get_caller_identity()
        signed.close()

        assert answer["Arn"] == "arn:aws:iam::123456789012:user/alice"
        assert [one.arn for one in sandbox.aws.verified_identities] == [answer["Arn"]]


def _set(name: str, value: str) -> Callable[[AWSRequest], None]:
    def touch(request: AWSRequest) -> None:
        del request.headers[name]
        request.headers[name] = value

    return touch


def _drop(name: str) -> Callable[[AWSRequest], None]:
    def touch(request: AWSRequest) -> None:
        del request.headers[name]

    return touch


def _swap(old: str, new: str) -> Callable[[AWSRequest], None]:
    def touch(request: AWSRequest) -> None:
        _set("Authorization", request.headers["Authorization"].replace(old, new))(request)

    return touch


def _other_body(request: AWSRequest) -> None:
    request.data = FORM + "&Extra=1"


@pytest.mark.parametrize(
    ("touch", "status", "code"),
    [
        pytest.param(_other_body, 403, "SignatureDoesNotMatch", id="body"),
        pytest.param(_swap(REGION, "eu-west-1"), 403, "SignatureDoesNotMatch", id="region"),
        pytest.param(_swap("Signature=", "Signature=0"), 400, "IncompleteSignature", id="length"),
        pytest.param(
            _swap(";x-amz-security-token", ""), 403, "SignatureDoesNotMatch", id="unsigned-token"
        ),
        pytest.param(_swap("host;", ""), 403, "SignatureDoesNotMatch", id="unsigned-host"),
        pytest.param(_swap("ASIA", "ASIB"), 403, "InvalidClientTokenId", id="unknown-key"),
        pytest.param(
            _set("X-Amz-Security-Token", "another"), 403, "InvalidClientTokenId", id="other-token"
        ),
        pytest.param(_drop("X-Amz-Security-Token"), 403, "InvalidClientTokenId", id="no-token"),
        pytest.param(_drop("X-Amz-Date"), 400, "IncompleteSignature", id="no-date"),
        pytest.param(
            _set("X-Amz-Date", "20200101T000000Z"), 403, "SignatureDoesNotMatch", id="other-day"
        ),
        pytest.param(_drop("Authorization"), 403, "MissingAuthenticationToken", id="unsigned"),
        pytest.param(
            _set("Authorization", "Bearer x"), 400, "IncompleteSignature", id="other-scheme"
        ),
    ],
)
async def test_a_request_touched_after_signing_is_refused(
    sandbox: Sandbox,
    keys: IssuedKeys,
    touch: Callable[[AWSRequest], None],
    status: int,
    code: str,
) -> None:
    answer = await identity(sandbox, keys, touch=touch)

    assert (answer.status, answer.code) == (status, code)
    assert not sandbox.aws.verified_identities


async def test_the_same_request_untouched_is_accepted(sandbox: Sandbox, keys: IssuedKeys) -> None:
    assert (await identity(sandbox, keys)).status == 200


async def test_another_secret_does_not_sign_for_the_key(sandbox: Sandbox, keys: IssuedKeys) -> None:
    answer = await identity(sandbox, replace(keys, secret_access_key="x" * 40))

    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


async def test_a_signature_for_another_service_does_not_open_sts(
    sandbox: Sandbox, keys: IssuedKeys
) -> None:
    answer = await identity(sandbox, keys, service="iam")

    assert (answer.status, answer.code) == (400, "InvalidAction")


async def test_credentials_that_ended_are_expired(sandbox: Sandbox) -> None:
    ended = sandbox.aws.role_session(sandbox.role_arn, lifetime_s=-1)

    answer = await identity(sandbox, ended)

    assert (answer.status, answer.code) == (403, "ExpiredToken")


@pytest.mark.parametrize(("minutes", "status"), [(14, 200), (-14, 200), (16, 403), (-16, 403)])
async def test_a_signature_may_be_fifteen_minutes_off(minutes: int, status: int) -> None:
    shift = timedelta(minutes=minutes)
    async with Sandbox(now=lambda: datetime.now(UTC) + shift) as sandbox:
        answer = await identity(sandbox, sandbox.aws.role_session(sandbox.role_arn))

    assert answer.status == status
    assert answer.code == (None if status == 200 else "SignatureDoesNotMatch")


async def test_a_sandbox_of_one_region_takes_no_signature_for_another() -> None:
    async with Sandbox(region="us-west-2") as sandbox:
        answer = await identity(sandbox, sandbox.aws.role_session(sandbox.role_arn))

    assert answer.code == "SignatureDoesNotMatch"
    assert "expecting 'us-west-2'" in (answer.message or "")


async def test_the_date_header_is_the_sandboxs_clock(timed: Sandbox, clock: FakeClock) -> None:
    await clock.advance(minutes=5)

    async with http() as session, session.get(timed.namespace.metadata_url + "/id") as response:
        told = response.headers["Date"]

    assert told == "Wed, 02 Jan 2030 03:09:05 GMT"


async def test_an_sdk_sees_the_refusal_as_an_error_of_that_code(
    sandbox: Sandbox, keys: IssuedKeys
) -> None:
    wrong: Any = replace(keys, session_token="another")

    async with client("sts", sandbox, wrong) as signed:
        with pytest.raises(ClientError) as refused:
            await signed.get_caller_identity()

    assert refused.value.response["Error"]["Code"] == "InvalidClientTokenId"
