"""Whom a workspace trusts, read and changed at Namespace as one of its identities. Decides nothing
about AWS's side.

Source: namespace-api.md 6.6 to 6.8.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from broker.clock import Clock
from broker.credentials import NamespaceToken
from broker.lease import Refused, Source, Stale, Unavailable, backoff_s
from broker.setup import to_namespace_pool_trust
from broker.setup.to_namespace_pool_trust import FoundPoolTrust
from broker.setup.to_namespace_relationships import (
    NSC_REMOVAL,
    Entry,
    FoundTrust,
    found_trust,
    nsc_line,
    with_wanted,
    without,
)
from broker.setup.wanted import (
    GUID_OF_THE_POOL,
    ISSUER_OF_THE_ACCOUNT,
    CognitoTrust,
    Known,
    StsTrust,
)
from broker.sources.aws.web_identity import DEVELOPER_PROVIDER
from broker.sources.namespace.api import NamespaceIam
from broker.sources.redact import redacted

T = TypeVar("T")

PASSING_LIMIT_S = 60.0
"""How long one call goes on over passing faults."""

CHANGES_AT_MOST = 5
"""How often the list is read again and the change tried anew."""

_NOT_BY_TRYING_AGAIN = ("access-denied", "not-found", "no-identity", "unauthenticated")

Changes = Callable[[Sequence[Entry]], tuple[Entry, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relationships:
    """A workspace's trust relationships as they came, and the generation of the list: opaque, and
    empty while there is none."""

    generation: str
    entries: tuple[Entry, ...]


class NamespaceTrust:
    """One workspace's trust. Every method raises `Refused` where the identity at hand is none, is
    another workspace's or has not the right, and `Unavailable` after a minute of passing faults.
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
        """Have it raised where the identity at hand is none of this workspace's."""
        await self._with_bearer(self._checked)

    async def relationships(self) -> Relationships:
        answer = await self._with_bearer(self._iam.list_trust_relationships)
        listed = answer.get("trust_relationships", answer.get("trustRelationships"))
        generation = answer.get("generation")
        entries = [] if listed is None else listed
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise Unavailable(
                "Namespace told its trust relationships as something other than a list of them",
                word="bad-answer",
            )
        return Relationships(
            generation="" if generation is None else str(generation), entries=tuple(entries)
        )

    async def change(self, changes: Changes) -> None:
        """Make the list what *changes* makes of it, whoever else changes it meanwhile.

        A stale generation has no status of its own that is known, and an update whose answer was
        lost may have been made: so after every failure the list is read again.

        Source: namespace-api.md 6.7.
        """
        failures = 0
        while True:
            standing = await self.relationships()
            wanted = changes(standing.entries)
            if wanted == standing.entries:
                return
            try:
                await self._replace(standing.generation, wanted)
                return
            except (Refused, Unavailable) as error:
                failures += 1
                if failures == CHANGES_AT_MOST or error.word in _NOT_BY_TRYING_AGAIN:
                    raise
            await self._clock.sleep(backoff_s(failures, jitter=0, first_s=0.2, longest_s=5))

    async def trust_pool(self, pool_id: str, *, provider: str) -> None:
        """Trust an identity pool; naming it again does no harm. Source: namespace-api.md 6.6."""

        async def named(bearer: str) -> None:
            await self._iam.trust_aws_cognito_identity_pool(
                bearer, pool_id=pool_id, provider=provider
            )

        await self._with_bearer(named)

    async def _replace(self, generation: str, entries: tuple[Entry, ...]) -> None:
        async def replaced(bearer: str) -> None:
            await self._iam.update_trust_relationships(
                bearer, generation=generation, relationships=entries
            )

        await self._with_bearer(replaced, patiently=False)

    # As whom.

    async def _with_bearer(
        self, call: Callable[[str], Awaitable[T]], *, patiently: bool = True
    ) -> T:
        """Call with the identity's token; one that was not taken is fetched anew, once."""

        async def called() -> T:
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

        return await (self._patiently(called) if patiently else called())

    async def _bearer(self) -> str:
        token = (await self._identity.fetch()).value
        workspace = token.tenant_id or (await self._iam.get_tenant(token.bearer)).tenant_id
        if workspace != self._workspace:
            raise Refused(
                "the Namespace identity at hand is of workspace "
                f"{redacted(workspace or 'unknown')}, not of {redacted(self._workspace)}; "
                "log in there with `nsc login`",
                word="access-denied",
            )
        return token.bearer

    async def _checked(self, bearer: str) -> None:
        await self._iam.get_tenant(bearer)

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
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


