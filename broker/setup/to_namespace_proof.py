"""Sign in to Namespace as the workload will: as its role where the identity at hand may, with
tokens of AWS as the daemon draws them. Knows no plan.

Source: aws-api.md 4, 5, 7; namespace-api.md 6.4, 6.5.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from broker.clock import Clock
from broker.credentials import AwsCredentials
from broker.lease import Refused, SourceError, Unavailable
from broker.setup.aws_api import AwsApi, Caller, Endpoints
from broker.setup.aws_errors import AwsRefused
from broker.setup.proof import NOT_HEARD_OF_YET, proven
from broker.setup.to_namespace import ByCognito, BySts
from broker.setup.wanted import Place
from broker.sources.aws.credential_chain import CredentialChain
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.exchange import ExchangedToken, TokenExchange, aws_identity_source

SESSION_NAME: Final = "namespace-broker-setup"
SESSION_S: Final = 3600
"""Of the role, to prove it with: an hour is what every role allows, also by chaining."""

PASSING: Final = NOT_HEARD_OF_YET | {
    "federation-disabled",
    "not-found",
    "bad-request",
    "unauthenticated",
}
"""Which code Namespace has for a token that it does not trust is not known: any may pass.
Source: namespace-api.md 9.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What signing in goes through."""

    iam: NamespaceIam
    clock: Clock
    place: Place
    endpoints: Endpoints
    ca_bundle: str | None = None


async def role_arn_of(aws: AwsApi, name: str) -> str:
    """Return the ARN of a role of the account, with its path.

    Raises:
        Refused: There is none.
    """
    try:
        told = await aws.call("iam", "GetRole", RoleName=name)
    except AwsRefused as refused:
        if refused.code != "NoSuchEntity":
            raise
        raise Refused(
            f"the account has no role {name}; correct --role-name: it is the role that the "
            "workload runs as, which setup does not make",
            word="not-found",
        ) from refused
    return str(told.get("Role", {}).get("Arn", ""))


def is_role(caller: Caller, role_arn: str) -> bool:
    """Is the caller a session of that role? Its ARN has lost the role's path.
    Source: aws-api.md 5."""
    kind, _, rest = caller.arn.rpartition(":")[2].partition("/")
    account, name = role_arn.split(":")[4], role_arn.rpartition("/")[2]
    return kind == "assumed-role" and caller.account == account and rest.partition("/")[0] == name


@asynccontextmanager
async def as_role(
    aws: AwsApi, *, role_arn: str, caller: Caller, chain: CredentialChain, reach: Reach
) -> AsyncIterator[CredentialChain | None]:
    """The workload's identity for the block: the one at hand where that is it, else one that
    AssumeRole gives; None where the role does not let the identity at hand in."""
    if is_role(caller, role_arn):
        yield chain
        return
    try:
        told = await aws.call(
            "sts",
            "AssumeRole",
            RoleArn=role_arn,
            RoleSessionName=SESSION_NAME,
            DurationSeconds=SESSION_S,
        )
    except AwsRefused:
        yield None
        return
    keys = _keys_in(told, role_arn)
    async with CredentialChain(clock=reach.clock, keys=keys, ca_bundle=reach.ca_bundle) as assumed:
        yield assumed


def _keys_in(told: Any, role_arn: str) -> AwsCredentials:
    keys = told.get("Credentials") or {}
    try:
        return AwsCredentials(
            access_key_id=keys["AccessKeyId"],
            secret_access_key=keys["SecretAccessKey"],
            session_token=keys["SessionToken"],
            role_arn=role_arn,
        )
    except KeyError as error:
        raise Unavailable("STS answered AssumeRole without keys", word="bad-answer") from error


def signing_in(
    asked: BySts | ByCognito, *, chain: CredentialChain, reach: Reach, pool_id: str | None = None
) -> TokenExchange:
    """Return what signs in as the daemon does; *pool_id* is Cognito's, ``region:guid``."""
    by_sts = isinstance(asked, BySts)
    return aws_identity_source(
        source="sts" if by_sts else "cognito",
        workspace=reach.place.workspace,
        region=reach.place.region,
        chain=chain,
        iam=reach.iam,
        clock=reach.clock,
        warn=_nothing_to_warn_of,
        identity_pool=pool_id,
        sts_endpoint=reach.endpoints.sts,
        cognito_endpoint=reach.endpoints.cognito,
        **_of_sts(asked),
    )


def _of_sts(asked: BySts | ByCognito) -> dict[str, Any]:
    if isinstance(asked, ByCognito):
        return {}
    return {
        "audience": asked.audience,
        "algorithm": asked.algorithm,
        "duration_s": asked.duration_s,
    }


def _nothing_to_warn_of(_: str) -> None:
    """The workspace is always named here."""


async def is_admitted(exchange: TokenExchange) -> bool:
    """Try once. What gives no answer is not known to admit."""
    try:
        await exchange.exchange()
    except SourceError:
        return False
    return True


async def signed_in(
    exchange: TokenExchange, *, clock: Clock, waiting: Callable[[float, Refused], None]
) -> ExchangedToken:
    """Sign in, waiting up to 5 min for what was just made to be known everywhere.

    Raises: As `proof.proven`.
    """

    async def attempt() -> ExchangedToken:
        try:
            return await exchange.exchange()
        except Unavailable as error:
            raise Refused(str(error), word="bad-request") from error

    return await proven(attempt, clock=clock, waiting=waiting, passing=PASSING)
