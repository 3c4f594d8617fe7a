"""Who asks, and what they may have: the two values that access decisions are made of. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. Each fact is None where it could not be established; unknown is never trusted.

    ``uid`` and ``cgroup_id`` come from the kernel; ``address`` is the peer's, for TCP;
    ``token`` is the name of the bearer token that was presented and found good.
    """

    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    cgroup_id: int | None = None
    address: str | None = None
    token: str | None = None

    @property
    def binding(self) -> str:
        """What an IMDS session token is bound to: never a connection, port or pid (C-30)."""
        return f"uid={self.uid}" if self.uid is not None else f"address={self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a caller may have, and which rule says so (for our own channels)."""

    roles: frozenset[str] = frozenset()
    default_role: str | None = None
    rule: str = "none"


NOTHING = Grant()
