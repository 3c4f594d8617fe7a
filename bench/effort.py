"""How much is measured: counts and times, for the record and for a quick look."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Bounds of every measurement.

    Whatever is repeated is repeated in turns, each server's part beside the others', so that a busy
    moment of the machine meets them all.
    """

    rounds: int
    slice_s: float
    fresh_most: int
    """Fresh connections in one slice: the kernel keeps each port for a minute."""
    clients: int
    alone_most: int
    starts: int
    crowd: int
    crowds: int
    commands: int
    askings: int
    idle_s: float
    siege_s: float
    siege_connections: int
    siege_slow_senders: int
    siege_flooding: int
    """Connections of a flood."""
    siege_uids: int
    """Users that one who floods can be, as by subordinate uids."""
    siege_rules: int
    """Rules before the ones that match."""


FULL = Effort(
    rounds=12,
    slice_s=0.3,
    fresh_most=600,
    clients=16,
    alone_most=100,
    starts=5,
    crowd=1000,
    crowds=3,
    commands=20,
    askings=2000,
    idle_s=3.0,
    siege_s=4.0,
    siege_connections=10_000,
    siege_slow_senders=1000,
    siege_flooding=256,
    siege_uids=1000,
    siege_rules=1000,
)

QUICK = Effort(
    rounds=1,
    slice_s=0.05,
    fresh_most=50,
    clients=4,
    alone_most=10,
    starts=1,
    crowd=50,
    crowds=1,
    commands=1,
    askings=20,
    idle_s=0.2,
    siege_s=0.2,
    siege_connections=150,
    siege_slow_senders=20,
    siege_flooding=8,
    siege_uids=5,
    siege_rules=20,
)
