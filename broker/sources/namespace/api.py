"""Call Namespace's IAM API."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from yarl import URL

from broker.clock import ClockSkew
from broker.credentials import json_object
from broker.lease import Unavailable
from broker.sources.http_client import ATTEMPT_LIMIT_S, HttpClient, HttpResponse, origin
from broker.sources.jwt import text_field
from broker.sources.namespace.errors import api_error

API_VERSION = 162
"""Source: namespace-api 6: an integer that grows with the vendor's releases."""

_TENANTS = "nsl.tenants.TenantsService"
_SIGNIN = "nsl.signin.SigninService"

_TO_CHANGE_TRUST: Mapping[str, str] = {
    "PERMISSION_DENIED": "only administrators of a workspace may change whom it trusts: log in as "
    "one with `nsc login`",
    "UNIMPLEMENTED": "that Namespace has no such call; check NSC_IAM_ENDPOINT",
}
_NEXT_STEPS: Mapping[str, Mapping[str, str]] = {
    "IssueIdToken": {
        "PERMISSION_DENIED": "allow this identity to issue ID tokens "
        "(resource type federation, action issue_federation)",
        "INVALID_ARGUMENT": "check the role's audience",
    },
    "IssueTenantTokenFromSession": {"PERMISSION_DENIED": "log in again with `nsc login`"},
    "GetTenant": {"PERMISSION_DENIED": "allow this identity to read its workspace (tenant/get)"},
    "ListTrustRelationships": _TO_CHANGE_TRUST,
    "UpdateTrustRelationships": _TO_CHANGE_TRUST,
    "TrustAWSCognitoIdentityPool": _TO_CHANGE_TRUST,
}

