"""Every socket we serve on, and where our own commands find them. Serves nothing."""

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from broker import __version__, places
from broker.access.guard import METADATA_ADDRESSES
from broker.config import Address, Config
from broker.pipelines import (
    Parts,
)
from broker.starting import CannotStart, explained
from broker.surfaces.control import Endpoints
from broker.surfaces.listen import AddressLacking, ListenError, bind, bind_unix, unlink_own
from broker.surfaces.private_file import write_private
from broker.telemetry import Log


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """Every socket we serve on: bound, so that its port is ours and known, not yet listening."""

    imds: tuple[socket.socket, ...] = ()
    container: tuple[socket.socket, ...] = ()
    ops: tuple[socket.socket, ...] = ()
    control: socket.socket


def prepare_runtime_dir(path: Path, environ: Mapping[str, str]) -> None:
    """Make RUNTIME, for us alone; one that is there is taken as it is, unless anybody could have
    made it.

    Raises:
        CannotStart: It cannot be made, or must not be trusted.
    """
    with explained("runtime_dir: "):
        try:
            places.make_runtime_dir(str(path), environ, os.geteuid())
        except places.NotOurs as error:
            raise CannotStart(f"runtime_dir: {error}") from error


@contextmanager
def opened_sockets(config: Config, parts: Parts) -> Iterator[Sockets]:
    """Bind every configured address for the block."""
    with ExitStack() as stack:
        # A system service's socket is everybody's to speak to; who gets what, the rules say.
        mode = 0o666 if "RUNTIME_DIRECTORY" in parts.environ else 0o600
        path = config.runtime_dir / "broker.sock"
        # A neighbour on the link can reach what is bound on lo, unless no rule wants it to.
        wants_network = any(rule.who.cidr for rule in config.rules)
        kept_to = partial(device_for, wants_network=wants_network)
        with explained("runtime_dir: "):
            control = stack.enter_context(bind_unix(path, mode=mode))
            stack.callback(unlink_own, path, path.lstat())
        hops = config.imds.hop_limit_at
        imds = _bound("imds", config.imds.listen, parts.log, stack, hops=hops, device=kept_to)
        container = _bound("container", config.container.listen, parts.log, stack, device=kept_to)
        ops = _bound("ops", config.ops.listen, parts.log, stack)
        yield Sockets(control=control, imds=imds, container=container, ops=ops)


def device_for(address: Address, *, wants_network: bool) -> str | None:
    """Return the device that a listener is kept to: ``lo`` for an address by which this host talks
    to itself, unless a rule is about callers from the network."""
    ip = ip_address(address.host) if address.host != "localhost" else ip_address("127.0.0.1")
    own = ip.is_loopback or ip.is_link_local or ip in METADATA_ADDRESSES
    return "lo" if own and not wants_network else None


def _bound(
    name: str,
    addresses: Sequence[Address],
    log: Log,
    stack: ExitStack,
    *,
    hops: Callable[[Address], int | None] = lambda _: None,
    device: Callable[[Address], str | None] = lambda _: None,
) -> tuple[socket.socket, ...]:
    """Bind each address, to be closed with *stack*; one that this host lacks is a warning, unless
    none is left."""
    bound = []
    for address in addresses:
        try:
            sock = bind(address.host, address.port, hop_limit=hops(address), device=device(address))
        except AddressLacking as error:
            log.warning("address.lacking", surface=name, address=str(address), reason=str(error))
        except ListenError as error:
            raise CannotStart(f"{name}.listen: {error}") from error
        else:
            bound.append(stack.enter_context(sock))
    if addresses and not bound:
        wanted = ", ".join(map(str, addresses))
        raise CannotStart(
            f"{name}.listen: this host has none of {wanted}; "
            f"add one to the loopback device (ip address add ADDRESS dev lo) or name another"
        )
    return tuple(bound)


def endpoints_of(config: Config, sockets: Sockets) -> Endpoints:
    return Endpoints(
        imds=tuple(map(url_of, sockets.imds)),
        container=tuple(map(url_of, sockets.container)),
        ops=tuple(map(url_of, sockets.ops)),
        imds_v1=config.imds.v1,
        region=config.region,
    )


def url_of(bound: socket.socket) -> str:
    """Return ``http://HOST:PORT`` for a bound socket; any-address is shown as loopback."""
    address, port = bound.getsockname()[:2]
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    return f"http://{Address(host=address, port=port)}"


@contextmanager
def announced(config: Config, endpoints: Endpoints) -> Iterator[None]:
    """Tell our own commands where we are, in RUNTIME/endpoints.json, for the block."""
    path = config.runtime_dir / "endpoints.json"
    document = {
        "pid": os.getpid(),
        "version": __version__,
        "control": str(config.runtime_dir / "broker.sock"),
        "imds": endpoints.imds,
        "container": endpoints.container,
        "ops": endpoints.ops,
        "roles": [entry.role.name for entry in config.roles],
        "default_role": config.default_role,
    }
    with explained():
        write_private(path, json.dumps(document).encode(), mode=0o644)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
