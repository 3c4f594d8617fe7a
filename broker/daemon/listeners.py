"""Every socket we serve on, and where our own commands find them. Serves nothing."""

import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path

from broker import __version__
from broker.config import Address, Config
from broker.daemon.errors import CannotStart, explained
from broker.daemon.runtime import Runtime
from broker.files import locations
from broker.files.private import write_private
from broker.http.bind import AddressLacking, ListenError, bind, bind_unix, unlink_own
from broker.http.guard import METADATA_ADDRESSES
from broker.http.limits import Limits
from broker.http.message import Surface
from broker.http.server import Server, ServerContext, close_together, serving
from broker.surfaces.control import BrokerEndpoints
from broker.systemd import Inherited, device_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """Every socket we serve on: bound, so that its port is ours and known, not yet listening.

    ``inherited`` are the surfaces for whom systemd's stand among them. Those listen already, and
    go on when we close ours: whoever connects meanwhile waits.
    """

    inherited: frozenset[str] = frozenset()
    imds: tuple[socket.socket, ...] = ()
    container: tuple[socket.socket, ...] = ()
    ops: tuple[socket.socket, ...] = ()
    control: socket.socket
    taken: Mapping[str, tuple[socket.socket, ...]] = field(default_factory=dict)
    """systemd's, by their name."""
    bound: Mapping["Place", "Bound"] = field(default_factory=dict)
    """Our own."""

    @property
    def all(self) -> dict[str, tuple[socket.socket, ...]]:
        """Return every socket by the name of its surface."""
        control = (self.control,)
        return {"ops": self.ops, "control": control, "imds": self.imds, "container": self.container}


Place = tuple[str, Address, int]
"""A surface, an address, and how many of that are there before it: port 0 picks one each time."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One socket of our own, and what was set when it was bound."""

    sock: socket.socket
    hops: int | None
    device: str | None


def prepare_runtime_dir(path: Path, environ: Mapping[str, str]) -> None:
    """Make RUNTIME, for us alone; one that is there is taken as it is, unless anybody could have
    made it.

    Raises:
        CannotStart: It cannot be made, or must not be trusted.
    """
    with explained("runtime_dir: "):
        try:
            locations.make_runtime_dir(str(path), environ, os.geteuid())
        except locations.UntrustedDirectory as error:
            raise CannotStart(f"runtime_dir: {error}") from error


def sockets_of(
    config: Config, runtime: Runtime, stack: AsyncExitStack, *, before: Sockets | None = None
) -> Sockets:
    """Return a socket for every configured address: systemd's, where one covers it, else our own.
    Those of systemd's that nobody configured are served too. What was open *before* stays, and what
    is opened anew is closed with *stack*.

    Raises:
        CannotStart: An address cannot be had.
    """
    # A neighbour on the link can reach what is bound on lo, unless no rule wants it to.
    wants_network = any(rule.who.cidr for rule in config.rules)
    listener = Bindings(stack, runtime=runtime, wants_network=wants_network, before=before)
    return Sockets(
        control=listener.control(config),
        imds=listener.both("imds", config.imds.listen, hops=config.imds.hop_limit_at),
        container=(
            *listener.both(
                "container", config.container.listen, said=config.container.listen_explicit
            ),
            *listener.taken("namespace"),
        ),
        ops=listener.both("ops", config.ops.listen, said=config.ops.listen_explicit, kept=False),
        inherited=frozenset(runtime.inherited.sockets),
        taken=listener.theirs,
        bound=listener.ours,
    )


