"""Plain requests and unmodified SDKs for the sandbox's tests."""

import contextlib
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore import UNSIGNED
from botocore.exceptions import ClientError

from broker.sandbox import Sandbox
from broker.sandbox.aws.accounts import IssuedKeys

REGION = "eu-central-1"
FEDERATION = "https://federation.namespaceapis.com"
ONCE = {"total_max_attempts": 1}
_SESSION = get_session()  # parsing botocore's data is most of what a client costs


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer of the query protocol: the result's texts by tag, or code and message."""

    status: int
    code: str | None
    message: str | None
    texts: Mapping[str, str]


@contextlib.asynccontextmanager
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
        yield session


async def sts(
    sandbox: Sandbox,
    action: str,
    params: Mapping[str, str] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send one form to STS, unsigned unless *headers* sign it."""
    form = {"Action": action, "Version": "2011-06-15", **(params or {})}
    async with (
        http() as session,
        session.post(sandbox.aws.url, data=form, headers=headers) as response,
    ):
        return _answer(response.status, await response.text())


async def assume(sandbox: Sandbox, **params: str) -> Answer:
    """AssumeRoleWithWebIdentity, good but for *params*."""
    good = {
        "RoleArn": sandbox.role_arn,
        "RoleSessionName": "nsc.instance=i-abc",
        "WebIdentityToken": sandbox.namespace.id_token(),
    }
    return await sts(sandbox, "AssumeRoleWithWebIdentity", good | params)


async def rpc(
    sandbox: Sandbox, method: str, params: object = None, *, bearer: str | None = None
) -> tuple[int, Any, Mapping[str, str]]:
    """POST one Namespace call and return status, JSON body (None when it is none), headers."""
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    url = f"{sandbox.namespace.url}/{method}"
    async with (
        http() as session,
        session.post(url, json={} if params is None else params, headers=headers) as response,
    ):
        is_json = response.content_type == "application/json"
        body = await response.json() if is_json else None
        return response.status, body, response.headers


async def web_identity_token(sandbox: Sandbox, keys: IssuedKeys, **params: object) -> str:
    """Return a token of the caller's account for Namespace, by STS, valid but for *params*."""
    good: dict[str, object] = {"Audience": [FEDERATION], "SigningAlgorithm": "ES384"}
    async with client("sts", sandbox, keys) as signed:
        answer = await signed.get_web_identity_token(**(good | params))
        return str(answer["WebIdentityToken"])


async def developer_token(
    sandbox: Sandbox, keys: IssuedKeys, pool_id: str, *, login: str = "ws_1", **params: object
) -> str:
    """Return a token of an identity pool for a workspace, by Cognito."""
    async with client("cognito-identity", sandbox, keys, region=pool_id.split(":")[0]) as signed:
        answer = await signed.get_open_id_token_for_developer_identity(
            IdentityPoolId=pool_id, Logins={"namespace.so": login}, **params
        )
        return str(answer["Token"])


@contextlib.asynccontextmanager
async def client(
    service: str,
    sandbox: Sandbox,
    keys: IssuedKeys | None,
    *,
    region: str = REGION,
    url: str | None = None,
    checks: bool = True,
) -> AsyncIterator[Any]:
    """Yield an unmodified aiobotocore client that tries once; without *keys* an unsigned one.

    Without *checks* it leaves it to the service to refuse parameters.
    """
    config = AioConfig(
        signature_version=None if keys else UNSIGNED,
        retries=ONCE,
        read_timeout=2,
        parameter_validation=checks,
    )
    async with _SESSION.create_client(
        service,
        region_name=region,
        endpoint_url=url or sandbox.aws.url,
        aws_access_key_id=keys.access_key_id if keys else None,
        aws_secret_access_key=keys.secret_access_key if keys else None,
        aws_session_token=keys.session_token if keys else None,
        config=config,
    ) as made:
        yield made


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What an SDK was told instead of an answer, and the name of its own class for it."""

    status: int
    code: str
    message: str
    kind: str


async def refusal(call: Awaitable[Any]) -> Refusal:
    """Await a call that has to be refused."""
    with pytest.raises(ClientError) as caught:
        await call
    told = caught.value.response
    return Refusal(
        status=told["ResponseMetadata"]["HTTPStatusCode"],
        code=told["Error"]["Code"],
        message=told["Error"]["Message"],
        kind=type(caught.value).__name__,
    )


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a JWT or of a tenant token, unverified."""
    encoded = token.partition("_")[2] if token.startswith("nsc") else token
    claims: dict[str, Any] = jwt.decode(encoded, options={"verify_signature": False})
    return claims


def _answer(status: int, text: str) -> Answer:
    texts = {
        element.tag.rpartition("}")[2]: element.text or ""
        for element in ElementTree.fromstring(text).iter()
    }
    return Answer(status=status, code=texts.get("Code"), message=texts.get("Message"), texts=texts)
