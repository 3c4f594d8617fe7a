"""Wire sources and keepers from the configuration, and run them. Serves nothing."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from broker.access.caller import lease_key
from broker.access.rules import Rule
from broker.clock import Clock, SystemClock, first_of, within
from broker.config import Config, IdentityConfig, IdTokenConfig, RoleConfig, Upstream
from broker.credentials import AwsCredentials, IdToken, NamespaceToken
from broker.daemon import fingerprints, host
from broker.daemon.fingerprints import FROM_AWS
from broker.daemon.tasks import TaskRegistry, task_registry
from broker.files.watch import watch
from broker.keeper import Event, Keeper, Obtained, Renewed
from broker.lease import NotReady, Source
from broker.sources.aws.assume_role import AssumedRole, StsClient
from broker.sources.aws.credential_chain import CredentialChain
from broker.sources.aws.explain import IamRoleReader, RoleReader
from broker.sources.http_client import open_session
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.exchange import (
    TokenExchange,
    aws_identity_source,
)
from broker.sources.namespace.id_token import IdTokenFor
from broker.sources.namespace.identity import IdentitySource, identity_source
from broker.systemd import Inherited, Notifier
from broker.telemetry.log import Log, logger

T = TypeVar("T")

KEPT_ID_TOKEN_S = 3600
"""The life of an ID token that is kept for others: they may read it at any time of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What pipelines are made with, so that tests and the demo can hand in their own."""

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    clock: Clock = field(default_factory=SystemClock)
    log: Log = field(default_factory=lambda: logger(form="auto", level="info"))
    renew_within_s: float | None = None
    """Renew role leases, and identities that come from AWS, at least this often: for a demo."""
    boot_id: Callable[[], str] = host.boot_id
    """What is another on a clone of this machine, and after each start of it."""
    inherited: Inherited = field(default_factory=Inherited)
    supervisor: Notifier = field(default_factory=Notifier)

    def warn(self, reason: str) -> None:
        self.log.warning("warning", reason=reason)


@dataclass(frozen=True, slots=True)
class Pipelines:
    """Every keeper, and how to hear that an identity's files changed."""

    identities: Mapping[str, Keeper[NamespaceToken]]
    roles: Mapping[str, Keeper[AwsCredentials]]
    narrowed: Mapping[str, Keeper[AwsCredentials]]
    """The leases that a rule has for itself, by `lease_key`."""
    id_tokens: Mapping[str, Keeper[IdToken]]
    watched: Mapping[str, Callable[[], Iterable[Path]]]
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Of each lease by name, every parameter of the calls that it is bought with, the identity's
    among them: no secret, and the same in another process."""
    closing: Mapping[str, AsyncExitStack] = field(default_factory=dict)
    """What each identity holds open while it is kept."""

    @property
    def keepers(self) -> list[Keeper[Any]]:
        return [*self.identities.values(), *self.dependants]

    @property
    def dependants(self) -> list[Keeper[Any]]:
        """What is bought with an identity."""
        return [*self.held.values(), *self.id_tokens.values()]

    @property
    def held(self) -> dict[str, Keeper[AwsCredentials]]:
        """Every lease of a role, by the name it is held under for a caller."""
        return {**self.roles, **self.narrowed}


@asynccontextmanager
async def wired(config: Config, runtime: Runtime) -> AsyncIterator[Pipelines]:
    """Wire the configured pipelines; their connections end with the block."""
    async with AsyncExitStack() as stack:
        yield wire(config, await opened_clouds(config.upstream, runtime, stack))


def wire(config: Config, clouds: "Clouds", *, before: Pipelines | None = None) -> Pipelines:
    """Return the configured pipelines. A lease that is bought as *before*, and called the same,
    stays with the keeper that has it."""
    wiring = Wiring(clouds, before=before or Pipelines({}, {}, {}, {}, {}))
    identities = {name: wiring.identity(each) for name, each in config.identities.items()}
    assumed = {entry.role.name: entry for entry in config.roles}
    return Pipelines(
        identities,
        {
            name: wiring.role(entry, bearer=identities[entry.identity], key=name)
            for name, entry in assumed.items()
        },
        {
            lease_key(name, rule.name): wiring.role(
                under(assumed[name], rule),
                bearer=identities[assumed[name].identity],
                key=lease_key(name, rule.name),
            )
            for rule in config.rules
            if rule.grant.narrowed
            for name in rule.roles
        },
        {
            entry.name: wiring.id_token(entry, bearer=identities[entry.identity])
            for entry in config.id_tokens
        },
        wiring.watched,
        wiring.fingerprints,
        wiring.closing,
    )


class Wiring:
    """Makes keepers, or finds them among those of *before*, and notes what they are made of."""

    def __init__(self, clouds: "Clouds", *, before: Pipelines) -> None:
        self.fingerprints: dict[str, str] = {}
        self.watched: dict[str, Callable[[], Iterable[Path]]] = {}
        self.closing: dict[str, AsyncExitStack] = {}
        self._clouds = clouds
        self._before = before
        self._kept = {keeper.name: keeper for keeper in before.keepers}

    def identity(self, identity: IdentityConfig) -> Keeper[NamespaceToken]:
        name, clouds = identity.name, self._clouds
        made_of = fingerprints.of_identity(
            identity, upstream=clouds.upstream, environ=clouds.runtime.environ
        )
        if kept := self._same(f"identity/{name}", made_of):
            self.watched[name] = self._before.watched[name]
            self.closing[name] = self._before.closing[name]
            return kept
        self.closing[name] = AsyncExitStack()
        source = identity_from(identity, clouds, self.closing[name])
        self.watched[name] = source.watched
        often = identity.source in FROM_AWS
        return self._heir(clouds.kept(f"identity/{name}", source, often=often))

    def role(
        self, entry: RoleConfig, *, bearer: Keeper[NamespaceToken], key: str
    ) -> Keeper[AwsCredentials]:
        made_of = fingerprints.of_role(entry, bearer=self.fingerprints[bearer.name])
        source = self._clouds.assuming(entry, bearer=bearer)
        return self._same(f"role/{key}", made_of, bearer) or self._heir(
            self._clouds.kept(f"role/{key}", source, often=True)
        )

    def id_token(self, entry: IdTokenConfig, *, bearer: Keeper[NamespaceToken]) -> Keeper[IdToken]:
        made_of = fingerprints.of_id_token(entry, bearer=self.fingerprints[bearer.name])
        source = self._clouds.id_token(entry.audience, bearer=bearer, duration_s=KEPT_ID_TOKEN_S)
        return self._same(f"id-token/{entry.name}", made_of, bearer) or self._heir(
            self._clouds.kept(f"id-token/{entry.name}", source)
        )

    def _same(
        self, lease: str, made_of: str, bearer: Keeper[NamespaceToken] | None = None
    ) -> Keeper[Any] | None:
        """Return who keeps that lease already, bought in the same way with that very *bearer*."""
        self.fingerprints[lease] = made_of
        if self._before.fingerprints.get(lease) != made_of:
            return None
        same_bearer = bearer is None or self._kept.get(bearer.name) is bearer
        return self._kept[lease] if same_bearer else None

    def _heir(self, keeper: Keeper[T]) -> Keeper[T]:
        """Have *keeper* begin with what another one has that was bought in the same way: only what
        it is called has changed."""
        made_of = self.fingerprints[keeper.name]
        for lease, other in self._kept.items():
            if self._before.fingerprints[lease] == made_of:
                with suppress(NotReady):
                    keeper.restore(other.current(), renew=other.status().error is not None)
        return keeper


def under(entry: RoleConfig, rule: Rule) -> RoleConfig:
    """Return the role as *rule* narrows it: with its session policy."""
    return replace(entry, role=replace(entry.role, policy=rule.policy))


@dataclass(frozen=True, slots=True, kw_only=True)
class Clouds:
    """The connections that every pipeline shares."""

    iam: NamespaceIam
    http: Any
    sts: StsClient
    roles: RoleReader
    upstream: Upstream
    runtime: Runtime

    def id_token(
        self, audience: str, *, bearer: Keeper[NamespaceToken], duration_s: int | None = None
    ) -> IdTokenFor:
        life = {} if duration_s is None else {"duration_s": duration_s}
        return IdTokenFor(audience, bearer=bearer, iam=self.iam, clock=self.runtime.clock, **life)

    def kept(self, lease: str, source: Source[T], *, often: bool = False) -> Keeper[T]:
        """Return the keeper of one lease; *often*: renewed as often as a demo wants to show."""
        renew_within_s = self.runtime.renew_within_s if often else None
        return Keeper(lease, source, clock=self.runtime.clock, renew_within_s=renew_within_s)

    def assuming(self, entry: RoleConfig, *, bearer: Keeper[NamespaceToken]) -> AssumedRole:
        """Return the source of one role's credentials, every parameter of the call its own."""
        return AssumedRole(
            entry.role,
            token=self.id_token(entry.audience, bearer=bearer),
            sts=self.sts,
            warn=self.runtime.warn,
            clock=self.runtime.clock,
            roles=self.roles,
        )

    def from_aws(self, identity: IdentityConfig, closing: AsyncExitStack) -> TokenExchange:
        """Return the source that buys *identity*'s token with one from AWS; what it holds open ends
        with *closing*."""
        upstream, clock = self.upstream, self.runtime.clock
        chain = CredentialChain(clock=clock, profile=identity.profile, ca_bundle=upstream.ca_bundle)
        closing.push_async_callback(chain.close)
        return aws_identity_source(
            source=identity.source,
            workspace=identity.workspace,
            region=identity.region,
            chain=chain,
            iam=self.iam,
            clock=clock,
            warn=_already_said,
            audience=identity.audience,
            algorithm=identity.algorithm,
            duration_s=identity.duration_s,
            identity_pool=identity.identity_pool,
            developer_provider=identity.developer_provider,
            sts_endpoint=upstream.sts_endpoint,
            cognito_endpoint=upstream.cognito_endpoint,
        )


