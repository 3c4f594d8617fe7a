"""Obtain one lease without a daemon, for a command."""

from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, TypeVar

from broker.clock import Clock
from broker.config import AwsIdentityConfig, Config, Upstream
from broker.credentials import AwsCredentials, IdToken, NamespaceToken
from broker.daemon.runtime import Runtime, open_clouds
from broker.daemon.tasks import first_leases, running
from broker.daemon.wiring import wired
from broker.keeper import Keeper
from broker.lease import Lease, Refused, Unavailable
from broker.sources.namespace.api import Tenant
from broker.sources.namespace.exchange import ExchangedToken, exchange_once

T = TypeVar("T")

ONCE_LIMIT_S = 60.0
"""How long a command without a daemon goes on over passing faults."""


async def obtain(config: Config, role: str, runtime: Runtime) -> Lease[AwsCredentials]:
    """Obtain one lease of *role*, without a daemon.

    Raises:
        Refused: Refused, at once.
        Unavailable: Only passing faults for 60 s.
    """
    async with wired(config, runtime) as pipelines, running(pipelines, runtime.clock):
        return await once(pipelines.roles[role], runtime.clock)


async def obtain_namespace_token(
    config: Config, identity: str, runtime: Runtime
) -> Lease[NamespaceToken]:
    """Obtain the token of one identity, without a daemon. Raises as `obtain`."""
    async with wired(config, runtime) as pipelines, running(pipelines, runtime.clock):
        return await once(pipelines.identities[identity], runtime.clock)


async def obtain_id_token(
    config: Config, identity: str, audience: str, runtime: Runtime
) -> Lease[IdToken]:
    """Obtain an ID token of one identity, without a daemon. Raises as `obtain`."""
    async with AsyncExitStack() as stack:
        pipelines = await stack.enter_async_context(wired(config, runtime))
        clouds = await open_clouds(config.upstream, runtime, stack)
        source = clouds.id_token(audience, bearer=pipelines.identities[identity])
        keeper = Keeper(f"id-token/{audience}", source, clock=runtime.clock)
        tasks = await stack.enter_async_context(running(pipelines, runtime.clock))
        tasks.start(keeper, keeper.run)
        return await once(keeper, runtime.clock)


async def exchange(
    upstream: Upstream, identity: AwsIdentityConfig, runtime: Runtime
) -> ExchangedToken:
    """Exchange an AWS identity for a Namespace token, without a daemon. Raises as `obtain`."""
    async with AsyncExitStack() as stack:
        clouds = await open_clouds(upstream, runtime, stack)
        return await exchange_once(clouds.exchange(identity, stack), clock=runtime.clock)


async def tenant_of(bearer: str, upstream: Upstream, runtime: Runtime) -> Tenant:
    """Return the workspace of a Namespace token, as Namespace tells it.

    Raises:
        Refused, Unavailable: Namespace does not say.
    """
    async with AsyncExitStack() as stack:
        clouds = await open_clouds(upstream, runtime, stack)
        return await clouds.iam.get_tenant(bearer)


async def obtain_all(config: Config, runtime: Runtime) -> Sequence[tuple[str, Lease[Any] | str]]:
    """Obtain every lease once; return each name with the lease, or why there is none."""
    async with wired(config, runtime) as pipelines, running(pipelines, runtime.clock):
        return [
            (keeper.name, await _or_reason(once(keeper, runtime.clock)))
            for keeper in pipelines.keepers
        ]


async def once(keeper: Keeper[T], clock: Clock) -> Lease[T]:
    """Return the first lease of *keeper*, waiting over passing faults for at most 60 s."""
    await first_leases([keeper], clock=clock, limit_s=ONCE_LIMIT_S)
    return await keeper.fetch()


async def _or_reason(lease: Coroutine[Any, Any, Lease[T]]) -> Lease[T] | str:
    try:
        return await lease
    except (Refused, Unavailable) as error:
        return str(error)