_EXCHANGE_REFUSALS = ("INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "FAILED_PRECONDITION")
"""Codes with which an exchange refuses a token that is not trusted. Source: namespace-api 9.2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A workspace; a response may lack either."""

    tenant_id: str | None
    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantToken:
    """A tenant token issued in exchange for another issuer's, and its workspace."""

    bearer: str = field(repr=False)
    tenant: Tenant


class NamespaceIam:
    """The methods of Namespace's IAM API that the broker uses.

    Each raises `Unavailable` (no proper answer), `Refused` or `Stale` (the bearer was not
    accepted). Responses may be spelled in snake_case or camelCase.

    Source: namespace-api 6, 9, 12.
    """

    def __init__(
        self,
        http: HttpClient,
        endpoint: str,
        *,
        api_version: int = API_VERSION,
        call_limit_s: float = ATTEMPT_LIMIT_S,
    ) -> None:
        """*http* is closed by its owner; *endpoint* may end with a slash.

        Raises:
            ValueError: *endpoint* is no absolute URL.
        """
        self._http = http
        self._endpoint = endpoint.rstrip("/")
        self._title = f"Namespace IAM ({origin(URL(self._endpoint))})"
        self._api_version = api_version
        self._call_limit_s = call_limit_s

    @property
    def skew(self) -> ClockSkew:
        """How far this host's clock is ahead of Namespace's."""
        return self._http.skew

    async def issue_id_token(self, bearer: str, *, audience: str, duration_s: int) -> str:
        """Return an ID token (a JWT without prefix). Source: namespace-api 6.3."""
        members = {"audience": audience, "version": 1, "duration_secs": duration_s}
        answer = await self._call(_TENANTS, "IssueIdToken", members, bearer=bearer)
        return self._token_in(answer, "id_token", "idToken")

    async def tenant_token_from_session(self, session: str, *, duration_s: int) -> str:
        """Return a tenant token (``nsct_``). Source: namespace-api 6.1."""
        members = {"token_duration_secs": duration_s}
        answer = await self._call(_SIGNIN, "IssueTenantTokenFromSession", members, bearer=session)
        return self._token_in(answer, "tenant_token", "tenantToken")

    async def get_tenant(self, bearer: str) -> Tenant:
        """Return the bearer's own workspace. Source: namespace-api 6.8."""
        return _tenant_in(await self._call(_TENANTS, "GetTenant", {}, bearer=bearer))

    async def exchange_oidc_token(
        self, oidc_token: str, *, tenant_id: str | None, if_refused: str
    ) -> TenantToken:
        """Exchange another issuer's token for a tenant token.

        Without *tenant_id* Namespace chooses the workspace. *if_refused* is the next step.
        Source: namespace-api 6.4.
        """
        members = {"oidc_token": oidc_token, **({"tenant_id": tenant_id} if tenant_id else {})}
        return await self._exchange("ExchangeOIDCToken", members, oidc_token, if_refused)

    async def exchange_aws_cognito_jwt(
        self, cognito_token: str, *, tenant_id: str, if_refused: str
    ) -> TenantToken:
        """Exchange a Cognito identity pool's token for a tenant token.

        *if_refused* is the next step. Source: namespace-api 6.5.
        """
        members = {"tenant_id": tenant_id, "aws_cognito_token": cognito_token}
        return await self._exchange("ExchangeAWSCognitoJWT", members, cognito_token, if_refused)

    async def list_trust_relationships(self, bearer: str) -> Mapping[str, object]:
        """Return whom the bearer's workspace trusts, as received. Source: namespace-api 6.7."""
        return await self._call(_TENANTS, "ListTrustRelationships", {}, bearer=bearer)

    async def update_trust_relationships(
        self, bearer: str, *, generation: str, relationships: Sequence[Mapping[str, object]]
    ) -> None:
        """Replace the whole list, if its generation still is *generation*.

        An empty list or generation has to be left out. Source: namespace-api 6.7.
        """
        members = {"generation": generation, "trust_relationships": list(relationships)}
        request = {name: value for name, value in members.items() if value}
        await self._send(_TENANTS, "UpdateTrustRelationships", request, bearer=bearer)

    async def trust_aws_cognito_identity_pool(
        self, bearer: str, *, pool_id: str, provider: str
    ) -> None:
        """Let the bearer's workspace trust an identity pool, ``region:guid``.

        Source: namespace-api 6.6.
        """
        members = {"aws_cognito_identity_pool": pool_id, "identity_provider": provider}
        await self._send(_TENANTS, "TrustAWSCognitoIdentityPool", members, bearer=bearer)

    async def _exchange(
        self, method: str, members: Mapping[str, object], foreign_token: str, if_refused: str
    ) -> TenantToken:
        answer = await self._call(
            _TENANTS,
            method,
            members,
            next_steps=dict.fromkeys(_EXCHANGE_REFUSALS, if_refused),
            hiding=[foreign_token],
        )
        return TenantToken(
            bearer=self._token_in(answer, "tenant_token", "tenantToken"), tenant=_tenant_in(answer)
        )

    async def _call(
        self,
        service: str,
        method: str,
        members: Mapping[str, object],
        *,
        bearer: str | None = None,
        next_steps: Mapping[str, str] | None = None,
        hiding: Sequence[str] = (),
    ) -> Mapping[str, object]:
        """Call *method*, anonymously without *bearer*, and return the JSON object it answers."""
        response = await self._send(
            service, method, members, bearer=bearer, next_steps=next_steps, hiding=hiding
        )
        document = json_object(response.body)
        if document is None:
            raise Unavailable(
                f"{method} at {self._title} was answered with no JSON object; "
                "is that Namespace, or a proxy? check NSC_IAM_ENDPOINT if it stays so",
                word="bad-answer",
            )
        return document

    async def _send(
        self,
        service: str,
        method: str,
        members: Mapping[str, object],
        *,
        bearer: str | None,
        next_steps: Mapping[str, str] | None = None,
        hiding: Sequence[str] = (),
    ) -> HttpResponse:
        """Call *method* and return its response, whatever the body."""
        response = await self._http.send(
            "POST",
            URL(f"{self._endpoint}/{service}/{method}"),
            upstream=self._title,
            body=json.dumps(members).encode(),
            limit_s=self._call_limit_s,
            reads_date=True,
            headers={
                "Content-Type": "application/json",
                **({"Authorization": f"Bearer {bearer}"} if bearer else {}),
                "NS-Internal-Version": str(self._api_version),
                "Accept-Encoding": "identity",
            },
        )
        if response.status != 200:
            raise api_error(
                response,
                upstream=f"{method} at {self._title}",
                next_steps=next_steps or _NEXT_STEPS.get(method, {}),
                hiding=[*hiding, bearer or ""],
            )
        return response

    def _token_in(self, answer: Mapping[str, object], *keys: str) -> str:
        token = text_field(answer, *keys)
        if token is None or not token.isascii() or not token.isprintable() or " " in token:
            raise Unavailable(
                f"{self._title} answered without a proper {keys[0]}", word="bad-answer"
            )
        return token


def _tenant_in(answer: Mapping[str, object]) -> Tenant:
    tenant = answer.get("tenant")
    document = tenant if isinstance(tenant, dict) else {}
    return Tenant(
        tenant_id=text_field(document, "tenant_id", "tenantId"), name=text_field(document, "name")
    )