def _already_said(_: str) -> None:
    """That no workspace is named is among the warnings of the configuration."""


async def opened_clouds(upstream: Upstream, runtime: Runtime, stack: AsyncExitStack) -> Clouds:
    http = await stack.enter_async_context(open_session())
    sts = StsClient(
        clock=runtime.clock, endpoint=upstream.sts_endpoint, ca_bundle=upstream.ca_bundle
    )
    return Clouds(
        iam=NamespaceIam(http, upstream.iam_endpoint),
        http=http,
        sts=await stack.enter_async_context(sts),
        roles=IamRoleReader(
            environ=runtime.environ,
            clock=runtime.clock,
            sts_endpoint=upstream.sts_endpoint,
            ca_bundle=upstream.ca_bundle,
        ),
        upstream=upstream,
        runtime=runtime,
    )


def identity_from(
    identity: IdentityConfig, clouds: Clouds, closing: AsyncExitStack
) -> IdentitySource:
    """Return the source of one identity: from Namespace's own places, or bought with AWS's."""
    if identity.source in FROM_AWS:
        return clouds.from_aws(identity, closing)
    return identity_source(
        source=identity.source,
        token_file=identity.token_file,
        token_spec=identity.token_spec,
        environ=clouds.runtime.environ,
        iam=clouds.iam,
        http=clouds.http,
        clock=clouds.runtime.clock,
    )