class Bindings:
    """Takes systemd's sockets and binds our own, all closed with *stack*; those of *before* are
    there already."""

    def __init__(
        self,
        stack: AsyncExitStack,
        *,
        runtime: Runtime,
        wants_network: bool,
        before: Sockets | None,
    ) -> None:
        self.theirs: dict[str, tuple[socket.socket, ...]] = {}
        self.ours: dict[Place, Bound] = {}
        self._stack = stack
        self._runtime = runtime
        self._wants_network = wants_network
        self._before = before

    def control(self, config: Config) -> socket.socket:
        if self._before is not None:
            return self._before.control
        if theirs := self.taken("control"):
            return theirs[0]
        # A system service's socket is everybody's to speak to; who gets what, the rules say.
        mode = 0o666 if "RUNTIME_DIRECTORY" in self._runtime.environ else 0o600
        path = config.runtime_dir / "broker.sock"
        with explained("runtime_dir: "):
            control = self._stack.enter_context(bind_unix(path, mode=mode))
            self._stack.callback(unlink_own, path, path.lstat())
        return control

    def taken(self, name: str) -> tuple[socket.socket, ...]:
        """Return those of systemd's of that name. Duplicates: what serves on them closes them, and
        the next to serve needs them still."""
        if self._before is not None:
            self.theirs[name] = self._before.taken.get(name, ())
            return self.theirs[name]
        theirs = self._runtime.inherited.of(name)
        for sock in theirs:
            if name == "control" or self._wants_network:
                continue
            if is_reachable(sock.getsockname()[0], device=device_of(sock)):
                self._runtime.warn(
                    f"{url_of(sock)}, which systemd listens on, can be reached by neighbours on "
                    "the link; write BindToDevice=lo into its socket unit"
                )
        self.theirs[name] = tuple(self._stack.enter_context(sock.dup()) for sock in theirs)
        return self.theirs[name]

    def both(
        self,
        name: str,
        addresses: Sequence[Address],
        *,
        said: bool = True,
        kept: bool = True,
        hops: Callable[[Address], int | None] = lambda _: None,
    ) -> tuple[socket.socket, ...]:
        """Return systemd's sockets of that name, and ours for what those do not cover: not so for
        a default that nobody *said*. *kept*: ours are kept to lo where they are for this host."""
        theirs = self.taken(name)
        if theirs and not said:
            return theirs
        left = [each for each in addresses if not any(covers(sock, each) for sock in theirs)]
        device = partial(device_for, wants_network=self._wants_network) if kept else lambda _: None
        places = [(name, each, left[:index].count(each)) for index, each in enumerate(left)]
        ours = [self._ours(place, hops=hops(place[1]), device=device(place[1])) for place in places]
        if left and not any(ours) and not theirs:
            raise _none_left(name, left)
        return (*theirs, *(each.sock for each in ours if each is not None))

    def _ours(self, place: Place, *, hops: int | None, device: str | None) -> Bound | None:
        """Return our socket there; None where this host lacks the address, which is a warning."""
        name, address, _ = place
        bound = self._before.bound.get(place) if self._before is not None else None
        if bound is None:
            try:
                sock = bind(address.host, address.port, hop_limit=hops, device=device)
            except AddressLacking as error:
                self._runtime.log.warning(
                    "address.lacking", surface=name, address=str(address), reason=str(error)
                )
                return None
            except ListenError as error:
                raise CannotStart(f"{name}.listen: {error}") from error
            bound = Bound(self._stack.enter_context(sock), hops, device)
        elif (bound.hops, bound.device) != (hops, device):
            self._runtime.warn(
                f"{name}.listen: {address} stays open as it was, with "
                f"{bound.hops or 'no'} hops set and kept to {bound.device or 'no device'}; "
                "other hops or another device take a restart"
            )
        self.ours[place] = bound
        return bound


def is_listening(sock: socket.socket) -> bool:
    """Say whether connections are taken already: so on systemd's sockets, not on ours."""
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def covers(listening: socket.socket, address: Address) -> bool:
    """Say whether who connects to *address* gets to that socket."""
    host, port = listening.getsockname()[:2]
    there, wanted = ip_address(host.partition("%")[0]), ip_address(address.host)
    if port != address.port:
        return False
    if there.is_unspecified and there.version == 6 and wanted.version == 4:
        return not listening.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return there == wanted or (there.is_unspecified and there.version == wanted.version)


def is_reachable(host: str, *, device: str | None) -> bool:
    """Say whether neighbours on the link get to a listener on *host* that is kept to *device*,
    though that address is for a host's own use."""
    return ip_address(host.partition("%")[0]) in METADATA_ADDRESSES and device != "lo"


