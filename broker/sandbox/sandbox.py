"""The two clouds put together, with the trust that Namespace's guide sets up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from broker.sandbox.aws.accounts import IssuedKeys
from broker.sandbox.aws.server import DEFAULT_ACCOUNT, Aws, default_region
from broker.sandbox.faults import ErrorShape, Fault, Faults
from broker.sandbox.keys import compact_json
from broker.sandbox.listening import LoopbackServer
from broker.sandbox.namespace.server import Namespace

ISSUER = "https://federation.namespaceapis.com"
AUDIENCE = "sts.amazonaws.com"
THUMBPRINT = "a053375bfe84e8b748782c7cee15827a6af5a405"
EC2_TRUST_POLICY: Mapping[str, object] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}
"""The trust policy of a machine's role, which nobody assumes by hand."""


def utc_now() -> datetime:
    return datetime.now(UTC)


def guide_trust_policy(
    *,
    workspace: str,
    account: str = DEFAULT_ACCOUNT,
    issuer: str = ISSUER,
    audience: str = AUDIENCE,
    subject: str | None = None,
    partition: str = "aws",
) -> dict[str, object]:
    """Return the trust policy that the guide prints. Source: guide-flows.md, last table."""
    host = issuer.removeprefix("https://")
    conditions = {f"{host}:aud": audience, f"{host}:sub": subject or f"{workspace}/*"}
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:{partition}:iam::{account}:oidc-provider/{host}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringLike": conditions},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


