"""Exchange an ID token for AWS credentials of a role: one unsigned call to STS."""

import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol, TypeVar
from urllib.parse import urlencode

from yarl import URL

from broker import aws
from broker.clock import Clock
from broker.credentials import AwsCredentials, IdToken, Role
from broker.lease import Lease, Refused, Source, SourceError, Stale, Unavailable
from broker.sources.aws.errors import (
    STS_VARIABLE,
    AwsError,
    DurationTooLong,
    RoleRefused,
    assume_role_error,
    no_aws_answer,
)
from broker.sources.aws.explain import RoleReader, explain_refusal
from broker.sources.aws.xml import HostileXml, parse_xml
from broker.sources.http_client import HttpClient, load_ca_bundle, may_be_plain, retry_after_s
from broker.sources.jwt import to_local
from broker.sources.redact import redacted

T = TypeVar("T")

CALL_LIMIT_S = 15.0

LATE: Final = timedelta(minutes=5)
"""By how much an end may lie beyond what was asked for before the clocks must differ."""

HOUR_S = 3600
MAX_HOURS = aws.SESSION_MAX_S // HOUR_S


class AssumedRole:
    """AWS credentials for one role, with a fresh ID token in every attempt."""

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
        """*warn* receives one sentence, once, when the role does not allow the duration.

        *roles* reads a role that does not admit us, so that the error can say why: with the role's
        own earlier credentials, where by *clock* they still live.
        """
        self._role = role
        self._token = token
        self._sts = sts
        self._warn = warn
        self._clock = clock
        self._roles = roles
        self._last: Lease[AwsCredentials] | None = None
        self._duration: Duration = (
            LongestDuration()
            if role.duration_s is None
            else FixedDuration(role.duration_s, on_too_long=self._warn_of_duration)
        )

    async def fetch(self) -> Lease[AwsCredentials]:
        """Issue credentials that last ``role.duration_s``, or what the role allows.

        Raises:
            Refused: The role, or AWS, does not admit this identity.
            Unavailable: STS, or Namespace, gave no proper answer.
        """
        return await self._duration.apply(self._assume)

    async def _assume(self, duration_s: int) -> Lease[AwsCredentials]:
        try:
            return await self._assume_once(duration_s)
        except Stale:
            pass
        try:
            return await self._assume_once(duration_s)
        except Stale as stale:
            raise Refused(
                f"{stale}, also with a second, fresh ID token; is this machine's clock right?",
                word="expired-token",
            ) from stale

    async def _assume_once(self, duration_s: int) -> Lease[AwsCredentials]:
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
        found = await self._roles.read(self._role, own=self._own_credentials())
        if found is None:
            return refused
        return explain_refusal(refused, found, role=self._role, token=token)

    def _own_credentials(self) -> AwsCredentials | None:
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


# How long a session may be asked to last, when only the role itself knows.

Assume = Callable[[int], Awaitable[Lease[T]]]
"""Assumes the role for that many seconds; raises `DurationTooLong` where it does not allow them."""


class Duration(Protocol):
    """Chooses the duration to ask for."""

    async def apply(self, assume: Assume[T]) -> Lease[T]:
        """Issue a lease by *assume*. Raises what that raises."""


class FixedDuration:
    """So many seconds; an hour, which every role allows, once these were found too many."""

    def __init__(self, duration_s: int, *, on_too_long: Callable[[int], None]) -> None:
        """*on_too_long* receives, once, the duration that the role did not allow."""
        self._duration_s = duration_s
        self._on_too_long = on_too_long

    async def apply(self, assume: Assume[T]) -> Lease[T]:
        try:
            return await assume(self._duration_s)
        except DurationTooLong:
            if self._duration_s <= HOUR_S:
                raise
        lease = await assume(HOUR_S)
        self._on_too_long(self._duration_s)
        self._duration_s = HOUR_S
        return lease


class LongestDuration:
    """The longest whole hours that the role allows, found by bisection and remembered.

    Searched for again when the role allows less than before.
    """

    def __init__(self) -> None:
        self._forget()

    async def apply(self, assume: Assume[T]) -> Lease[T]:
        try:
            return await self._search(assume)
        except DurationTooLong:
            if not self._is_known:
                raise
        self._forget()
        return await self._search(assume)

    @property
    def _is_known(self) -> bool:
        return self._allowed_h + 1 == self._refused_h

    async def _search(self, assume: Assume[T]) -> Lease[T]:
        lease: Lease[T] | None = None
        while not self._is_known:
            try:
                lease = await assume(self._next_h * HOUR_S)
                self._allowed_h = self._next_h
            except DurationTooLong:
                self._refused_h = self._next_h
            except SourceError:
                # A lease found on the way is as good as any; the search goes on next time.
                if lease is None:
                    raise
                return lease
        return lease if lease is not None else await assume(self._allowed_h * HOUR_S)

    @property
    def _next_h(self) -> int:
        """The middle; but first the maximum, which many roles allow."""
        if self._refused_h > MAX_HOURS:
            return MAX_HOURS
        return (self._allowed_h + self._refused_h) // 2

    def _forget(self) -> None:
        self._allowed_h, self._refused_h = 1, MAX_HOURS + 1


# The call.


