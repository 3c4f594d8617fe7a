"""The daemon's life as systemd hears of it: ready, well, alive, leaving; and what it keeps for us.
Serves nothing."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from broker.clock import Clock
from broker.daemon.handover import given_back, held_by, newest, written
from broker.daemon.wiring import Parts, Pipelines
from broker.keeper import Event, Keeper, Obtained, Renewed
from broker.systemd import Notifier, Store

BEAT_S = 10.0
"""How often what systemd had no room for is sent again, where there is no watchdog."""


class Supervised:
    """Speaks for the daemon: to a `Notifier` that nobody hears, where there is no systemd."""

    def __init__(self, parts: Parts, *, pipelines: Callable[[], Pipelines]) -> None:
        """*pipelines* are those of the moment: they change when the configuration is reloaded."""
        self.restored: list[str] = []
        """The leases that we began with."""
        self._notifier: Notifier = parts.supervisor
        self._clock: Clock = parts.clock
        self._warn = parts.warn
        self._pipelines = pipelines
        kept_as, self._kept = newest(parts.inherited.kept, warn=parts.warn)
        self._serial = self._kept.serial
        self._store = Store(parts.supervisor, holds=kept_as, found=parts.inherited.kept)
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
        self.restored = given_back(
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
        kept = held_by(
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
