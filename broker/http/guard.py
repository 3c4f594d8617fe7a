"""Is this request one that a local program would send, or a browser's or a proxy's? Pure; knows no
caller, no role and no status: each surface says in its own way what was objected to."""

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, Protocol

from broker.aws import METADATA_HOSTS

Objection = Literal["host", "browser", "forwarded"]

METADATA_ADDRESSES = frozenset(map(ip_address, METADATA_HOSTS))
BROWSERS_SEND = frozenset({"origin", "referer"})
PROXIES_SEND = frozenset({"x-forwarded-for", "forwarded", "via"})


class Asked(Protocol):
    """What the guard looks at in a request. Header names are lower case."""

    @property
    def headers(self) -> tuple[tuple[str, str], ...]: ...

    @property
    def http_version(self) -> tuple[int, int]: ...

    def all(self, name: str) -> tuple[str, ...]: ...


class Guard:
    """Knows the names we go by: every loopback and metadata address, ``localhost``, and
    *allowed_hosts* (configured ones and the addresses we listen on; port and brackets optional).

    A page of another site that resolves its own name to our address (DNS rebinding) says that
    name in ``Host``; only the host part is compared, as CRT leaves out port and brackets.

    Source: sdk-client-contract C-6, C-26.
    """

    def __init__(self, *, allowed_hosts: Iterable[str] = frozenset()) -> None:
        hosts = {host for allowed in allowed_hosts for host in readings(allowed)}
        self._names = {"localhost"} | {host.lower() for host in hosts}
        self._addresses = METADATA_ADDRESSES | {
            address for host in hosts if (address := _address(host)) is not None
        }

    def objection(self, request: Asked) -> Objection | None:
        """Return what is wrong with *request*, as a fixed word, or None."""
        if not self._is_for_us(request):
            return "host"
        names = {name for name, _ in request.headers}
        if names & BROWSERS_SEND or any(name.startswith("sec-fetch-") for name in names):
            return "browser"
        if names & PROXIES_SEND:
            return "forwarded"
        return None

    def _is_for_us(self, request: Asked) -> bool:
        hosts = request.all("host")
        if not hosts:
            return request.http_version < (1, 1)
        return len(hosts) == 1 and any(self._is_ours(host) for host in readings(hosts[0]))

    def _is_ours(self, host: str) -> bool:
        address = _address(host)
        if address is None:
            return host.lower() in self._names
        return address.is_loopback or address in self._addresses


def readings(host: str) -> Iterator[str]:
    """Yield each way to read the host part of a ``Host`` value: with IPv6 unbracketed, what
    follows the last colon may be a port or a part of the address."""
    if bracketed := re.fullmatch(r"\[([^\[\]]*:[^\[\]]*)\](?::[0-9]{0,5})?", host):
        yield bracketed[1]
        return
    if host:
        yield host
    if with_port := re.fullmatch(r"(.+):[0-9]{0,5}", host):
        yield with_port[1]


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
