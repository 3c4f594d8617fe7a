"""Hand the live leases over to the next process, and report our state to systemd."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from broker.clock import Clock
from broker.credentials import AwsCredentials, IdToken, NamespaceToken
from broker.keeper import Event, Keeper, Obtained, Renewed
from broker.lease import Lease, NotReady
from broker.systemd import Notifier, Store

if TYPE_CHECKING:
    # Not imported at run time: what was handed over is read before anything heavy is imported.
    from broker.daemon.runtime import Runtime
    from broker.daemon.wiring import Pipelines

VERSION = 1

KINDS: Final[Mapping[str, type[AwsCredentials | IdToken | NamespaceToken]]] = {
    "aws": AwsCredentials,
    "id-token": IdToken,
    "namespace-token": NamespaceToken,
}


class Unreadable(ValueError):
    """The document is not ours, or of another version; the text shows nothing of its content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotEntry:
    """One lease, and how it was obtained: only a keeper that would do the same may restore it.

    ``in_doubt``: its last renewal failed, so that it is to be renewed at once.
    """

    fingerprint: str
    lease: Lease[Any]
    in_doubt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSnapshot:
    """Leases by name; of several snapshots the one with the highest ``serial`` is the newest."""

    serial: int = 0
    leases: Mapping[str, SnapshotEntry] = field(default_factory=dict)


def take_snapshot(
    keepers: Iterable[Keeper[Any]], fingerprints: Mapping[str, str], *, serial: int, now: datetime
) -> LeaseSnapshot:
    """Return the live leases of *keepers*."""
    leases: dict[str, SnapshotEntry] = {}
    for keeper in keepers:
        try:
            lease = keeper.current(now=now)
        except NotReady:
            continue
        leases[keeper.name] = SnapshotEntry(
            fingerprint=fingerprints[keeper.name],
            lease=lease,
            in_doubt=keeper.status(now=now).error is not None,
        )
    return LeaseSnapshot(serial=serial, leases=leases)


def restore_leases(
    snapshot: LeaseSnapshot,
    keepers: Iterable[Keeper[Any]],
    fingerprints: Mapping[str, str],
    *,
    is_in_doubt: Callable[[str], bool],
    now: datetime,
) -> list[str]:
    """Restore the live leases that *keepers* would obtain in the same way; return their names.

    A lease that *is_in_doubt* by its name is renewed at once, and one from the future too: then the
    clock was set.
    """
    restored = []
    for keeper in keepers:
        found = snapshot.leases.get(keeper.name)
        if found is None or found.fingerprint != fingerprints.get(keeper.name):
            continue
        if not found.lease.is_live(now=now):
            continue
        early = found.in_doubt or found.lease.issued_at > now or is_in_doubt(keeper.name)
        keeper.restore(found.lease, renew=early)
        restored.append(keeper.name)
    return restored


def newest(
    documents: Mapping[str, bytes], *, warn: Callable[[str], None]
) -> tuple[str | None, LeaseSnapshot]:
    """Return the newest readable snapshot of *documents* and its name; *warn* of the others.

    Without one, return an empty snapshot.
    """
    found: list[tuple[str | None, LeaseSnapshot]] = [(None, LeaseSnapshot())]
    for name, document in documents.items():
        try:
            found.append((name, decode(document)))
        except Unreadable as error:
            warn(f"the leases stored as {name} are ignored, and obtained anew: {error}")
    return max(found, key=lambda each: each[1].serial)


def encode(snapshot: LeaseSnapshot) -> bytes:
    """Return *snapshot* as a document, with the secrets in it."""
    leases = [
        {
            "name": name,
            "fingerprint": each.fingerprint,
            "in_doubt": each.in_doubt,
            "kind": _kind_of(each.lease.value),
            "value": asdict(each.lease.value),
            "issued_at": each.lease.issued_at.isoformat(),
            "expires_at": each.lease.expires_at and each.lease.expires_at.isoformat(),
        }
        for name, each in snapshot.leases.items()
    ]
    return json.dumps({"version": VERSION, "serial": snapshot.serial, "leases": leases}).encode()


def decode(document: bytes) -> LeaseSnapshot:
    """Return the snapshot that `encode` made a document of.

    Raises:
        Unreadable: It is something else.
    """
    try:
        found = json.loads(document)
        version = found["version"]
        if version != VERSION:
            raise Unreadable("they were written by another version of the broker")
        leases = {each["name"]: _entry(each) for each in found["leases"]}
        return LeaseSnapshot(serial=int(found["serial"]), leases=leases)
    except Unreadable:
        raise
    # From None: the cause may show the content.
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError):
        raise Unreadable("they are not in the broker's format") from None