class Sandbox:
    """Both clouds. Everything but entering and leaving may be done from any thread.

    It starts with workspace ``ws_1`` ("Acme"), instance ``i-abc``, and account
    123456789012 with the guide's OIDC provider (``provider_arn``) and a role ``deploy``
    (``role_arn``) that has the guide's trust policy. An *empty* one has neither yet: the two
    ARNs are those that they would have.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = utc_now,
        signing_clock: Callable[[], datetime] | None = None,
        s3: bool = False,
        workspace: str = "ws_1",
        workspace_name: str = "Acme",
        instance_id: str = "i-abc",
        issuer: str = ISSUER,
        algorithm: str = "ES256",
        account: str = DEFAULT_ACCOUNT,
        role: str = "deploy",
        region: str | None = None,
        partition: str = "aws",
        empty: bool = False,
        jwks_timeout_s: float = 5.0,
        host: str = "127.0.0.1",
        advertised_host: str | None = None,
        namespace_port: int = 0,
        aws_port: int = 0,
    ) -> None:
        """*now* is the sandbox's clock (aware UTC); *s3* starts moto's S3 (needs moto).

        *signing_clock*, by default *now*, is the one that dates of signatures are compared
        with: SDKs sign by the real time, which a test that moves *now* does not move.

        *algorithm* is that of the ID tokens. *region*, when given, is the only one that
        signatures may be scoped to. *partition* is ``aws``, ``aws-cn`` or ``aws-us-gov``.
        *host* is listened on, *advertised_host* put into URLs.
        """
        self._faults = Faults()
        self._region = region
        self._partition = partition
        self._is_empty = empty
        self._account = account
        self._host = advertised_host or host
        self.aws = Aws(
            now=now,
            signing_clock=signing_clock or now,
            faults=self._faults,
            region=region,
            partition=partition,
            jwks_timeout_s=jwks_timeout_s,
            with_s3=s3,
        )
        self.namespace = Namespace(
            now=now,
            faults=self._faults,
            workspace=workspace,
            workspace_name=workspace_name,
            instance_id=instance_id,
            issuer=issuer,
            algorithm=algorithm,
            resolve_at=self.aws.resolve_at,
            jwks_timeout_s=jwks_timeout_s,
        )
        self.role_arn = f"arn:{partition}:iam::{account}:role/{role}"
        self.provider_arn = (
            f"arn:{partition}:iam::{account}:oidc-provider/{issuer.removeprefix('https://')}"
        )
        if not empty:
            self.aws.add_role(role, trust_policy=self.guide_trust(), account=account)
        self._namespace_http = LoopbackServer(
            self.namespace.handle, now=now, host=host, port=namespace_port
        )
        self._aws_http = LoopbackServer(self.aws.handle, now=now, host=host, port=aws_port)
        self._leaving = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as leaving:
            for part in (self.namespace, self._namespace_http, self.aws, self._aws_http):
                leaving.push_async_callback(part.stop)
                await part.start()
            self._leaving = leaving.pop_all()
        self.namespace.url = f"http://{self._host}:{self._namespace_http.port}"
        self.aws.url = f"http://{self._host}:{self._aws_http.port}"
        self.aws.add_issuer(self.namespace.issuer, resolve_at=self.namespace.url)
        if not self._is_empty:
            self.aws.add_provider(
                self.namespace.issuer,
                client_ids=(AUDIENCE,),
                thumbprints=(THUMBPRINT,),
                account=self._account,
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._leaving.aclose()

    def guide_trust(self, *, subject: str | None = None) -> dict[str, object]:
        """Return the guide's trust policy for this workspace, or for the pattern *subject*."""
        return guide_trust_policy(
            workspace=self.namespace.workspace,
            account=self._account,
            issuer=self.namespace.issuer,
            subject=subject,
            partition=self._partition,
        )

    def guide_by_sts(self, role: str = "builder", *, path: str = "/") -> str:
        """Set up a role that uses Namespace by STS web identity, and return its ARN.

        Source: guide-flows.md, second table.
        """
        arn = self._workload_role(role, path=path)
        self.aws.allow_web_identity_tokens(arn)
        issuer = self.aws.enable_outbound_federation(self._account)
        self.namespace.trust(issuer=issuer, subject_match=arn)
        return arn

    def guide_by_cognito(
        self, role: str = "builder", *, path: str = "/", region: str | None = None
    ) -> tuple[str, str]:
        """Do the same for Cognito, and return the role's ARN and the pool's id.

        Source: guide-flows.md, first table.
        """
        arn = self._workload_role(role, path=path)
        pool_id = self.aws.add_identity_pool(account=self._account, region=region)
        self.aws.allow_developer_tokens(arn, pool_id)
        self.namespace.trust_pool(pool_id)
        return arn, pool_id

    def _workload_role(self, name: str, *, path: str) -> str:
        arn = f"arn:{self._partition}:iam::{self._account}:role{path}{name}"
        if self.aws.has_role(arn):
            return arn
        return self.aws.add_role(
            name, trust_policy=EC2_TRUST_POLICY, account=self._account, path=path
        )

    def fail(
        self,
        operation: str,
        *,
        status: int | None = None,
        code: str | int | None = None,
        message: str | None = None,
        body: str | bytes | Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        delay_s: float = 0.0,
        reset: bool = False,
        truncated: bool = False,
        shape: ErrorShape | None = None,
        count: int | None = None,
    ) -> None:
        """Script the next *count* answers (None: for ever) of *operation*, by its bare name.

        Names: ``AssumeRoleWithWebIdentity``, ``GetWebIdentityToken``,
        ``GetOpenIdTokenForDeveloperIdentity``, ``PutObject``, …, ``IssueIdToken``,
        ``ExchangeOIDCToken``, …, ``workload_token``, ``id``, ``openid-configuration``,
        ``jwks`` (of every issuer); ``*`` is every one. With *code* or *status* and no
        *body* the error is spelled as the operation's protocol spells it; *shape* chooses
        among Namespace's spellings (by default ``http-status`` when only *status* is given).
        *delay_s* alone gives the true answer late, *truncated* alone half of it.
        """
        fault = Fault(
            status=status,
            code=code,
            message=message,
            body=_bytes(body),
            headers=headers or {},
            delay_s=delay_s,
            reset=reset,
            truncated=truncated,
            shape=shape,
            count=count,
        )
        self._faults.add(operation, fault)

    def heal(self, operation: str | None = None) -> None:
        """Forget what was scripted for *operation*, or everything."""
        self._faults.remove(operation)

    def environment(self) -> dict[str, str]:
        """Return what points a broker at this sandbox."""
        return {"NSC_IAM_ENDPOINT": self.namespace.url} | self._aws_endpoints()

    def aws_environment(
        self, arn: str | None = None, *, session_name: str = "test", lifetime_s: float = 3600
    ) -> dict[str, str]:
        """Return what makes a program the role *arn*, ``role_arn`` unless given.

        It holds the keys of a new session, region and endpoints.
        """
        keys = self.aws.role_session(
            arn or self.role_arn, session_name=session_name, lifetime_s=lifetime_s
        )
        return self.keys_environment(keys)

    def administrator_environment(self) -> dict[str, str]:
        """Return what gives a program every right in the account."""
        return self.keys_environment(self.aws.administrator(self._account))

    def keys_environment(self, keys: IssuedKeys) -> dict[str, str]:
        """Return what gives a program *keys*, region and endpoints."""
        session = {"AWS_SESSION_TOKEN": keys.session_token} if keys.session_token else {}
        return {
            "AWS_ACCESS_KEY_ID": keys.access_key_id,
            "AWS_SECRET_ACCESS_KEY": keys.secret_access_key,
            **session,
            **self._aws_endpoints(),
            **self._aws_region(),
        }

    def client_environment(self) -> dict[str, str]:
        """Return what points an AWS SDK at this sandbox; credentials are not in it.

        botocore reads the region from AWS_DEFAULT_REGION only, the other SDKs from AWS_REGION.
        """
        return {"AWS_ENDPOINT_URL": self.aws.url} | self._aws_region()

    def _aws_region(self) -> dict[str, str]:
        region = self._region or default_region(self._partition)
        return {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}

    def _aws_endpoints(self) -> dict[str, str]:
        services = ("STS", "IAM", "COGNITO_IDENTITY")
        return {f"AWS_ENDPOINT_URL_{service}": self.aws.url for service in services}


@contextmanager
def sandbox_in_thread(**options: Any) -> Iterator[Sandbox]:
    """Run a sandbox on an event loop and thread of its own; *options* are `Sandbox`'s."""
    started: Future[tuple[Sandbox, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        leave = asyncio.Event()
        async with Sandbox(**options) as sandbox:
            started.set_result((sandbox, asyncio.get_running_loop(), leave))
            await leave.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="sandbox")
    thread.start()
    try:
        sandbox, loop, leave = started.result()
        try:
            yield sandbox
        finally:
            loop.call_soon_threadsafe(leave.set)
    finally:
        thread.join()


def _bytes(body: str | bytes | Mapping[str, object] | None) -> bytes | None:
    if isinstance(body, Mapping):
        body = compact_json(body)
    return body.encode() if isinstance(body, str) else body