class StsTrustHands:
    """A workspace's trust relationship for an AWS identity."""

    def __init__(
        self,
        trust: NamespaceTrust,
        *,
        is_admitted: Callable[[StsTrust], Awaitable[bool]] | None = None,
    ) -> None:
        """*is_admitted* tries to exchange a token under it; asked where the list cannot be
        read."""
        self._trust = trust
        self._is_admitted = is_admitted

    async def read(self, wanted: StsTrust, *, deeply: bool) -> FoundTrust:
        """Return what stands; where that is not for us to read, why, and whether it does anyhow."""
        try:
            entries = (await self._trust.relationships()).entries
        except Refused as refused:
            if self._is_admitted is None or ISSUER_OF_THE_ACCOUNT in wanted.issuer:
                return FoundTrust(unread=_why(refused))
            return FoundTrust(unread=_why(refused), proven=await self._is_admitted(wanted))
        return found_trust(entries, wanted)

    async def create(self, wanted: StsTrust) -> Known:
        with _by_hand(nsc_line(wanted)):
            await self._trust.change(lambda entries: with_wanted(entries, wanted))
        return Known()

    async def change(self, wanted: StsTrust, found: FoundTrust) -> None:
        await self.create(wanted)

    async def remove(self, wanted: StsTrust, found: FoundTrust) -> None:
        with _by_hand(NSC_REMOVAL):
            await self._trust.change(lambda entries: without(entries, wanted))

    async def take_back(self, wanted: StsTrust, found: FoundTrust) -> None:
        await self.remove(wanted, found)


class CognitoTrustHands:
    """A workspace's trust in an identity pool. Namespace has no call that tells of it, and none
    that ends it."""

    def __init__(
        self,
        trust: NamespaceTrust,
        *,
        is_admitted: Callable[[CognitoTrust], Awaitable[bool]] | None = None,
    ) -> None:
        """*is_admitted* tries to exchange a token of the pool."""
        self._trust = trust
        self._is_admitted = is_admitted

    async def read(self, wanted: CognitoTrust, *, deeply: bool) -> FoundPoolTrust:
        """Return what can be found out, and whether the identity at hand may be asked to do it."""
        known = GUID_OF_THE_POOL not in wanted.guid
        if known and self._is_admitted is not None and await self._is_admitted(wanted):
            return FoundPoolTrust(proven=True)
        try:
            await self._trust.check_identity()
        except Refused as refused:
            return FoundPoolTrust(unread=_why(refused))
        return FoundPoolTrust()

    async def create(self, wanted: CognitoTrust) -> Known:
        pool_id = f"{wanted.region}:{wanted.guid}"
        with _by_hand(to_namespace_pool_trust.nsc_line(wanted)):
            await self._trust.trust_pool(pool_id, provider=DEVELOPER_PROVIDER)
        return Known()

    async def change(self, wanted: CognitoTrust, found: FoundPoolTrust) -> None:
        await self.create(wanted)

    async def remove(self, wanted: CognitoTrust, found: FoundPoolTrust) -> None:
        """There is nothing to be done: see the class."""

    async def take_back(self, wanted: CognitoTrust, found: FoundPoolTrust) -> None:
        """There is nothing to be done: see the class."""


def _why(refused: Refused) -> str:
    """Return why the identity at hand is none for this, as a plan says it."""
    if refused.word == "no-identity":
        return "this machine has no Namespace identity to do it as"
    return str(refused)


@contextmanager
def _by_hand(line: str) -> Iterator[None]:
    """Have a refusal also say what somebody who may is to run."""
    try:
        yield
    except Refused as refused:
        told = f"{refused}, or have somebody who may run `{line}`"
        raise Refused(told, word=refused.word) from refused
