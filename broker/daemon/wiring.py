"""Wire the configuration into keepers: one for each identity, role and ID token."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from broker.access.caller import lease_key
from broker.access.rules import Rule
from broker.config import AwsIdentityConfig, Config, IdentityConfig, IdTokenConfig, RoleConfig
from broker.credentials import AwsCredentials, IdToken, NamespaceToken
from broker.daemon import fingerprints
from broker.daemon.runtime import Clouds, Runtime, open_clouds
from broker.keeper import Keeper
from broker.lease import NotReady, Source

T = TypeVar("T")

KEPT_ID_TOKEN_S = 3600
"""The life of an ID token that is kept for others: they may read it at any time of it."""


@dataclass(frozen=True, slots=True)
class Pipelines:
    """Every keeper, and what the daemon must know about each."""

    identities: Mapping[str, Keeper[NamespaceToken]]
    roles: Mapping[str, Keeper[AwsCredentials]]
    narrowed: Mapping[str, Keeper[AwsCredentials]]
    """The leases that belong to one rule because it adds a session policy, by `lease_key`."""
    id_tokens: Mapping[str, Keeper[IdToken]]
    watched: Mapping[str, Callable[[], Iterable[Path]]]
    """The files to watch for each identity."""
    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """How each lease is obtained, by its name; without secrets, and stable across processes."""
    closing: Mapping[str, AsyncExitStack] = field(default_factory=dict)
    """What each identity's source holds open."""

    @property
    def keepers(self) -> list[Keeper[Any]]:
        return [*self.identities.values(), *self.dependants]

    @property
    def dependants(self) -> list[Keeper[Any]]:
        """The keepers whose leases are obtained with an identity."""
        return [*self.held.values(), *self.id_tokens.values()]

    @property
    def held(self) -> dict[str, Keeper[AwsCredentials]]:
        """Every lease of a role, by `lease_key`."""
        return {**self.roles, **self.narrowed}


@asynccontextmanager
async def wired(config: Config, runtime: Runtime) -> AsyncIterator[Pipelines]:
    """Wire the configured pipelines; their connections end with the block."""
    async with AsyncExitStack() as stack:
        yield wire(config, await open_clouds(config.upstream, runtime, stack))


def wire(config: Config, clouds: Clouds, *, before: Pipelines | None = None) -> Pipelines:
    """Return the configured pipelines.

    A lease that is obtained as *before*, under the same name, stays with its keeper.
    """
    wiring = Wiring(clouds, before=before or Pipelines({}, {}, {}, {}, {}))
    identities = {name: wiring.identity(each) for name, each in config.identities.items()}
    roles = {entry.role.name: entry for entry in config.roles}
    narrowed = {
        lease_key(name, rule.name): with_policy(roles[name], rule)
        for rule in config.rules
        if rule.grant.narrowed
        for name in rule.roles
    }

    def keepers(entries: Mapping[str, RoleConfig]) -> dict[str, Keeper[AwsCredentials]]:
        return {
            key: wiring.role(key, entry, bearer=identities[entry.identity])
            for key, entry in entries.items()
        }

    return Pipelines(
        identities,
        keepers(roles),
        keepers(narrowed),
        {
            entry.name: wiring.id_token(entry, bearer=identities[entry.identity])
            for entry in config.id_tokens
        },
        wiring.watched,
        wiring.fingerprints,
        wiring.closing,
    )


def with_policy(entry: RoleConfig, rule: Rule) -> RoleConfig:
    """Return the role with the session policy of *rule*."""
    return replace(entry, role=replace(entry.role, policy=rule.policy))


class Wiring:
    """Builds keepers, or reuses those of *before*, and records how each lease is obtained."""

    def __init__(self, clouds: Clouds, *, before: Pipelines) -> None:
        self.fingerprints: dict[str, str] = {}
        self.watched: dict[str, Callable[[], Iterable[Path]]] = {}
        self.closing: dict[str, AsyncExitStack] = {}
        self._clouds = clouds
        self._before = before
        self._keepers_before = {keeper.name: keeper for keeper in before.keepers}

    def identity(self, identity: IdentityConfig) -> Keeper[NamespaceToken]:
        name, lease, clouds = identity.name, f"identity/{identity.name}", self._clouds
        self.fingerprints[lease] = fingerprints.of_identity(
            identity, upstream=clouds.upstream, environ=clouds.runtime.environ
        )
        if keeper := self._unchanged(lease):
            self.watched[name] = self._before.watched[name]
            self.closing[name] = self._before.closing[name]
            return keeper
        self.closing[name] = AsyncExitStack()
        source = clouds.identity(identity, self.closing[name])
        self.watched[name] = source.watched
        return self._keeper(lease, source, often=isinstance(identity, AwsIdentityConfig))

    def role(
        self, key: str, entry: RoleConfig, *, bearer: Keeper[NamespaceToken]
    ) -> Keeper[AwsCredentials]:
        lease, bearer_print = f"role/{key}", self.fingerprints[bearer.name]
        self.fingerprints[lease] = fingerprints.of_role(entry, bearer=bearer_print)
        if keeper := self._unchanged(lease, bearer):
            return keeper
        return self._keeper(lease, self._clouds.assumed_role(entry, bearer=bearer), often=True)

    def id_token(self, entry: IdTokenConfig, *, bearer: Keeper[NamespaceToken]) -> Keeper[IdToken]:
        lease, bearer_print = f"id-token/{entry.name}", self.fingerprints[bearer.name]
        self.fingerprints[lease] = fingerprints.of_id_token(entry, bearer=bearer_print)
        if keeper := self._unchanged(lease, bearer):
            return keeper
        return self._keeper(
            lease,
            self._clouds.id_token(entry.audience, bearer=bearer, duration_s=KEPT_ID_TOKEN_S),
        )

    def _unchanged(
        self, lease: str, bearer: Keeper[NamespaceToken] | None = None
    ) -> Keeper[Any] | None:
        """Return the keeper that has *lease* already, obtained in the same way with *bearer*."""
        if self._before.fingerprints.get(lease) != self.fingerprints[lease]:
            return None
        same_bearer = bearer is None or self._keepers_before.get(bearer.name) is bearer
        return self._keepers_before[lease] if same_bearer else None

    def _keeper(self, lease: str, source: Source[T], *, often: bool = False) -> Keeper[T]:
        """Return a new keeper; *often*: renewed as often as a demo wants to show.

        It begins with the live lease of a keeper that obtained it in the same way: then only the
        name has changed.
        """
        runtime = self._clouds.runtime
        keeper = Keeper(
            lease,
            source,
            clock=runtime.clock,
            renew_within_s=runtime.renew_within_s if often else None,
        )
        for name, other in self._keepers_before.items():
            if self._before.fingerprints[name] == self.fingerprints[lease]:
                with suppress(NotReady):
                    keeper.restore(other.current(), renew=other.status().error is not None)
        return keeper
