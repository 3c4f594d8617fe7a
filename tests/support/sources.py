"""What the tests of sources start from: tokens, a role, a server that answers any bytes."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from broker.clock import Clock
from broker.credentials import IdToken, NamespaceToken, Role
from broker.lease import Lease
from broker.sandbox import Sandbox
from broker.sandbox.aws.accounts import IssuedKeys
from broker.sources.aws.assume_role import AssumedRole, StsClient
from broker.sources.aws.credential_chain import CredentialChain
from broker.sources.aws.web_identity import (
    AwsToken,
    DeveloperTokenFor,
    IdentityPoolId,
    WebIdentityTokenFor,
    parse_identity_pool,
)
from broker.sources.http_client import HttpClient
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.exchange import (
    CognitoExchange,
    OidcExchange,
    TokenExchange,
    aws_identity_source,
)
from broker.sources.namespace.id_token import IdTokenFor
from broker.sources.namespace.identity import IdentitySource, identity_source
from tests.support.fakes import ScriptedSource, inline

REGION = "eu-central-1"
ROLE_ARN = "arn:aws:iam::123456789012:role/deploy"


def key_variables(keys: IssuedKeys) -> dict[str, str]:
    """Return the variables that give this process *keys*, without their end."""
    return {
        "AWS_ACCESS_KEY_ID": keys.access_key_id,
        "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
        "AWS_SESSION_TOKEN": keys.session_token or "",
    }


def jwt_of(claims: object) -> str:
    """Return a JWT with these claims, unsigned: nothing here verifies one."""
    parts = [json.dumps({"alg": "ES256", "typ": "JWT"}), json.dumps(claims)]
    encoded = [base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, "c2lnbmF0dXJl"])


def bearer_of(*, ends_at: datetime, prefix: str = "nsct_", **claims: object) -> str:
    return prefix + jwt_of({"exp": int(ends_at.timestamp()), "tenant_id": "ws_1", **claims})


def spec_of(members: object) -> str:
    """Return a token spec: base64 of the standard alphabet, no padding."""
    return base64.b64encode(json.dumps(members).encode()).decode().rstrip("=")


def write_token_file(path: Path, **members: object) -> Path:
    path.write_text(json.dumps(members))
    return path


def some_role(
    arn: str = ROLE_ARN,
    *,
    duration_s: int | None = 3600,
    session_name: str | None = None,
    policy: str | None = None,
    policy_arns: tuple[str, ...] = (),
    region: str = REGION,
) -> Role:
    return Role(
        name="deploy",
        arn=arn,
        region=region,
        duration_s=duration_s,
        session_name=session_name,
        policy=policy,
        policy_arns=policy_arns,
    )


def some_id_token(jwt: str = "eyJhbGciOiJFUzI1NiJ9.e30.c2ln") -> IdToken:
    return IdToken(
        jwt=jwt,
        issuer="https://federation.namespaceapis.com",
        subject="ws_1/i-abc",
        audience="sts.amazonaws.com",
        session_name="nsc.instance=i-abc",
    )


class Holding:
    """A renewable source that holds one bearer after the other, as a keeper would."""

    def __init__(self, *bearers: Lease[NamespaceToken]) -> None:
        self._bearers = list(bearers)
        self.renewals = 0

    async def fetch(self) -> Lease[NamespaceToken]:
        return self._bearers[0]

    async def newer_than(self, lease: Lease[object]) -> Lease[NamespaceToken]:
        self.renewals += 1
        if len(self._bearers) > 1:
            self._bearers.pop(0)
        return self._bearers[0]


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A sandbox and what reaches it."""

    sandbox: Sandbox
    http: HttpClient
    iam: NamespaceIam
    sts: StsClient
    clock: Clock
    warnings: list[str] = field(default_factory=list)

    def holding(self, *tokens: str) -> Holding:
        """Return a bearer in a keeper: this one, or else a new workload token."""
        return Holding(
            *(
                Lease(
                    value=NamespaceToken(bearer=token, tenant_id="ws_1", instance_id="i-abc"),
                    issued_at=self.clock.now(),
                    expires_at=None,
                )
                for token in tokens or (self.sandbox.namespace.workload_token(),)
            )
        )

    def id_token(
        self, bearer: Holding | None = None, *, audience: str = "sts.amazonaws.com"
    ) -> IdTokenFor:
        return IdTokenFor(audience, bearer=bearer or self.holding(), iam=self.iam, clock=self.clock)

    def assumed_role(self, role: Role | None = None) -> AssumedRole:
        return AssumedRole(
            role or some_role(self.sandbox.role_arn),
            token=self.id_token(),
            sts=self.sts,
            warn=self.warnings.append,
        )

    def identity(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        source: str = "auto",
        token_file: Path | None = None,
        token_spec: Path | None = None,
        clock: Clock | None = None,
    ) -> IdentitySource:
        return identity_source(
            run=inline,
            source=source,
            token_file=token_file,
            token_spec=token_spec,
            environ=environ or {},
            iam=self.iam,
            http=self.http,
            clock=clock or self.clock,
        )


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A sandbox and its role ``builder``, which the guide's two ways bring to Namespace.

    This process has the role's keys in its environment.
    """

    sandbox: Sandbox
    iam: NamespaceIam
    clock: Clock
    chain: CredentialChain
    arn: str
    pool_id: str
    warnings: list[str] = field(default_factory=list)

    def web_identity(
        self,
        *,
        chain: CredentialChain | None = None,
        region: str | None = REGION,
        algorithm: str = "ES384",
        duration_s: int = 300,
        endpoint: str | None = "",
    ) -> WebIdentityTokenFor:
        """Return the source of web identity tokens; *endpoint* is the sandbox's unless given."""
        return WebIdentityTokenFor(
            "https://federation.namespaceapis.com",
            chain=chain or self.chain,
            clock=self.clock,
            region=region,
            algorithm=algorithm,
            duration_s=duration_s,
            endpoint=self.sandbox.aws.url if endpoint == "" else endpoint,
        )

    def developer_token(
        self,
        *,
        chain: CredentialChain | None = None,
        workspace: str = "ws_1",
        identity_pool: str | None = None,
        developer_provider: str = "namespace.so",
    ) -> DeveloperTokenFor:
        return DeveloperTokenFor(
            workspace,
            pool=parse_identity_pool(identity_pool or self.pool_id, region=REGION),
            chain=chain or self.chain,
            clock=self.clock,
            developer_provider=developer_provider,
            endpoint=self.sandbox.aws.url,
        )

    def exchange(
        self,
        source: str = "sts",
        *,
        workspace: str | None = "ws_1",
        iam: NamespaceIam | None = None,
        chain: CredentialChain | None = None,
    ) -> TokenExchange:
        return aws_identity_source(
            source=source,
            workspace=workspace,
            region=REGION,
            identity_pool=self.pool_id,
            chain=chain or self.chain,
            iam=iam or self.iam,
            clock=self.clock,
            warn=self.warnings.append,
            sts_endpoint=self.sandbox.aws.url,
            cognito_endpoint=self.sandbox.aws.url,
        )


