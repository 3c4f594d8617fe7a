"""Whoever floods delays nobody: a user's SDK is served in time beside each attack.

What it waits for depends on the machine, so only the SDKs' own limit is asserted; its times are
printed, and the benchmark measures them.
"""

import json
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

from broker.sandbox import sandbox_in_thread
from tests.root.metadata_host import MetadataHost, metadata_host
from tests.root.own_network import IMDS, own_network
from tests.root.stage import RUN, line_from, started

VICTIM, ATTACKER = 4311, 4312
GRANTED = range(4400, 4408)
"""Users with a grant, each of whom has limits of its own."""

RULES = "".join(
    f'[[rules]]\nwho = {{ uid = {uid} }}\nroles = ["deploy"]\n' for uid in (VICTIM, *GRANTED)
)

SDK_LIMIT_S = 1.0
LATE_S = 1.0
MEMORY_BYTES = 32 * 1024 * 1024
WATCHDOG_S = 0.2

SESSION_TOKEN = (
    "PUT /latest/api/token HTTP/1.1\r\nHost: localhost\r\n"
    "X-aws-ec2-metadata-token-ttl-seconds: 60\r\n\r\n"
)
METRICS = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF_A_HEAD = "GET / HTTP/1.1\r\n" + "".join(f"x-{n:03}: {'v' * 120}\r\n" for n in range(120))


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What `tests.root.besieging` does; *uids* is the first of how many users."""

    act: str
    host: str = IMDS
    port: int = 80
    within_s: float = 1.5
    connections: int = 0
    request: str = ""
    is_fresh: bool = False
    uids: tuple[int, int] = (0, 0)


ATTACKS = {
    "nobody": (ATTACKER, Order(act="nobody")),
    "connections that are reset": (ATTACKER, Order(act="connect_and_reset")),
    "many opened connections": (ATTACKER, Order(act="opened", connections=3000)),
    "pipelined metrics": (ATTACKER, Order(act="flood", connections=8, request=METRICS * 53)),
    "a thousand users": (
        0,
        Order(
            act="flood",
            connections=256,
            request=SESSION_TOKEN,
            is_fresh=True,
            uids=(2_000_000_000, 1000),
        ),
    ),
    "half-sent heads of eight users with a grant": (
        0,
        Order(
            act="opened",
            connections=64 * len(GRANTED),
            request=HALF_A_HEAD,
            uids=(GRANTED.start, len(GRANTED)),
        ),
    ),
}


class Heartbeats:
    """What systemd hears of the broker's watchdog, and when."""

    def __init__(self, path: Path) -> None:
        self.at: list[float] = []
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(path))
        self._sock.settimeout(0.1)
        self._is_over = False
        self._thread = Thread(target=self._hear)
        self._thread.start()

    def longest_silence_s(self, *, since: float) -> float:
        instants = [since, *(at for at in self.at if at > since), time.monotonic()]
        return max(later - earlier for earlier, later in pairwise(instants))

    def close(self) -> None:
        self._is_over = True
        self._thread.join()
        self._sock.close()

    def _hear(self) -> None:
        while not self._is_over:
            try:
                message = self._sock.recv(4096)
            except TimeoutError:
                continue
            if b"WATCHDOG=1" in message:
                self.at.append(time.monotonic())


@dataclass(frozen=True, slots=True)
class Besieged:
    host: MetadataHost
    heartbeats: Heartbeats

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self.host.broker.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    folder = tmp_path_factory.mktemp("host")
    with (
        own_network(),
        sandbox_in_thread() as sandbox,
        heartbeats(folder) as (beats, environ),
        metadata_host(sandbox, folder, rules=RULES, environ=environ) as host,
    ):
        yield Besieged(host, beats)


@contextmanager
def heartbeats(folder: Path) -> Iterator[tuple[Heartbeats, Mapping[str, str]]]:
    path = folder / "notify"
    beats = Heartbeats(path)
    try:
        environ = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(round(WATCHDOG_S * 1e6))}
        yield beats, environ
    finally:
        beats.close()


def ready(process: subprocess.Popen[str]) -> None:
    assert line_from(process) == "ready"


def tell(process: subprocess.Popen[str], order: Order) -> None:
    assert process.stdin is not None
    process.stdin.write(json.dumps(asdict(order)) + "\n")
    process.stdin.flush()


def visits_beside(uid: int, attack: Order) -> list[float]:
    """Return how long each visit of the victim took while *uid* attacked, the shortest first."""
    besieging = (*RUN, "tests.root.besieging")
    with started([*besieging, str(VICTIM)]) as victim, started([*besieging, str(uid)]) as attacker:
        ready(victim)
        ready(attacker)
        tell(attacker, attack)
        tell(victim, Order(act="visit", within_s=attack.within_s))
        took_s: list[float] = json.loads(line_from(victim))["took_s"]
    return took_s


@pytest.mark.parametrize("name", ATTACKS)
def test_a_user_is_served_in_time_beside(besieged: Besieged, name: str) -> None:
    uid, attack = ATTACKS[name]
    if "metrics" in name:
        ops = urlsplit(besieged.host.broker.endpoints["ops"][0])
        attack = replace(attack, host=ops.hostname or "", port=ops.port or 0)
    at_rest_bytes, began_at = besieged.rss_bytes(), time.monotonic()

    took_s = visits_beside(uid, attack)

    silence_s = besieged.heartbeats.longest_silence_s(since=began_at)
    grown_bytes = besieged.rss_bytes() - at_rest_bytes
    p50, p99 = (took_s[int(part * (len(took_s) - 1))] for part in (0.5, 0.99))
    print(
        f"{name}: {len(took_s)} visits, p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, slowest "
        f"{took_s[-1] * 1e3:.1f} ms; watchdog {silence_s:.2f} s, {grown_bytes / 2**20:+.1f} MiB"
    )
    assert took_s[-1] < SDK_LIMIT_S
    assert silence_s < WATCHDOG_S / 2 + LATE_S
    assert grown_bytes < MEMORY_BYTES
