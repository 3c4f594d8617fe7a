"""A workspace's trust, read and changed at Namespace as one of its identities.

Source: namespace-api.md 6.6 to 6.8.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from broker.clock import Clock
from broker.credentials import NamespaceToken
from broker.lease import Refused, Source, Stale, Unavailable, backoff_s
from broker.sources.namespace.api import NamespaceIam
from broker.sources.redact import redacted

T = TypeVar("T")

PASSING_LIMIT_S = 60.0
"""How long one call is retried over passing faults."""

MAX_CHANGES = 5
"""How often the list is read and changed again."""

_PERMANENT = ("access-denied", "not-found", "no-identity", "unauthenticated")

Entry = Mapping[str, object]
"""One trust relationship, as Namespace has it."""

Changes = Callable[[Sequence[Entry]], tuple[Entry, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRelationships:
    """A workspace's trust relationships as received, and the generation of the list.

    The generation is opaque, and empty while there is no list.
    """

    generation: str
    entries: tuple[Entry, ...]


class NamespaceTrust:
    """One workspace's trust.

    Every method raises `Refused` where this machine has no Namespace identity, one of another
    workspace or one without the right, and `Unavailable` after a minute of passing faults.
    """

    def __init__(
        self,
        iam: NamespaceIam,
        *,
        identity: Source[NamespaceToken],
        workspace: str,
        clock: Clock,
    ) -> None:
        self._iam = iam
        self._identity = identity
        self._workspace = workspace
        self._clock = clock

    async def check_identity(self) -> None:
        """Raise where this machine's identity is not one of this workspace."""
        await self._with_bearer(self._iam.get_tenant)

    async def relationships(self) -> TrustRelationships:
        answer = await self._with_bearer(self._iam.list_trust_relationships)
        listed = answer.get("trust_relationships", answer.get("trustRelationships"))
        generation = answer.get("generation")
        entries = [] if listed is None else listed
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise Unavailable(
                "Namespace returned trust relationships that are not a list",
                word="bad-answer",
            )
        return TrustRelationships(
            generation="" if generation is None else str(generation), entries=tuple(entries)
        )

    async def change(self, changes: Changes) -> None:
        """Apply *changes* to the list, whoever else changes it at the same time.

        A stale generation has no documented status, and an update whose answer was lost may have
        been made: so the list is read again after every failure.

        Source: namespace-api.md 6.7.
        """
        failures = 0
        while True:
            current = await self.relationships()
            desired = changes(current.entries)
            if desired == current.entries:
                return
            try:
                await self._replace(current.generation, desired)
                return
            except (Refused, Unavailable) as error:
                failures += 1
                if failures == MAX_CHANGES or error.word in _PERMANENT:
                    raise
            await self._clock.sleep(backoff_s(failures, jitter=0, first_s=0.2, longest_s=5))

    async def trust_pool(self, pool_id: str, *, provider: str) -> None:
        """Trust an identity pool; adding it again does no harm. Source: namespace-api.md 6.6."""

        async def add(bearer: str) -> None:
            await self._iam.trust_aws_cognito_identity_pool(
                bearer, pool_id=pool_id, provider=provider
            )

        await self._with_bearer(add)

    async def _replace(self, generation: str, entries: tuple[Entry, ...]) -> None:
        async def replace(bearer: str) -> None:
            await self._iam.update_trust_relationships(
                bearer, generation=generation, relationships=entries
            )

        await self._with_bearer(replace, retry=False)

    async def _with_bearer(self, call: Callable[[str], Awaitable[T]], *, retry: bool = True) -> T:
        """Call with the identity's token; one that was rejected is renewed once."""

        async def attempt() -> T:
            try:
                return await call(await self._bearer())
            except Stale:
                pass
            try:
                return await call(await self._bearer())
            except Stale as stale:
                raise Refused(
                    f"{stale}; log in to workspace {redacted(self._workspace)} with `nsc login`",
                    word="unauthenticated",
                ) from stale

        return await (self._retrying(attempt) if retry else attempt())

    async def _bearer(self) -> str:
        token = (await self._identity.fetch()).value
        workspace = token.tenant_id or (await self._iam.get_tenant(token.bearer)).tenant_id
        if workspace != self._workspace:
            raise Refused(
                "this machine's Namespace identity belongs to workspace "
                f"{redacted(workspace or 'unknown')}, not {redacted(self._workspace)}; log in "
                "there with `nsc login`",
                word="access-denied",
            )
        return token.bearer

    async def _retrying(self, call: Callable[[], Awaitable[T]]) -> T:
        failures, until = 0, self._clock.now().timestamp() + PASSING_LIMIT_S
        while True:
            try:
                return await call()
            except Unavailable:
                failures += 1
                pause_s = backoff_s(failures, jitter=0, first_s=0.5, longest_s=10)
                if self._clock.now().timestamp() + pause_s > until:
                    raise
            await self._clock.sleep(pause_s)


def why_not(refused: Refused) -> str:
    """Return why this machine's identity cannot do it, as a plan says it."""
    if refused.word == "no-identity":
        return "this machine has no Namespace identity to do it as"
    return str(refused)


@contextmanager
def offering_by_hand(line: str) -> Iterator[None]:
    """Add to a refusal the command that somebody with the right can run."""
    try:
        yield
    except Refused as refused:
        message = f"{refused}, or have somebody who may run `{line}`"
        raise Refused(message, word=refused.word) from refused
