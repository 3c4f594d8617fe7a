"""Describe who is calling and what they may have."""

from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path

OVERFLOW_ID = 65534
"""What the kernel shows, by default, for an id that is not mapped in our user namespace."""

EVERY_ID = (0, 0, 0xFFFFFFFF)
"""The id map of a user namespace in which every id is mapped to itself, as the first one."""

INVALID_ID = 0xFFFFFFFF
"""No uid or gid: minus one."""

PLAIN_TOKEN = "default"  # noqa: S105 - a name, no secret
"""The container token that admits but names nobody."""

UNGRANTED = "ungranted"
"""Whose limits all callers use whom no rule grants anything."""

IPV6_NETWORK_BITS = 64
"""Leading bits of an IPv6 address that belong to the network; a host chooses the rest at will."""


@lru_cache(maxsize=1)
def unmapped_id(proc: Path = Path("/proc")) -> int | None:
    """Return the number that stands for every id not mapped here; None where all are mapped.

    Where all are mapped the number is an ordinary user's, ``nobody`` on most hosts.

    Source: user_namespaces(7); proc_sys_kernel(5), overflowuid.
    """
    try:
        if tuple(map(int, (proc / "self/uid_map").read_text().split())) == EVERY_ID:
            return None
        return int((proc / "sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return OVERFLOW_ID


@lru_cache(maxsize=4096)
def known_id(number: int) -> int | None:
    """Return a uid or gid as the kernel gave it; None where the number stands for unknown."""
    return None if number in (unmapped_id(), INVALID_ID) else number


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is calling. Each fact is None where it could not be established.

    ``uid``, ``inode`` (of the socket) and ``cgroup_id`` come from the kernel. ``unit``,
    ``user_unit`` (of the caller's own service manager) and ``container`` come from the cgroup's
    path; ``is_located`` is False when that path is unknown. ``address`` is the TCP peer's, and
    identifies the caller only when no program of this host can be at the other end
    (``is_remote``). ``token`` is the name of the bearer token that was presented and accepted.

    Groups, user name and executable cost more, so rules ask `HostFacts` for them when needed.
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
    delegated_by: tuple[int, ...] = ()
    """The users to whom /etc/subuid gives this uid; one of them runs the program."""
    is_ungranted: bool = False
    """Whether no rule grants it anything, whatever token it presents."""

    @property
    def binding(self) -> str:
        """What an IMDS session token is bound to: never a connection, port or pid (C-30)."""
        if self.uid is None:
            return f"address={self.address}"
        for name in ("container", "user_unit", "unit"):
            if (value := getattr(self, name)) is not None:
                return f"uid={self.uid} {name}={value}"
        return f"uid={self.uid}"

    @property
    def limit_key(self) -> str:
        """Which callers share one limit.

        Leaves out what one caller can have many of, such as units or addresses of an IPv6 network.
        All callers that no rule grants anything count as one.
        """
        if self.is_ungranted:
            return UNGRANTED
        if self.uid is not None:
            return f"uid={self.billed_uid}"
        if self.address is not None and isinstance(ip_address(self.address), IPv6Address):
            return f"network={ip_network((self.address, IPV6_NETWORK_BITS), strict=False)}"
        return f"address={self.address}"

    @property
    def billed_uid(self) -> int:
        """The uid whose limits this local caller uses: of a subordinate uid, its owner's."""
        assert self.uid is not None, "only local callers have a uid"
        return self.delegated_by[0] if self.delegated_by else self.uid

    def as_user(self, uid: int) -> "Caller":
        """Return the caller as that user, without the facts known of another one."""
        if self.uid == uid:
            return self
        return Caller(uid=uid, is_located=False, address=self.address, token=self.token)

    def with_token(self, name: str | None) -> "Caller":
        """Return the caller as the holder of that bearer token."""
        return replace(self, token=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a caller may have, and which rule grants it (for log, audit and ``who``)."""

    roles: frozenset[str] = frozenset()
    default_role: str | None = None
    namespace_tokens: frozenset[str] = frozenset()
    """Names of the identities whose Namespace token is granted."""
    id_token_audiences: frozenset[str] = frozenset()
    narrowed: bool = False
    """Whether the rule has a session policy or tags, and therefore leases of its own."""
    rule: str = "none"

    @property
    def any(self) -> bool:
        """Whether it grants anything at all."""
        return bool(self.roles or self.namespace_tokens or self.id_token_audiences)

    def lease_key(self, role: str) -> str:
        """Return the key of this caller's lease of *role*.

        Callers with different policies or tags never share a session.
        """
        return lease_key(role, self.rule) if self.narrowed else role


def lease_key(role: str, rule: str) -> str:
    """Return the key of a rule's own lease of *role*; a role's name cannot contain the space."""
    return f"{role} {rule}"


NO_GRANT = Grant()
