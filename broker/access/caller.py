"""Who asks, and what they may have: the two values that access decisions are made of. Pure."""

from dataclasses import dataclass, replace
from ipaddress import IPv6Address, ip_address, ip_network

OVERFLOW_ID = 65534
"""What the kernel shows for an id that has no place in our user namespace. Never ``nobody``."""

PLAIN_TOKEN = "default"  # noqa: S105 - a name, no secret
"""The container token that admits but names nobody."""

NEIGHBOURS = 64
"""Leading bits of an IPv6 address that are one network's; the rest a neighbour picks at will."""


def known_id(number: int) -> int | None:
    """Return a uid or gid as the kernel gave it; None where that stands for unknown."""
    return None if number in (OVERFLOW_ID, -1) else number


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. Each fact is None where it could not be established; unknown is never trusted.

    ``uid``, ``inode`` (of the socket) and ``cgroup_id`` come from the kernel, and ``unit`` and
    ``container`` are where that cgroup is; ``user_unit`` is one of the caller's own service
    manager; without ``is_located`` nobody can say where it runs.
    ``address`` is the peer's, for TCP, and tells who asks only where no program of this
    host can be at the other end (``is_remote``). ``token`` is the name of the bearer token that was
    presented and found good.

    Groups, user name and executable are asked for late, where a rule needs them: see `Facts`.
    """

    uid: int | None = None
    gid: int | None = None
    pid: int | None = None
    inode: int | None = None
    cgroup_id: int | None = None
    unit: str | None = None
    user_unit: str | None = None
    container: str | None = None
    is_located: bool = True
    address: str | None = None
    is_remote: bool = False
    token: str | None = None

    @property
    def binding(self) -> str:
        """What an IMDS session token is bound to: never a connection, port or pid (C-30)."""
        if self.uid is None:
            return f"address={self.address}"
        for name in ("container", "user_unit", "unit"):
            if (place := getattr(self, name)) is not None:
                return f"uid={self.uid} {name}={place}"
        return f"uid={self.uid}"

    @property
    def limit_key(self) -> str:
        """What limits count by: nothing that a caller can have many of, as units of its own or
        addresses of one IPv6 network."""
        if self.uid is not None:
            return f"uid={self.uid}"
        if self.address is not None and isinstance(ip_address(self.address), IPv6Address):
            return f"network={ip_network((self.address, NEIGHBOURS), strict=False)}"
        return f"address={self.address}"

    def as_user(self, uid: int) -> "Caller":
        """Return the caller as that user: what the kernel said of another one is gone."""
        if self.uid == uid:
            return self
        return Caller(uid=uid, is_located=False, address=self.address, token=self.token)

    def with_token(self, name: str | None) -> "Caller":
        """Return the caller as the holder of that bearer token."""
        return replace(self, token=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a caller may have, and which rule says so (for our own channels)."""

    roles: frozenset[str] = frozenset()
    default_role: str | None = None
    namespace_tokens: frozenset[str] = frozenset()
    """Names of identities whose Namespace token may be had."""
    id_token_audiences: frozenset[str] = frozenset()
    narrowed: bool = False
    """Whether the rule has a session policy or tags of its own, hence leases of its own."""
    rule: str = "none"

    @property
    def any(self) -> bool:
        """Whether it grants anything at all."""
        return bool(self.roles or self.namespace_tokens or self.id_token_audiences)

    def lease_key(self, role: str) -> str:
        """Return the name under which this caller's lease of *role* is held: two callers with
        different policies or tags never share a session."""
        return lease_key(role, self.rule) if self.narrowed else role


def lease_key(role: str, rule: str) -> str:
    """Return what a rule's own lease of *role* is called; no configured role can be called so."""
    return f"{role} {rule}"


NO_GRANT = Grant()
