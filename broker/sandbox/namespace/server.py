"""The Namespace side: IAM API, ID-token issuer and instance metadata on one address.

    sandbox.namespace.write_token_file(path)              # a fresh workload token, 0600
    sandbox.namespace.write_token_file(path, session_token=sandbox.namespace.session_token())
    os.environ["NSC_TOKEN_SPEC"] = sandbox.namespace.token_spec()
    sandbox.namespace.revoke(token)
    [call.params for call in sandbox.namespace.calls_of("IssueIdToken")]

    sandbox.namespace.trust(issuer=issuer, subject_match="arn:aws:iam::123456789012:role/ci")
    sandbox.namespace.trust_pool(pool_id)
    sandbox.namespace.choices.refusal_code = "UNAUTHENTICATED"

Source: namespace-api.md 5 to 9 and 12.1.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from aiohttp import web

from broker.sandbox.calls import Call
from broker.sandbox.faults import ErrorShape, Faults
from broker.sandbox.issuers import discovery
from broker.sandbox.keys import SigningKey, compact_json, unpadded_base64
from broker.sandbox.namespace.exchange import ExchangeMethods
from broker.sandbox.namespace.federation import Federation
from broker.sandbox.namespace.http import NamespaceHttp
from broker.sandbox.namespace.methods import (
    PUBLIC,
    SIGNIN,
    TENANT_TOKENS,
    TENANTS,
    Choices,
    Document,
    Method,
    Params,
    seconds,
    text,
)
from broker.sandbox.namespace.relationships import Relationship
from broker.sandbox.namespace.rpc_errors import RpcError
from broker.sandbox.namespace.tokens import Bearer, Tokens

METADATA_PATH = "/metadata/v1"

_SESSION_TOKEN_MAX_S = 8 * 3600
_ID_TOKEN_DEFAULT_S = 3600
_ID_TOKEN_MAX_S = 24 * 3600


class Namespace:
    """One workspace, and others as they are named.

    ``url`` is the IAM endpoint, which also serves the issuer's discovery document; ``choices``
    set what the real API does not document.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        faults: Faults,
        workspace: str,
        workspace_name: str,
        instance_id: str,
        issuer: str,
        algorithm: str,
        resolve_at: Callable[[str], str | None],
        jwks_timeout_s: float,
    ) -> None:
        """*resolve_at* gives the URL below which a foreign issuer's discovery document is read."""
        self.url = ""  # known once the server listens
        self.workspace = workspace
        self.workspace_name = workspace_name
        self.instance_id = instance_id
        self.issuer = issuer
        self.metadata_token_lifetime_s: float = 3600
        self.choices = Choices()
        self._now = now
        self._issuer_key = SigningKey(algorithm)
        self._tokens = Tokens(now=now)
        self._foreign_issuers: dict[str, str] = {}
        self._federation = Federation(choices=self.choices, now=now)
        self._federation.of(workspace)
        self._exchange = ExchangeMethods(
            federation=self._federation,
            tokens=self._tokens,
            choices=self.choices,
            resolve_at=lambda issuer: self._foreign_issuers.get(issuer) or resolve_at(issuer),
            tenant=self._tenant,
            jwks_timeout_s=jwks_timeout_s,
            now=now,
        )
        issues = ("federation", "issue_federation")
        methods = {
            **self._federation.methods,
            f"{TENANTS}/IssueIdToken": Method(
                kinds=TENANT_TOKENS, permission=issues, answer=self._issue_id_token
            ),
            f"{PUBLIC}.TokenService/IssueIdToken": Method(
                kinds=TENANT_TOKENS, permission=issues, answer=self._issue_public_id_token
            ),
            f"{TENANTS}/GetTenant": Method(
                kinds=TENANT_TOKENS, permission=("tenant", "get"), answer=self._get_tenant
            ),
            f"{SIGNIN}/IssueTenantTokenFromSession": Method(
                kinds=("st",), permission=None, answer=self._issue_tenant_token_from_session
            ),
            f"{SIGNIN}/VerifySession": Method(
                kinds=("st",), permission=None, answer=self._verify_session
            ),
        }

        self._http = NamespaceHttp(
            methods=methods,
            anonymous=self._exchange.methods,
            document=self._document,
            tokens=self._tokens,
            faults=faults,
            now=now,
        )

    async def start(self) -> None:
        await self._exchange.start()

    async def stop(self) -> None:
        await self._exchange.stop()

    @property
    def metadata_url(self) -> str:
        """The base URL that a token spec names; serves ``/workload_token`` and ``/id``."""
        return f"{self.url}{METADATA_PATH}"

    @property
    def calls(self) -> tuple[Call, ...]:
        return self._http.record.snapshot()

    def calls_of(self, operation: str) -> tuple[Call, ...]:
        return self._http.record.snapshot(operation)

    @property
    def error_shape(self) -> ErrorShape:
        """The shape of errors; a test may change it at any time."""
        return self._http.error_shape

    @error_shape.setter
    def error_shape(self, shape: ErrorShape) -> None:
        self._http.error_shape = shape

    # Tokens for tests to hold.

    def workload_token(
        self,
        *,
        lifetime_s: float = 3600,
        instance_id: str | None = None,
        workspace: str | None = None,
    ) -> str:
        """Make an ``nscw_`` token: an instance's, with an ``instance_id`` claim."""
        instance = self.instance_id if instance_id is None else instance_id
        return self._tokens.mint(
            "nscw",
            workspace=workspace or self.workspace,
            lifetime_s=lifetime_s,
            actor_id=instance,
            instance_id=instance,
        )

    def tenant_token(
        self, *, lifetime_s: float = 3600, actor_id: str = "user_1", workspace: str | None = None
    ) -> str:
        """Make an ``nsct_`` token, as people and exchanges get: without ``instance_id``."""
        return self._tokens.mint(
            "nsct", workspace=workspace or self.workspace, lifetime_s=lifetime_s, actor_id=actor_id
        )

    def session_token(
        self,
        *,
        lifetime_s: float = 30 * 86400,
        actor_id: str = "user_1",
        workspace: str | None = None,
    ) -> str:
        """Make an ``st_`` token: a login, good only for minting tenant tokens."""
        return self._tokens.mint(
            "st", workspace=workspace or self.workspace, lifetime_s=lifetime_s, actor_id=actor_id
        )

    def revocable_token(
        self, *, lifetime_s: float | None = None, permissions: tuple[str, ...] | None = None
    ) -> str:
        """Make an opaque ``nsrt_`` token with *permissions* such as ``("tenant/get",)``.

        None is full access.
        """
        return self._tokens.mint_opaque(
            workspace=self.workspace, lifetime_s=lifetime_s, permissions=permissions
        )

    def revoke(self, token: str) -> None:
        """Make *token*, of any kind, UNAUTHENTICATED from now on."""
        self._tokens.revoke(token)

    def id_token(
        self, *, audience: str = "sts.amazonaws.com", lifetime_s: float = 600, **claims: object
    ) -> str:
        """Make an ID token without a call; *claims* replace its own, None leaves one out."""
        issued_at = int(self._now().timestamp())
        own: dict[str, object] = {
            "iss": self.issuer,
            "aud": audience,
            "sub": f"{self.workspace}/{self.instance_id}",
            "tenant_id": self.workspace,
            "iat": issued_at,
            "exp": issued_at + lifetime_s,
            "jti": os.urandom(8).hex(),
        }
        merged = {claim: value for claim, value in (own | claims).items() if value is not None}
        return self._issuer_key.sign(merged)

    def write_token_file(
        self, path: Path, *, bearer_token: str | None = None, session_token: str | None = None
    ) -> Path:
        """Write *path* as ``nsc`` does, 0600; without tokens, with a new workload token.

        Source: namespace-api.md 3.
        """
        members = {"bearer_token": bearer_token, "session_token": session_token}
        if bearer_token is None and session_token is None:
            members["bearer_token"] = self.workload_token()
        written = json.dumps({name: token for name, token in members.items() if token is not None})
        temporary = path.with_name(f".tmp-{path.name}")
        temporary.touch(mode=0o600)
        temporary.write_text(written)
        return temporary.replace(path)

    def token_spec(self) -> str:
        """Return an NSC_TOKEN_SPEC for this sandbox's metadata. Source: namespace-api.md 5."""
        return unpadded_base64(compact_json({"version": "v1", "metadata_url": self.metadata_url}))

    def inline_token_spec(self, token: str) -> str:
        return unpadded_base64(compact_json({"inline_token": token}))

    # What the workspaces trust.

    def trust(
        self,
        *,
        issuer: str,
        subject_match: str,
        audience: str | None = None,
        default_token_duration: str | None = None,
        workspace: str | None = None,
        **members: object,
    ) -> str:
        """Add a trust relationship, as ``nsc auth trust-relationships add`` does; return its id.

        *default_token_duration* is such as ``1800s``; *members* are any others.
        """
        all_members = {
            "issuer": issuer,
            "subject_match": subject_match,
            "audience": audience,
            "default_token_duration": default_token_duration,
            **members,
        }
        entry = {name: value for name, value in all_members.items() if value is not None}
        return self._federation.of(workspace or self.workspace).relationships.add(entry)

    def distrust(self, relationship_id: str, *, workspace: str | None = None) -> None:
        """Remove a trust relationship."""
        self._federation.of(workspace or self.workspace).relationships.remove(relationship_id)

    def trust_relationships(self, *, workspace: str | None = None) -> tuple[Relationship, ...]:
        return self._federation.of(workspace or self.workspace).relationships.snapshot()

    def trust_pool(
        self, pool_id: str, *, provider: str = "namespace.so", workspace: str | None = None
    ) -> None:
        """Trust an identity pool (``region:guid``) with that developer provider."""
        self._federation.of(workspace or self.workspace).pools.add((pool_id, provider))

    def distrust_pool(
        self, pool_id: str, *, provider: str = "namespace.so", workspace: str | None = None
    ) -> None:
        self._federation.of(workspace or self.workspace).pools.remove((pool_id, provider))

    def trusted_pools(self, *, workspace: str | None = None) -> frozenset[tuple[str, str]]:
        """Return the id and developer provider of each trusted pool."""
        return frozenset(self._federation.of(workspace or self.workspace).pools)

    def add_issuer(self, issuer: str, *, resolve_at: str) -> None:
        """Read a foreign issuer's discovery document below *resolve_at*.

        Those of the sandbox's AWS are known.
        """
        self._foreign_issuers[issuer] = resolve_at

    # HTTP.

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return await self._http.handle(request)

    def _document(self, path: str) -> web.Response:
        metadata = METADATA_PATH.strip("/")
        match path.removeprefix(f"{metadata}/"):
            case ".well-known/openid-configuration":
                jwks_uri = f"{self.url}/.well-known/jwks.json"
                algorithms = [self._issuer_key.algorithm]
                return web.json_response(
                    discovery(self.issuer, jwks_uri=jwks_uri, algorithms=algorithms)
                )
            case ".well-known/jwks.json":
                return web.json_response({"keys": [self._issuer_key.public_jwk()]})
            case "workload_token":
                return web.Response(
                    text=self.workload_token(lifetime_s=self.metadata_token_lifetime_s)
                )
            case "id":
                return web.Response(text=self.instance_id)
        return web.Response(status=404, text="not found")

    # The methods.

    async def _issue_id_token(self, params: Params, bearer: Bearer) -> Document:
        """Issue an ID token. Source: namespace-api.md 6.3 and 7."""
        if params.get("version") != 1:
            raise RpcError("INVALID_ARGUMENT", "version must be 1")
        lifetime_s = seconds(params, "duration_secs", _ID_TOKEN_DEFAULT_S, _ID_TOKEN_MAX_S)
        return {"id_token": self._id_token_for(bearer, params, lifetime_s=lifetime_s)}

    async def _issue_public_id_token(self, params: Params, bearer: Bearer) -> Document:
        """Issue an ID token by the public API. Source: namespace-api.md 8."""
        return {"idToken": self._id_token_for(bearer, params, lifetime_s=_ID_TOKEN_DEFAULT_S)}

    def _id_token_for(self, bearer: Bearer, params: Params, *, lifetime_s: float) -> str:
        return self.id_token(
            audience=text(params, "audience"),
            lifetime_s=lifetime_s,
            sub=f"{bearer.workspace}/{bearer.actor_id}",
            tenant_id=bearer.workspace,
        )

    async def _get_tenant(self, _: Params, bearer: Bearer) -> Document:
        """Describe the bearer's workspace. Source: namespace-api.md 6.8."""
        return self._tenant(bearer.workspace)

    def _tenant(self, workspace: str) -> Document:
        names = self.choices.tenant_members
        if names is None:
            return {}
        everything = {
            "tenant_id": workspace,
            "name": self.workspace_name if workspace == self.workspace else workspace,
            "app_url": f"https://cloud.namespace.so/{workspace}",
            "primary_region": "eu.namespaceapis.com",
        }
        return {"tenant": {name: everything[name] for name in names}}

    async def _issue_tenant_token_from_session(self, params: Params, bearer: Bearer) -> Document:
        """Mint a tenant token for a session. Source: namespace-api.md 6.1."""
        lifetime_s = seconds(params, "token_duration_secs", 3600, _SESSION_TOKEN_MAX_S)
        token = self.tenant_token(
            lifetime_s=lifetime_s, actor_id=bearer.actor_id, workspace=bearer.workspace
        )
        return {"tenant_token": token}

    async def _verify_session(self, _: Params, __: Bearer) -> Document:
        return {}
