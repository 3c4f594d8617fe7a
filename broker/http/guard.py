"""Refuse requests that come from a browser or a proxy, or are meant for another host."""

import re
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal

from broker.access.peer import may_be_local
from broker.aws import METADATA_HOSTS
from broker.http.message import Request

Objection = Literal["host", "browser", "forwarded"]

METADATA_ADDRESSES = frozenset(map(ip_address, METADATA_HOSTS))
BROWSERS_SEND = frozenset({"origin", "referer"})
PROXIES_SEND = frozenset({"x-forwarded-for", "forwarded", "via"})

MAX_KNOWN_HOSTS = 256


class Guard:
    """Refuses what does not name this host, and what a browser or a proxy sends.

    The names of this host are every loopback and metadata address, ``localhost``, and
    *allowed_hosts* (configured ones and the addresses we listen on; port and brackets optional).
    A wildcard among them stands for every address that this host has, by *is_local*, whenever it
    got it: a probe or a scraper names the one that it knows.

    A page of another site that resolves its own name to our address (DNS rebinding) sends that name
    as ``Host``. Only the host part is compared, as CRT leaves out port and brackets.

    Source: sdk-client-contract C-6, C-26.
    """

    def __init__(
        self,
        *,
        allowed_hosts: Iterable[str] = frozenset(),
        is_local: Callable[[IPv4Address | IPv6Address], bool] = may_be_local,
    ) -> None:
        hosts = {host for allowed in allowed_hosts for host in host_parts(allowed)}
        self._names = {"localhost"} | {host.lower() for host in hosts}
        self._addresses = METADATA_ADDRESSES | {
            address for host in hosts if (address := _address(host)) is not None
        }
        self._every_address = any(address.is_unspecified for address in self._addresses)
        self._is_local = is_local
        self._known: dict[str, bool] = {}

    def objection(self, request: Request) -> Objection | None:
        """Return what is wrong with *request*, as a fixed word, or None."""
        names = [name for name, _ in request.headers]
        hosts = [value for name, value in request.headers if name == "host"]
        if len(hosts) != 1 and (hosts or request.http_version >= (1, 1)):
            return "host"
        if request.authority is not None:  # an absolute-form target
            hosts.append(request.authority)
        if not all(map(self._is_ours, hosts)):
            return "host"
        sec_fetch = [name for name in names if name.startswith("sec-fetch-")]
        if sec_fetch or not BROWSERS_SEND.isdisjoint(names):
            return "browser"
        return None if PROXIES_SEND.isdisjoint(names) else "forwarded"

    def _is_ours(self, host: str) -> bool:
        if (known := self._known.get(host)) is not None:
            return known
        ours = any(self._names_us(part) for part in host_parts(host))
        if ours or not self._every_address:  # an address may be added, and then be ours
            if len(self._known) >= MAX_KNOWN_HOSTS:
                self._known.clear()
            self._known[host] = ours
        return ours

    def _names_us(self, host: str) -> bool:
        address = _address(host)
        if address is None:
            return host.lower() in self._names
        if address.is_loopback or address in self._addresses:
            return True
        return self._every_address and self._is_local(address)


def host_parts(host: str) -> Iterator[str]:
    """Yield each way to read the host part of a ``Host`` value.

    With IPv6 unbracketed, what follows the last colon may be a port or a part of the address.
    """
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
