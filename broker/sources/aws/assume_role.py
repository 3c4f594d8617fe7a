"""AWS credentials for an ID token, by STS. Calls unsigned, so imports botocore, and late."""

import asyncio
import os
import re
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from broker.clock import Clock
from broker.credentials import AwsCredentials, IdToken, Role
from broker.lease import Lease, Refused, Source, Stale, Unavailable
from broker.sources.aws.credential_chain import call_error, client_settings
from broker.sources.aws.durations import HOUR_S, FixedDuration, LongestDuration
from broker.sources.aws.errors import RoleRefused, assume_role_error
from broker.sources.aws.explain import RoleReader
from broker.sources.aws.why_not import explained
from broker.sources.redact import redacted

CALL_LIMIT_S = 15.0
"""The whole call, making the client included."""

DNS_SUFFIXES: Final[Mapping[str, str]] = {
    "cn-": "amazonaws.com.cn",
    "eu-isoe-": "cloud.adc-e.uk",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
}
"""By how a region's name begins; every other is below amazonaws.com. A test holds this against
botocore's own table."""


class AssumedRole:
    """AWS credentials for one role, bought with a fresh ID token in every attempt."""

    def __init__(
        self,
        role: Role,
        *,
        token: Source[IdToken],
        sts: "StsClient",
        warn: Callable[[str], None],
        clock: Clock | None = None,
        roles: RoleReader | None = None,
    ) -> None:
        """*warn* is told once, in a sentence, when the role does not allow the wanted duration.

        *roles* is asked for the role where it does not admit us, so that the error can say why;
        by the role's own credentials from before, where by *clock* they still live.
        """
        self._role = role
        self._token = token
        self._sts = sts
        self._warn = warn
        self._clock = clock
        self._roles = roles
        self._last: Lease[AwsCredentials] | None = None
        self._duration = (
            LongestDuration()
            if role.duration_s is None
            else FixedDuration(role.duration_s, too_long=self._warn_of_duration)
        )

    async def fetch(self) -> Lease[AwsCredentials]:
        """Issue credentials that last ``role.duration_s``, or what the role allows.

        Raises:
            Refused: The role, or AWS, does not admit this identity.
            Unavailable: STS, or Namespace, gave no proper answer.
        """
        return await self._duration.apply(self._assumed)

    async def _assumed(self, duration_s: int) -> Lease[AwsCredentials]:
        try:
            return await self._once(duration_s)
        except Stale:
            pass
        try:
            return await self._once(duration_s)
        except Stale as stale:
            raise Refused(
                f"{stale}, also with a second, fresh ID token; is this machine's clock right?",
                word="expired-token",
            ) from stale

    async def _once(self, duration_s: int) -> Lease[AwsCredentials]:
        token = (await self._token.fetch()).value
        try:
            self._last = await self._sts.assume_role(self._role, token, duration_s=duration_s)
        except RoleRefused as refused:
            raise await self._explained(refused, token) from refused
        return self._last

    async def _explained(self, refused: RoleRefused, token: IdToken) -> Refused:
        """Return the refusal with the condition that fails, where somebody may read the role."""
        if self._roles is None:
            return refused
        found = await self._roles.read(self._role, held=self._held())
        return refused if found is None else explained(refused, found, role=self._role, token=token)

    def _held(self) -> AwsCredentials | None:
        last, clock = self._last, self._clock
        if last is None or clock is None or not last.is_live(now=clock.now()):
            return None
        return last.value

    def _warn_of_duration(self, duration_s: int) -> None:
        self._warn(
            f"roles.{self._role.name}.duration_s: {self._role.arn} does not allow {duration_s} s, "
            f"so {HOUR_S} s is used; raise its MaxSessionDuration, or set duration_s to {HOUR_S} "
            'or "max"'
        )


