"""Issue ID tokens for an AWS identity, by STS or by a Cognito identity pool."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from broker import aws
from broker.clock import Clock
from broker.lease import Lease, Unavailable
from broker.sources.aws.credential_chain import AwsOperation, CredentialChain
from broker.sources.aws.errors import (
    OutlivesSession,
    developer_token_error,
    web_identity_error,
)
from broker.sources.jwt import Claims, InvalidToken, issued_at_of, parse_claims

AUDIENCE: Final = "https://federation.namespaceapis.com"
ALGORITHM: Final = "ES384"
DURATION_S: Final = 300
DEVELOPER_PROVIDER: Final = "namespace.so"
"""The guide's values. Source: guide-flows; aws-api 5, 7."""

POOL_TOKEN_S: Final = 300
"""Short, because it is exchanged at once."""

SESSION_MARGIN_S = 5
"""How much earlier than its session a token should end: the two clocks differ."""

_GET_WEB_IDENTITY_TOKEN = AwsOperation(
    service="sts",
    method="get_web_identity_token",
    service_name="STS",
    endpoint_variable="AWS_ENDPOINT_URL_STS",
    regional=True,
)
_GET_DEVELOPER_TOKEN = AwsOperation(
    service="cognito-identity",
    method="get_open_id_token_for_developer_identity",
    service_name="Cognito",
    endpoint_variable="AWS_ENDPOINT_URL_COGNITO_IDENTITY",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsToken:
    """A JWT that AWS issued, and its claims; "unknown" where one is missing."""

    jwt: str = field(repr=False)
    issuer: str
    subject: str
    audience: str


class WebIdentityTokenFor:
    """Web identity tokens of STS for one audience, a fresh one at each fetch."""

    def __init__(
        self,
        audience: str,
        *,
        chain: CredentialChain,
        clock: Clock,
        region: str | None,
        algorithm: str = ALGORITHM,
        duration_s: int = DURATION_S,
        endpoint: str | None = None,
    ) -> None:
        """Without *region* the profile's own is used; *endpoint* replaces the region's.

        *algorithm* is ES384 or RS256, *duration_s* 60 to 3600 seconds.
        """
        self._audience = audience
        self._chain = chain
        self._clock = clock
        self._region = region
        self._algorithm = algorithm
        self._duration_s = duration_s
        self._endpoint = endpoint

    async def fetch(self) -> Lease[AwsToken]:
        """Issue a token, with a shorter life where our own session would end before it.

        Raises:
            Refused: There is no AWS identity, or it may have no such token.
            Unavailable: STS gave no proper answer.

        Source: aws-api 5.
        """
        try:
            return await self._issued(self._duration_s)
        except OutlivesSession:
            shorter_s = await self._within_session()
        return await self._issued(shorter_s)

    async def _within_session(self) -> int:
        """Return a duration that ends before our session.

        A session that ends too soon for any token, or nobody knows when, is looked up again first.
        """
        left_s = await self._chain.seconds_left()
        if left_s is None or left_s < aws.WEB_IDENTITY_MIN_S + SESSION_MARGIN_S:
            self._chain.forget()
            left_s = await self._chain.seconds_left()
        if left_s is None:
            return aws.WEB_IDENTITY_MIN_S
        return max(aws.WEB_IDENTITY_MIN_S, min(self._duration_s, int(left_s) - SESSION_MARGIN_S))

    async def _issued(self, duration_s: int) -> Lease[AwsToken]:
        answer = await self._chain.call(
            _GET_WEB_IDENTITY_TOKEN,
            {
                "Audience": [self._audience],
                "SigningAlgorithm": self._algorithm,
                "DurationSeconds": duration_s,
            },
            region=self._region,
            endpoint=self._endpoint,
            on_error=partial(web_identity_error, audience=self._audience),
        )
        return _token_in(answer, "WebIdentityToken", upstream="STS", clock=self._clock)


class DeveloperTokenFor:
    """Tokens of an identity pool for one workspace as the login, a fresh one at each fetch."""

    def __init__(
        self,
        workspace: str,
        *,
        pool: "IdentityPoolId",
        chain: CredentialChain,
        clock: Clock,
        developer_provider: str = DEVELOPER_PROVIDER,
        endpoint: str | None = None,
    ) -> None:
        """*endpoint* replaces the region's."""
        self._workspace = workspace
        self._pool = pool
        self._chain = chain
        self._clock = clock
        self._developer_provider = developer_provider
        self._endpoint = endpoint

    async def fetch(self) -> Lease[AwsToken]:
        """Issue a token.

        Raises:
            Refused: There is no AWS identity, or it may have no such token, or no such pool.
            Unavailable: Cognito gave no proper answer.

        Source: aws-api 7.
        """
        answer = await self._chain.call(
            _GET_DEVELOPER_TOKEN,
            {
                "IdentityPoolId": self._pool.pool_id,
                "Logins": {self._developer_provider: self._workspace},
                "TokenDuration": POOL_TOKEN_S,
            },
            region=self._pool.region,
            endpoint=self._endpoint,
            on_error=partial(
                developer_token_error,
                pool_id=self._pool.pool_id,
                login=(self._developer_provider, self._workspace),
            ),
        )
        return _token_in(answer, "Token", upstream="Cognito", clock=self._clock)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityPoolId:
    """The id of an identity pool, ``region:guid``."""

    region: str
    guid: str

    @property
    def pool_id(self) -> str:
        return f"{self.region}:{self.guid}"


def parse_identity_pool(identity_pool: str, *, region: str | None) -> IdentityPoolId:
    """Return the pool that a bare guid or ``region:guid`` names; its own region has precedence.

    Raises:
        ValueError: It is neither, or there is no region; the text says what to do.

    Source: namespace-api 11.
    """
    found = re.fullmatch(r"(?:([a-z0-9-]+):)?([0-9a-fA-F-]+)", identity_pool, re.ASCII)
    if found is None:
        raise ValueError("is no identity pool; give its guid, or region:guid")
    if not (found[1] or region):
        raise ValueError("names no region, and none is set; give region:guid, or a region")
    return IdentityPoolId(region=str(found[1] or region), guid=found[2])


def _token_in(
    answer: Mapping[str, Any], member: str, *, upstream: str, clock: Clock
) -> Lease[AwsToken]:
    token = answer.get(member)
    try:
        claims = parse_claims(token if isinstance(token, str) else "")
    except InvalidToken as error:
        raise Unavailable(f"the token that {upstream} issued {error}", word="bad-answer") from error
    return Lease(
        value=AwsToken(
            jwt=str(token),
            issuer=claims.issuer or "unknown",
            subject=claims.subject or "unknown",
            audience=_audience_in(claims),
        ),
        issued_at=issued_at_of(claims, now=clock.now()),
        expires_at=claims.expires_at,
    )


def _audience_in(claims: Claims) -> str:
    return ", ".join(claims.audiences) or "unknown"