def some_aws_token(jwt: str = "eyJhbGciOiJFUzM4NCJ9.e30.c2ln") -> AwsToken:
    return AwsToken(
        jwt=jwt,
        issuer="https://3d1b.tokens.sts.global.api.aws",
        subject="arn:aws:iam::123456789012:role/ci",
        audience="https://federation.namespaceapis.com",
    )


@dataclass(frozen=True, kw_only=True)
class Presenting:
    """Exchanges of a token that AWS is taken to have issued, and the sandbox's Namespace."""

    sandbox: Sandbox
    iam: NamespaceIam
    clock: Clock
    tokens: ScriptedSource[AwsToken]
    warnings: list[str] = field(default_factory=list)

    def exchange(self, source: str, *, iam: NamespaceIam | None = None) -> TokenExchange:
        if source == "sts":
            return OidcExchange(
                self.tokens,
                iam=iam or self.iam,
                clock=self.clock,
                tenant_id="ws_1",
                warn=self.warnings.append,
            )
        return CognitoExchange(
            self.tokens,
            iam=iam or self.iam,
            clock=self.clock,
            workspace="ws_1",
            pool=IdentityPoolId(region=REGION, guid="6f0a"),
        )


@asynccontextmanager
async def answering(answer: bytes | Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """Serve *answer*, raw bytes, to every request on loopback, then hang up; yield the URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked = await reader.readexactly(1)
            if asked != b"\x16":  # which begins TLS, and that has no end of headers
                asked += await reader.readuntil(b"\r\n\r\n")
            writer.write(answer(asked) if callable(answer) else answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has had enough
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def hanging() -> AsyncIterator[str]:
    """Accept connections on loopback and never answer; yield the URL."""
    connections: list[asyncio.StreamWriter] = []

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for connection in connections:
            connection.close()


def http_answer(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def chunked_answer(status: int, chunk: bytes, *, times: int) -> bytes:
    """Return an answer that does not say how long it is."""
    head = f"HTTP/1.1 {status} Status\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    return head.encode() + (b"%x\r\n" % len(chunk) + chunk + b"\r\n") * times + b"0\r\n\r\n"
