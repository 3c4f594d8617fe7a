"""Call Namespace's IAM API. Keeps no token and repeats no call."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from broker import __version__
from broker.lease import Unavailable
from broker.sources.rpc_errors import sorted_error
from broker.sources.tokens import json_object, text_in
from broker.sources.web import ATTEMPT_LIMIT_S, ask, origin

API_VERSION = 162
"""Source: namespace-api 6: an integer that grows with the vendor's releases."""

_TENANTS = "nsl.tenants.TenantsService"
_SIGNIN = "nsl.signin.SigninService"

_NEXT_STEPS: Mapping[str, Mapping[str, str]] = {
    "IssueIdToken": {
        "PERMISSION_DENIED": "allow this identity to issue ID tokens "
        "(resource type federation, action issue_federation)",
        "INVALID_ARGUMENT": "check the role's audience",
    },
    "IssueTenantTokenFromSession": {"PERMISSION_DENIED": "log in again with `nsc login`"},
    "GetTenant": {"PERMISSION_DENIED": "allow this identity to read its workspace (tenant/get)"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A workspace; every member may be missing in an answer."""

    tenant_id: str | None
    name: str | None


class NamespaceIam:
    """The methods of Namespace's IAM API that anything here needs.

    Each raises `Unavailable` (no proper answer), `Refused` (a proper no) or `Stale` (the bearer
    was not taken). Answers may be spelled in snake_case or camelCase.

    Source: namespace-api 6, 9, 12.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        endpoint: str,
        *,
        api_version: int = API_VERSION,
        call_limit_s: float = ATTEMPT_LIMIT_S,
    ) -> None:
        """*session* stays its opener's; a slash at the end of *endpoint* does no harm.

        Raises:
            ValueError: *endpoint* is no absolute URL.
        """
        self._session = session
        self._endpoint = endpoint.rstrip("/")
        self._named = f"Namespace IAM ({origin(URL(self._endpoint))})"
        self._api_version = api_version
        self._call_limit_s = call_limit_s

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
        tenant = (await self._call(_TENANTS, "GetTenant", {}, bearer=bearer)).get("tenant")
        document = tenant if isinstance(tenant, dict) else {}
        return Tenant(
            tenant_id=text_in(document, "tenant_id", "tenantId"), name=text_in(document, "name")
        )

    async def _call(
        self, service: str, method: str, members: Mapping[str, object], *, bearer: str
    ) -> Mapping[str, object]:
        reply = await ask(
            self._session,
            "POST",
            URL(f"{self._endpoint}/{service}/{method}"),
            of=self._named,
            body=json.dumps(members).encode(),
            limit_s=self._call_limit_s,
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {bearer}",
                "NS-Internal-Version": str(self._api_version),
                "User-Agent": f"namespace-broker/{__version__}",
                "Accept-Encoding": "identity",
            },
        )
        if reply.status != 200:
            raise sorted_error(
                reply,
                of=f"{method} at {self._named}",
                next_steps=_NEXT_STEPS.get(method, {}),
                hiding=[bearer],
            )
        document = json_object(reply.body)
        if document is None:
            raise Unavailable(
                f"{method} at {self._named} was answered with no JSON object; "
                "is that Namespace, or a proxy? check NSC_IAM_ENDPOINT if it stays so",
                word="bad-answer",
            )
        return document

    def _token_in(self, answer: Mapping[str, object], *keys: str) -> str:
        token = text_in(answer, *keys)
        if token is None or not token.isascii() or not token.isprintable() or " " in token:
            raise Unavailable(
                f"{self._named} answered without a proper {keys[0]}", word="bad-answer"
            )
        return token
