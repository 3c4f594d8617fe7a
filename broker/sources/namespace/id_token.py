"""Issue ID tokens of Namespace for one audience."""

from broker.clock import Clock
from broker.credentials import IdToken, NamespaceToken, session_name_for
from broker.lease import Lease, Refused, Renewable, Stale, Unavailable
from broker.sources.jwt import Claims, InvalidToken, issued_at_of, parse_claims, to_local
from broker.sources.namespace.api import NamespaceIam

ID_TOKEN_S = 600
"""Short, because it is exchanged at once. Source: namespace-api 6.3."""


class IdTokenFor:
    """ID tokens for one audience, a fresh one at each fetch, issued to the bearer's identity."""

    def __init__(
        self,
        audience: str,
        *,
        bearer: Renewable[NamespaceToken],
        iam: NamespaceIam,
        clock: Clock,
        duration_s: int = ID_TOKEN_S,
    ) -> None:
        self._audience = audience
        self._bearer = bearer
        self._iam = iam
        self._clock = clock
        self._duration_s = duration_s

    async def fetch(self) -> Lease[IdToken]:
        """Issue an ID token; a stale bearer is renewed once.

        Raises:
            Refused: Namespace accepts neither bearer, or issues us no ID tokens.
            Unavailable: Namespace gave no proper answer.
        """
        bearer = await self._bearer.fetch()
        try:
            return await self._issued(bearer.value)
        except Stale as stale:
            newer = await self._newer_than(bearer, stale)
        try:
            return await self._issued(newer.value)
        except Stale as stale:
            raise _not_taken(str(stale)) from stale

    async def _newer_than(
        self, bearer: Lease[NamespaceToken], stale: Stale
    ) -> Lease[NamespaceToken]:
        try:
            return await self._bearer.newer_than(bearer)
        except Refused as error:
            raise _not_taken(f"{stale}; {error}") from error

    async def _issued(self, bearer: NamespaceToken) -> Lease[IdToken]:
        jwt = await self._iam.issue_id_token(
            bearer.bearer, audience=self._audience, duration_s=self._duration_s
        )
        try:
            claims = parse_claims(jwt)
        except InvalidToken as error:
            raise Unavailable(
                f"the ID token that Namespace issued {error}", word="bad-answer"
            ) from error
        skew = self._iam.skew
        lease = Lease(
            value=IdToken(
                jwt=jwt,
                issuer=claims.issuer or "unknown",
                subject=claims.subject or "unknown",
                audience=self._audience_in(claims),
                session_name=_session_name(bearer, claims),
            ),
            issued_at=issued_at_of(claims, now=skew.to_cloud(self._clock.now())),
            expires_at=claims.expires_at,
        )
        return to_local(lease, skew)

    def _audience_in(self, claims: Claims) -> str:
        if self._audience in claims.audiences:
            return self._audience
        return ", ".join(claims.audiences) or "unknown"


def _session_name(bearer: NamespaceToken, claims: Claims) -> str:
    """Return the session name. An opaque bearer has no claims, so its ID token is read too.

    Source: namespace-api 4.3, 7.
    """
    workspace = bearer.tenant_id or claims.tenant_id or (claims.subject or "").partition("/")[0]
    return session_name_for(instance_id=bearer.instance_id, tenant_id=workspace or None)


def _not_taken(why: str) -> Refused:
    return Refused(
        f"Namespace does not accept this identity's token: {why}; "
        "run `nsc login`, or check that what writes the token still runs",
        word="unauthenticated",
    )