def device_for(address: Address, *, wants_network: bool) -> str | None:
    """Return the device that a listener is kept to: ``lo`` for an address by which this host talks
    to itself, unless a rule is about callers from the network."""
    ip = ip_address(address.host) if address.host != "localhost" else ip_address("127.0.0.1")
    own = ip.is_loopback or ip.is_link_local or ip in METADATA_ADDRESSES
    return "lo" if own and not wants_network else None


def _none_left(name: str, addresses: Sequence[Address]) -> CannotStart:
    wanted = ", ".join(map(str, addresses))
    return CannotStart(
        f"{name}.listen: this host has none of {wanted}; "
        f"add one to the loopback device (ip address add ADDRESS dev lo) or name another"
    )


def endpoints_of(config: Config, sockets: Sockets) -> BrokerEndpoints:
    return BrokerEndpoints(
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
def announced(config: Config, endpoints: BrokerEndpoints, sockets: Sockets) -> Iterator[None]:
    """Tell our own commands where we are, in RUNTIME/endpoints.json, for the block; and after it,
    where the control socket is systemd's: who connects then waits for us to come back."""
    announce(config, endpoints, sockets)
    try:
        yield
    finally:
        if "control" not in sockets.inherited:
            endpoints_file(config).unlink(missing_ok=True)


def announce(config: Config, endpoints: BrokerEndpoints, sockets: Sockets) -> None:
    """Tell our own commands where we are.

    Raises:
        CannotStart: It cannot be written; what was told before still is.
    """
    document = {
        "pid": os.getpid(),
        "version": __version__,
        "control": sockets.control.getsockname(),
        "imds": endpoints.imds,
        "container": endpoints.container,
        "ops": endpoints.ops,
        "roles": [entry.role.name for entry in config.roles],
        "default_role": config.default_role,
    }
    with explained():
        write_private(endpoints_file(config), json.dumps(document).encode(), mode=0o644)


def endpoints_file(config: Config) -> Path:
    return config.runtime_dir / locations.ENDPOINTS_FILE


def hosts_of(inherited: Inherited) -> list[str]:
    """Return the addresses that systemd listens on for us."""
    return [sock.getsockname()[0] for sock in inherited.of("imds", "container", "namespace", "ops")]


@dataclass(frozen=True, slots=True)
class Listener:
    """One socket that is served: whose, and the server, which ends with ``closing``."""

    surface: str
    server: Server
    closing: AsyncExitStack


class Listeners:
    """Serves each socket by the surface of a name, whichever that is at the time."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._surfaces: dict[str, Surface] = {}
        self._limits = Limits()
        self._open: dict[socket.socket, Listener] = {}

    def change(self, surfaces: Mapping[str, Surface], *, limits: Limits) -> None:
        """Have *surfaces* answer from the next request on, also on connections that are there."""
        self._surfaces.update(surfaces)
        self._limits = limits
        for listener in self._open.values():
            listener.server.change(self._surfaces[listener.surface], limits=limits)

    async def open(self, surface: str, sockets: Iterable[socket.socket]) -> None:
        """Serve *sockets*, ours from here on, by the surface of that name. What is open stays so.

        Raises:
            CannotStart: Another program listens there since the socket was bound.
        """
        for sock in sockets:
            if sock not in self._open:
                closing = AsyncExitStack()
                with explained(f"{surface}.listen: "):
                    server = await closing.enter_async_context(self._served(surface, sock))
                self._open[sock] = Listener(surface, server, closing)

    async def close(self, sockets: Iterable[socket.socket]) -> None:
        """Close those of *sockets* that are open, all at once: a slow one keeps nobody waiting."""
        listeners = [self._open.pop(sock) for sock in tuple(sockets) if sock in self._open]
        await close_together([listener.server for listener in listeners])
        for listener in listeners:
            await listener.closing.aclose()

    async def close_all(self) -> None:
        await self.close(self._open)

    def _served(self, surface: str, sock: socket.socket):  # type: ignore[no-untyped-def]
        context = self._context
        return serving(
            self._surfaces[surface],
            [sock],
            clock=context.clock,
            limits=self._limits,
            limiter=context.limiter,
            caller_of=context.caller_of,
            on_exchange=context.on_exchange,
            on_error=context.on_error,
        )