class StsClient:
    """STS over unsigned calls, one client per region, made when first needed.

    Reads neither the chain credentials nor the shared AWS configuration, whose endpoint_url
    would redirect the call: what is passed here stands, beside AWS_CA_BUNDLE and the proxies.

    Source: aws-api 2.1, 2.2.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        endpoint: str | None = None,
        ca_bundle: str | None = None,
        call_limit_s: float = CALL_LIMIT_S,
    ) -> None:
        """*endpoint* stands for every region's own. Use as a context manager, or `close` it."""
        self._call_limit_s = call_limit_s
        self._clock = clock
        self._endpoint = endpoint
        self._ca_bundle = ca_bundle
        self._clients: dict[str, Any] = {}
        self._one_at_a_time = asyncio.Lock()
        self._leaving = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection. A later call opens new ones."""
        self._clients.clear()
        await self._leaving.aclose()

    async def assume_role(
        self, role: Role, token: IdToken, *, duration_s: int
    ) -> Lease[AwsCredentials]:
        """Call AssumeRoleWithWebIdentity once.

        Raises:
            DurationTooLong, Refused: A proper no.
            Stale: The ID token is no good any more, or not yet.
            Unavailable: No proper answer.

        Source: aws-api 3.
        """
        asked_at = self._clock.now()
        of = f"STS ({self._endpoint or role.region})"
        try:
            async with asyncio.timeout(self._call_limit_s):
                client = await self._client(role.region)
                answer = await client.assume_role_with_web_identity(
                    **_parameters(role, token, duration_s=duration_s)
                )
        # botocore's parsers raise bare KeyErrors and worse on bodies that they do not expect.
        except Exception as error:
            raise call_error(
                error,
                of=of,
                answered=partial(assume_role_error, role=role, token=token, of=of),
                check=f"check roles.{role.name} in the configuration",
                endpoint_named_by="AWS_ENDPOINT_URL_STS",
                hiding=[token.jwt],
            ) from error
        return _lease_in(answer, role=role, asked_at=asked_at, of=of)

    async def _client(self, region: str) -> Any:
        async with self._one_at_a_time:
            if region not in self._clients:
                self._clients[region] = await self._new_client(region)
            return self._clients[region]

    async def _new_client(self, region: str) -> Any:
        # In a thread, because it takes a fifth of a second in which others are to be served.
        session, config = await asyncio.to_thread(_botocore)
        return await self._leaving.enter_async_context(
            session.create_client(
                "sts",
                region_name=region,
                endpoint_url=self._endpoint or regional_sts_url(region),
                verify=self._ca_bundle,
                config=config,
            )
        )


def regional_sts_url(region: str) -> str:
    """Return the region's own STS endpoint, never the global one.

    Raises:
        Refused: *region* is none.

    Source: aws-api 2.2.
    """
    if not re.fullmatch(r"[a-z]+(-[a-z]+)+-\d+", region, re.ASCII):
        raise Refused(
            f"{redacted(region)!r} is no AWS region; set region to one such as eu-central-1",
            word="bad-request",
        )
    suffix = next(
        (suffix for start, suffix in DNS_SUFFIXES.items() if region.startswith(start)),
        "amazonaws.com",
    )
    return f"https://sts.{region}.{suffix}"


def _botocore() -> tuple[Any, Any]:
    """Return a session that reads no file of the user's, and the configuration for its clients."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession
    from botocore import UNSIGNED

    session = AioSession(
        session_vars={
            # name: (key in the file, variable, default, conversion)
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    config = AioConfig(signature_version=UNSIGNED, **client_settings("STS", with_endpoint=True))
    return session, config


def _parameters(role: Role, token: IdToken, *, duration_s: int) -> dict[str, Any]:
    optional = {
        "Policy": role.policy,
        "PolicyArns": [{"arn": arn} for arn in role.policy_arns] or None,
    }
    return {
        "RoleArn": role.arn,
        "RoleSessionName": role.session_name or token.session_name,
        "WebIdentityToken": token.jwt,
        "DurationSeconds": duration_s,
        **{name: value for name, value in optional.items() if value is not None},
    }


def _lease_in(answer: object, *, role: Role, asked_at: datetime, of: str) -> Lease[AwsCredentials]:
    found = answer.get("Credentials") if isinstance(answer, dict) else None
    keys = found if isinstance(found, dict) else {}
    texts = [keys.get(name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
    expires_at = keys.get("Expiration")
    if not all(_is_a_key(text) for text in texts) or not isinstance(expires_at, datetime):
        raise Unavailable(f"{of} answered without proper credentials", word="bad-answer")
    access_key_id, secret_access_key, session_token = map(str, texts)
    return Lease(
        value=AwsCredentials(
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            session_token=session_token,
            role_arn=role.arn,
        ),
        issued_at=asked_at,
        # Aware already, but perhaps in the zone of this machine. Source: aws-api 2.5.
        expires_at=expires_at.astimezone(UTC),
    )


def _is_a_key(text: object) -> bool:
    # What the surfaces can serve: of visible ASCII, all but the quote and the backslash (C-46).
    return isinstance(text, str) and re.fullmatch(r"[!#-\[\]-~]+", text) is not None
