"""Sign in under a trust that was just made, until both clouds have caught up.

Source: aws-api.md 4, 5, 6.5, 7; namespace-api.md 6.4, 6.5.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from broker.clock import Clock
from broker.credentials import AwsCredentials
from broker.lease import Refused, SourceError, Unavailable
from broker.setup.aws import AwsAccount, AwsApi, AwsRefused, CallerIdentity
from broker.sources.aws.credential_chain import CredentialChain
from broker.sources.namespace.exchange import ExchangedToken, TokenExchange

T = TypeVar("T")

LIMIT_S = 300.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 30.0

SESSION_NAME: Final = "namespace-broker-setup"
SESSION_S: Final = 3600
"""Of the role, to sign in with: an hour is what every role allows, also by chaining."""

NOT_YET_EFFECTIVE: Final = frozenset({"access-denied", "no-provider", "invalid-identity-token"})
"""Refusals, by their word, of a trust that is not yet known everywhere."""

NOT_YET_TRUSTED: Final = NOT_YET_EFFECTIVE | {
    "federation-disabled",
    "not-found",
    "bad-request",
    "unauthenticated",
}
"""Namespace does not document its code for a token that it does not trust: any of these may pass.
Source: namespace-api.md 9.2."""

OnWait = Callable[[float, Refused], None]
"""Called before each pause, with its seconds and the reason."""


async def until_effective(
    attempt: Callable[[], Awaitable[T]],
    *,
    clock: Clock,
    on_wait: OnWait,
    passing: frozenset[str] = NOT_YET_EFFECTIVE,
) -> T:
    """Return what *attempt* obtains, trying again for up to 5 min while it is refused.

    Raises:
        Refused: Of another kind than *passing*; or still so after 5 min.
        Unavailable: As *attempt*.
    """
    waited_s, pause_s = 0.0, FIRST_PAUSE_S
    while True:
        try:
            return await attempt()
        except Refused as error:
            if error.word not in passing or waited_s >= LIMIT_S:
                raise
            pause_s = min(pause_s, LIMIT_S - waited_s)
            on_wait(pause_s, error)
        await clock.sleep(pause_s)
        waited_s += pause_s
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


async def sign_in(exchange: TokenExchange, *, clock: Clock, on_wait: OnWait) -> ExchangedToken:
    """Sign in to Namespace, waiting up to 5 min for what was just made.

    Raises as `until_effective`.
    """

    async def attempt() -> ExchangedToken:
        try:
            return await exchange.exchange()
        except Unavailable as error:
            raise Refused(str(error), word="bad-request") from error

    return await until_effective(attempt, clock=clock, on_wait=on_wait, passing=NOT_YET_TRUSTED)


async def is_admitted(exchange: TokenExchange) -> bool:
    """Try once. Without an answer it is not known to be admitted."""
    try:
        await exchange.exchange()
    except SourceError:
        return False
    return True


async def role_arn_of(aws: AwsApi, name: str) -> str:
    """Return the ARN of a role of the account, with its path.

    Raises:
        Refused: There is none.
    """
    try:
        response = await aws.call("iam", "GetRole", RoleName=name)
    except AwsRefused as refused:
        if refused.code != "NoSuchEntity":
            raise
        raise Refused(
            f"the account has no role {name}; correct --role-name: it is the role that the "
            "workload runs as, which setup does not make",
            word="not-found",
        ) from refused
    return str(response.get("Role", {}).get("Arn", ""))


def is_role(caller: CallerIdentity, role_arn: str) -> bool:
    """Is the caller a session of that role? Its ARN has lost the role's path.

    Source: aws-api.md 5.
    """
    kind, _, rest = caller.arn.rpartition(":")[2].partition("/")
    account, name = role_arn.split(":")[4], role_arn.rpartition("/")[2]
    return kind == "assumed-role" and caller.account == account and rest.partition("/")[0] == name


@asynccontextmanager
async def as_role(
    account: AwsAccount, role_arn: str, *, clock: Clock, ca_bundle: str | None
) -> AsyncIterator[CredentialChain | None]:
    """Have the workload's identity for the block, None where its role does not admit us.

    It is this machine's own where that is the role, else AssumeRole gives it.
    """
    if is_role(account.caller, role_arn):
        yield account.chain
        return
    try:
        response = await account.api.call(
            "sts",
            "AssumeRole",
            RoleArn=role_arn,
            RoleSessionName=SESSION_NAME,
            DurationSeconds=SESSION_S,
        )
    except AwsRefused:
        yield None
        return
    keys = _keys_in(response, role_arn)
    async with CredentialChain(clock=clock, keys=keys, ca_bundle=ca_bundle) as assumed:
        yield assumed


def _keys_in(response: Any, role_arn: str) -> AwsCredentials:
    keys = response.get("Credentials") or {}
    try:
        return AwsCredentials(
            access_key_id=keys["AccessKeyId"],
            secret_access_key=keys["SecretAccessKey"],
            session_token=keys["SessionToken"],
            role_arn=role_arn,
        )
    except KeyError as error:
        raise Unavailable("STS answered AssumeRole without keys", word="bad-answer") from error