def listen_to(pipelines: Pipelines, config: Config, on_event: Callable[[Event], None]) -> None:
    """Tell *on_event* of every lease, and wake what waits for an identity when that is renewed."""
    for keeper in pipelines.dependants:
        keeper.on_event = on_event
    for name, identity in pipelines.identities.items():
        waiting = [
            keeper
            for entry in config.roles
            if entry.identity == name
            for held, keeper in pipelines.held.items()
            if held.partition(" ")[0] == entry.role.name
        ]
        waiting_too = [
            pipelines.id_tokens[entry.name] for entry in config.id_tokens if entry.identity == name
        ]
        identity.on_event = waking([*waiting, *waiting_too], on_event)


def waking(
    dependants: Sequence[Keeper[Any]], on_event: Callable[[Event], None]
) -> Callable[[Event], None]:
    """Return what tells *on_event* of an identity's lease, and wakes *dependants* that wait."""

    def heard(event: Event) -> None:
        on_event(event)
        # What was renewed because a dependant found it stale is that one's to try: to wake the
        # others for it would have them do the same, in a circle without a pause.
        if isinstance(event, Obtained | Renewed) and not event.found_stale:
            for keeper in dependants:
                # Without an error its first attempt is under way, and waits for this very lease.
                if keeper.status().error is not None and not keeper.is_attempting:
                    keeper.renew_now()

    return heard


@asynccontextmanager
async def keeping(pipelines: Pipelines, clock: Clock) -> AsyncIterator[TaskRegistry]:
    """Run every keeper and file watch for the block. A bug in one of them ends the block."""
    async with task_registry() as kept:
        keep(pipelines, kept, clock)
        yield kept


def keep(pipelines: Pipelines, kept: TaskRegistry, clock: Clock) -> None:
    """Run every keeper and file watch that does not run yet."""
    for name, identity in pipelines.identities.items():
        look = partial(watch, pipelines.watched[name], identity.renew_now, clock=clock)
        kept.begin(identity, partial(_while_kept, identity, pipelines.closing[name]), look)
    for keeper in pipelines.dependants:
        kept.begin(keeper, keeper.run)


async def _while_kept(identity: Keeper[NamespaceToken], closing: AsyncExitStack) -> None:
    async with closing:
        await identity.run()


class Settles(Protocol):
    """A keeper, or a file that is kept: it has a first lease, or was refused it, or was tried."""

    async def settled(self) -> None: ...


async def first_leases(
    keepers: Iterable[Settles],
    *,
    clock: Clock,
    limit_s: float,
    stop: asyncio.Event | None = None,
) -> None:
    """Wait until each keeper has its first lease or was refused it, at most *limit_s* seconds, and
    no longer than until *stop*."""
    settled = asyncio.gather(*[keeper.settled() for keeper in keepers])
    works = [settled] if stop is None else [settled, asyncio.ensure_future(stop.wait())]
    with suppress(TimeoutError):
        await within(limit_s, first_of(*works), clock=clock)
