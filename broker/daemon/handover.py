"""Every live lease as one document, for our next process to begin with. Knows not who keeps it."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Final

from broker.clock import Clock
from broker.credentials import AwsCredentials, IdToken, NamespaceToken
from broker.daemon.runtime import Runtime
from broker.daemon.wiring import Pipelines
from broker.keeper import Event, Keeper, Obtained, Renewed
from broker.lease import Lease, NotReady
from broker.systemd import Notifier, Store

VERSION = 1

KINDS: Final[Mapping[str, type[AwsCredentials | IdToken | NamespaceToken]]] = {
    "aws": AwsCredentials,
    "id-token": IdToken,
    "namespace-token": NamespaceToken,
}


class Unreadable(ValueError):
    """The document is none of ours, or of another version; the text never holds what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotEntry:
    """One lease, and how it was bought: only who would buy it the same way may go on with it.

    ``in_doubt``: its last renewal failed, so that it is to be renewed at once.
    """

    fingerprint: str
    lease: Lease[Any]
    in_doubt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSnapshot:
    """Leases by name. Of several documents the one with the highest ``serial`` is the newest."""

    serial: int = 0
    leases: Mapping[str, SnapshotEntry] = field(default_factory=dict)


def take_snapshot(
    keepers: Iterable[Keeper[Any]], fingerprints: Mapping[str, str], *, serial: int, now: datetime
) -> LeaseSnapshot:
    """Return what *keepers* hold that still lives."""
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
    kept: LeaseSnapshot,
    keepers: Iterable[Keeper[Any]],
    fingerprints: Mapping[str, str],
    *,
    is_in_doubt: Callable[[str], bool],
    now: datetime,
) -> list[str]:
    """Have each of *keepers* that has none yet begin with its live lease, and return their names.

    One that was bought in another way is left. *is_in_doubt* says of which keepers, by name, the
    lease is to be renewed at once all the same, as is one from the future: a clock moved.
    """
    restored = []
    for keeper in keepers:
        found = kept.leases.get(keeper.name)
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
    """Return the newest of *documents*, and by which name it was found; *warn* is told of one that
    cannot be read. Where there is none, nothing was kept."""
    found: list[tuple[str | None, LeaseSnapshot]] = [(None, LeaseSnapshot())]
    for name, document in documents.items():
        try:
            found.append((name, read(document)))
        except Unreadable as error:
            warn(f"the leases kept as {name} are left, and obtained anew: {error}")
    return max(found, key=lambda each: each[1].serial)


def written(kept: LeaseSnapshot) -> bytes:
    """Return *kept* as a document. It holds the secrets themselves."""
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
        for name, each in kept.leases.items()
    ]
    return json.dumps({"version": VERSION, "serial": kept.serial, "leases": leases}).encode()


def read(document: bytes) -> LeaseSnapshot:
    """Return what `written` made a document of.

    Raises:
        Unreadable: It is something else.
    """
    try:
        found = json.loads(document)
        version = found["version"]
        if version != VERSION:
            raise Unreadable("they were written by another version of the broker")
        leases = {each["name"]: _kept_from(each) for each in found["leases"]}
        return LeaseSnapshot(serial=int(found["serial"]), leases=leases)
    except Unreadable:
        raise
    # From None: the error beneath may show what it stumbled over.
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError):
        raise Unreadable("they are not what a broker writes") from None


def _kept_from(found: Mapping[str, Any]) -> SnapshotEntry:
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


BEAT_S = 10.0
"""How often what systemd had no room for is sent again, where there is no watchdog."""


class ServiceNotifier:
    """Speaks for the daemon: to a `Notifier` that nobody hears, where there is no systemd."""

    def __init__(self, runtime: Runtime, *, pipelines: Callable[[], Pipelines]) -> None:
        """*pipelines* are those of the moment: they change when the configuration is reloaded."""
        self.restored: list[str] = []
        """The leases that we began with."""
        self._notifier: Notifier = runtime.supervisor
        self._clock: Clock = runtime.clock
        self._warn = runtime.warn
        self._pipelines = pipelines
        kept_as, self._kept = newest(runtime.inherited.kept, warn=runtime.warn)
        self._serial = self._kept.serial
        self._store = Store(runtime.supervisor, holds=kept_as, found=runtime.inherited.kept)
        self._phase = "starting"
        self._note = ""
        self._looks = False
        self._has_news = False
        self._stores = True  # as far as we know

    def restore(self) -> None:
        """Have the keepers begin with what the process before us held.

        An identity that lies in files is read again at once: they may have changed meanwhile.
        """
        pipelines = self._pipelines()
        in_files = {f"identity/{name}" for name, paths in pipelines.watched.items() if paths()}
        self.restored = restore_leases(
            self._kept,
            pipelines.keepers,
            pipelines.fingerprints,
            is_in_doubt=in_files.__contains__,
            now=self._clock.now(),
        )

    def on_event(self, event: Event) -> None:
        """Take note of what happened to a lease: it is told in the next turn of the event loop,
        with whatever else happens in this one."""
        self._has_news = self._has_news or isinstance(event, Obtained | Renewed)
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_soon(self._look)

    def ready(self, *, note: str = "") -> None:
        """Tell that every surface is open, at first or after a reload; *note* stands in the status
        until the next one."""
        self._phase = "serving"
        self._note = note
        self._notifier.ready(self._status())
        self.keep()

    def reloading(self) -> None:
        self._notifier.reloading()

    def stopping(self) -> None:
        """Tell that we are leaving, and leave our leases to who comes after us."""
        self._phase = "stopping"
        self._notifier.stopping(self._status())
        self.keep()

    def keep(self) -> None:
        """Have systemd keep every lease there is now."""
        self._has_news = False
        if not self._notifier.is_heard:
            return
        pipelines = self._pipelines()
        self._serial += 1
        kept = take_snapshot(
            pipelines.keepers,
            pipelines.fingerprints,
            serial=self._serial,
            now=self._clock.now(),
        )
        try:
            self._store.put(written(kept))
        except OSError as error:
            if self._stores:
                self._warn(
                    f"the newest leases will not outlive a restart: {error.strerror}; see that "
                    "memfd_create is allowed, and LimitNOFILE= high enough"
                )
            self._stores = False
        else:
            self._stores = True

    async def beat(self) -> None:
        """Tell systemd for ever that the event loop turns: who hangs is killed by it."""
        watchdog_s = self._notifier.watchdog_s
        every_s = BEAT_S if watchdog_s is None else watchdog_s / 2
        while True:
            self._notifier.watchdog()
            await self._clock.sleep(every_s)

    def _look(self) -> None:
        self._looks = False
        if self._has_news:
            self.keep()
        self._notifier.status(self._status())

    def _status(self) -> str:
        leases = told(self._pipelines().keepers)
        return "; ".join(filter(None, (self._phase, self._note, leases)))


def told(keepers: Iterable[Keeper[Any]]) -> str:
    """Return in a few words how the leases are: how many in each state, and whose failed to be
    renewed, by the class word that anybody may read."""
    statuses = [keeper.status() for keeper in keepers]
    counts = Counter(status.state for status in statuses)
    words = ", ".join(f"{count} {state}" for state, count in counts.items())
    failing = ", ".join(f"{status.name} {status.error}" for status in statuses if status.error)
    return f"leases: {words or 'none'}" + (f" ({failing})" if failing else "")