def _entry(found: Mapping[str, Any]) -> SnapshotEntry:
    kind, value, expires_at = KINDS[found["kind"]], found["value"], found["expires_at"]
    lease = Lease(
        value=kind(**_texts(value, of=kind)),
        issued_at=_instant(found["issued_at"]),
        expires_at=None if expires_at is None else _instant(expires_at),
    )
    return SnapshotEntry(
        fingerprint=str(found["fingerprint"]), lease=lease, in_doubt=bool(found["in_doubt"])
    )


def _texts(value: Mapping[str, Any], *, of: type[Any]) -> Mapping[str, Any]:
    optional = {each.name for each in fields(of) if each.default is None}
    for name, text in value.items():
        if not isinstance(text, str) and (text is not None or name not in optional):
            raise ValueError
    return value


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError
    return at


def _kind_of(value: object) -> str:
    return next(kind for kind, of in KINDS.items() if type(value) is of)


START_MARGIN_S = 60.0
"""How long after the start-up limit systemd may take us for hanging."""

BEAT_S = 10.0
"""How often waiting messages are sent again if there is no watchdog."""


class ServiceNotifier:
    """Reports readiness, status and life to systemd, and stores every new lease with it."""

    def __init__(self, runtime: "Runtime", *, pipelines: "Callable[[], Pipelines]") -> None:
        """Report on what *pipelines* returns: a reload changes it."""
        self.restored: list[str] = []
        """The names of the leases that were restored."""
        self._notifier: Notifier = runtime.supervisor
        self._clock: Clock = runtime.clock
        self._warn = runtime.warn
        self._pipelines = pipelines
        stored_as, self._snapshot = newest(runtime.inherited.kept, warn=runtime.warn)
        self._serial = self._snapshot.serial
        self._store = Store(runtime.supervisor, holds=stored_as, found=runtime.inherited.kept)
        self._phase = "starting"
        self._note = ""
        self._is_scheduled = False
        self._has_new_lease = False
        self._can_store = True

    def restore(self) -> None:
        """Restore the leases of the previous process.

        An identity from files is read again at once: they may have changed meanwhile.
        """
        pipelines = self._pipelines()
        in_files = {f"identity/{name}" for name, paths in pipelines.watched.items() if paths()}
        self.restored = restore_leases(
            self._snapshot,
            pipelines.keepers,
            pipelines.fingerprints,
            is_in_doubt=in_files.__contains__,
            now=self._clock.now(),
        )

    def on_event(self, event: Event) -> None:
        """Schedule a report for the next turn of the event loop, one for all events of this one."""
        self._has_new_lease = self._has_new_lease or isinstance(event, Obtained | Renewed)
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._report)

    def starting(self, *, limit_s: float) -> None:
        """Report that `ready` may take so long."""
        self._notifier.starting(limit_s=limit_s + START_MARGIN_S)

    def ready(self, *, note: str = "") -> None:
        """Report that we serve, at first or after a reload; *note* stays in the status line."""
        self._phase = "serving"
        self._note = note
        self._notifier.ready(self._status())
        self.store()

    def reloading(self) -> None:
        self._notifier.reloading()

    def stopping(self) -> None:
        """Report that we are stopping, and store the leases for the next process."""
        self._phase = "stopping"
        self._notifier.stopping(self._status())
        self.store()

    def store(self) -> None:
        """Store every live lease with systemd."""
        self._has_new_lease = False
        if not self._notifier.is_connected:
            return
        pipelines = self._pipelines()
        self._serial += 1
        snapshot = take_snapshot(
            pipelines.keepers,
            pipelines.fingerprints,
            serial=self._serial,
            now=self._clock.now(),
        )
        try:
            self._store.put(encode(snapshot))
        except OSError as error:
            if self._can_store:
                self._warn(
                    f"the newest leases will not outlive a restart: {error.strerror}; check that "
                    "memfd_create is allowed and LimitNOFILE= is high enough"
                )
            self._can_store = False
        else:
            self._can_store = True

    async def beat(self) -> None:
        """Keep the watchdog alive for ever: systemd kills a process whose event loop hangs."""
        watchdog_s = self._notifier.watchdog_s
        every_s = BEAT_S if watchdog_s is None else watchdog_s / 2
        while True:
            self._notifier.watchdog()
            await self._clock.sleep(every_s)

    def _report(self) -> None:
        self._is_scheduled = False
        if self._has_new_lease:
            self.store()
        self._notifier.status(self._status())

    def _status(self) -> str:
        leases = lease_summary(self._pipelines().keepers)
        return "; ".join(filter(None, (self._phase, self._note, leases)))


def lease_summary(keepers: Iterable[Keeper[Any]]) -> str:
    """Return how many leases are in each state, and the error word of each failing one."""
    statuses = [keeper.status() for keeper in keepers]
    counts = Counter(status.state for status in statuses)
    words = ", ".join(f"{count} {state}" for state, count in counts.items())
    failing = ", ".join(f"{status.name} {status.error}" for status in statuses if status.error)
    return f"leases: {words or 'none'}" + (f" ({failing})" if failing else "")