class StsClient:
    """AssumeRoleWithWebIdentity as a plain form POST, which takes no signature.

    Reads neither AWS credentials nor the shared AWS configuration, whose endpoint_url would
    redirect the call.

    Source: aws-api 2.1, 2.2, 3.
    """

    def __init__(
        self,
        http: HttpClient,
        *,
        clock: Clock,
        endpoint: str | None = None,
        ca_bundle: str | None = None,
        use_fips: bool = False,
        use_dualstack: bool = False,
        call_limit_s: float = CALL_LIMIT_S,
    ) -> None:
        """*endpoint* stands for every region's own, whatever *use_fips* and *use_dualstack* say."""
        self._http = http
        self._clock = clock
        self._endpoint = endpoint
        self._ca_bundle = ca_bundle
        self._use_fips = use_fips
        self._use_dualstack = use_dualstack
        self._call_limit_s = call_limit_s
        self._tls: ssl.SSLContext | None = None

    async def assume_role(
        self, role: Role, token: IdToken, *, duration_s: int
    ) -> Lease[AwsCredentials]:
        """Call AssumeRoleWithWebIdentity once.

        Raises:
            DurationTooLong, Refused: STS refuses.
            Stale: The ID token has expired, or is not valid yet.
            Unavailable: No proper answer.

        Source: aws-api 3.
        """
        upstream = f"STS ({self._endpoint or role.region})"
        url = self._url(role.region, upstream)
        if url.scheme == "https" and self._ca_bundle and self._tls is None:
            self._tls = await load_ca_bundle(self._ca_bundle)
        asked_at = self._clock.now()
        response = await self._http.send(
            "POST",
            url,
            upstream=upstream,
            headers={
                "Content-Type": "application/x-www-form-urlencoded; charset=utf-8",
                "Accept-Encoding": "identity",
            },
            body=urlencode(_parameters(role, token, duration_s=duration_s)).encode("ascii"),
            limit_s=self._call_limit_s,
            tls=self._tls,
            reads_date=True,
        )
        texts = _texts_in(response.body)
        if response.status != 200:
            error = AwsError(
                code=texts.get("Error/Code") or str(response.status),
                message=texts.get("Error/Message", ""),
                status=response.status,
                retry_after_s=retry_after_s(response.headers),
            )
            raise assume_role_error(error, role=role, token=token, upstream=upstream)
        if not texts:
            raise no_aws_answer(upstream, "no XML", STS_VARIABLE)
        longest = timedelta(seconds=duration_s)
        lease = _lease_in(
            texts,
            role=role,
            asked_at=self._http.skew.to_cloud(asked_at),
            longest=longest,
            upstream=upstream,
        )
        return to_local(lease, self._http.skew)

    def _url(self, region: str, upstream: str) -> URL:
        if self._endpoint is None:
            return URL(sts_url(region, fips=self._use_fips, dualstack=self._use_dualstack))
        try:
            url = URL(self._endpoint)
            is_usable = may_be_plain(url)
        except ValueError:
            is_usable = False
        if not is_usable:
            raise Refused(
                f"{upstream} was not called: {redacted(self._endpoint)} is no https URL, nor one "
                f"of loopback; correct {STS_VARIABLE}",
                word="bad-request",
            )
        return url


def sts_url(region: str, *, fips: bool = False, dualstack: bool = False) -> str:
    """Return the region's own STS endpoint.

    Raises:
        Refused: *region* is none.
    """
    if not re.fullmatch(aws.REGION, region, re.ASCII):
        raise Refused(
            f"{redacted(region)!r} is no AWS region; set region to one such as eu-central-1",
            word="bad-request",
        )
    return aws.sts_url(region, fips=fips, dualstack=dualstack)


def _parameters(role: Role, token: IdToken, *, duration_s: int) -> dict[str, str]:
    return {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": role.arn,
        "RoleSessionName": role.session_name or token.session_name,
        "WebIdentityToken": token.jwt,
        "DurationSeconds": str(duration_s),
        **({} if role.policy is None else {"Policy": role.policy}),
        **{f"PolicyArns.member.{n}.arn": arn for n, arn in enumerate(role.policy_arns, start=1)},
    }


def _lease_in(
    texts: Mapping[str, str], *, role: Role, asked_at: datetime, longest: timedelta, upstream: str
) -> Lease[AwsCredentials]:
    keys = ("AccessKeyId", "SecretAccessKey", "SessionToken")
    values = [texts.get(f"Credentials/{key}", "") for key in keys]
    expires_at = _instant(texts.get("Credentials/Expiration", ""))
    # What the surfaces can serve: of visible ASCII, all but the quote and the backslash (C-46).
    if expires_at is None or not all(re.fullmatch(r"[!#-\[\]-~]+", value) for value in values):
        raise Unavailable(f"{upstream} answered without proper credentials", word="bad-answer")
    # An end beyond what was asked for is another clock's, or a lie.
    if expires_at > asked_at + longest + LATE:
        expires_at = asked_at + longest
    access_key_id, secret_access_key, session_token = values
    return Lease(
        value=AwsCredentials(
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            session_token=session_token,
            role_arn=role.arn,
        ),
        issued_at=asked_at,
        expires_at=expires_at,
    )


def _texts_in(body: bytes) -> Mapping[str, str]:
    try:
        return parse_xml(body)
    except HostileXml:
        return {}


def _instant(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at.astimezone(UTC) if at.tzinfo is not None else None
