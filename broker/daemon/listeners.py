"""Open every socket that the broker serves on, and announce them to our own commands."""

import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
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
from broker.http.bind import (
    BACKLOG,
    AddressInUse,
    AddressLacking,
    ListenError,
    bind,
    bind_unix,
    listen,
    unlink_own,
)
from broker.http.guard import METADATA_ADDRESSES
from broker.http.limits import Limits
from broker.http.message import Surface
from broker.http.server import Server, ServerContext, close_together, serving_in
from broker.surfaces.container_tokens import new_container_token
from broker.surfaces.control import BrokerEndpoints
from broker.systemd import Inherited, device_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """Every socket that we serve on; all of them listen already.

    ``inherited`` are the surfaces with sockets of systemd's. Those stay open when we close our
    duplicates: connections then wait for the next process.
    """

    inherited: frozenset[str] = frozenset()
    imds: tuple[socket.socket, ...] = ()
    container: tuple[socket.socket, ...] = ()
    ops: tuple[socket.socket, ...] = ()
    control: socket.socket
    taken: Mapping[str, tuple[socket.socket, ...]] = field(default_factory=dict)
    """systemd's sockets by their name."""
    lacking: tuple[Address, ...] = ()
    """Configured addresses that this host does not have."""
    bound: Mapping["Place", "Bound"] = field(default_factory=dict)
    """Our own sockets."""

    @property
    def all(self) -> dict[str, tuple[socket.socket, ...]]:
        """Every socket by the name of its surface."""
        control = (self.control,)
        return {"ops": self.ops, "control": control, "imds": self.imds, "container": self.container}


Place = tuple[str, Address, int]
"""A surface, an address, and how many equal ones come before it: port 0 may be there twice."""


@dataclass(frozen=True, slots=True)
class Bound:
    """One socket of our own, and the options that it was bound with."""

    sock: socket.socket
    hops: int | None
    device: str | None


def prepare_directories(config: Config, environ: Mapping[str, str]) -> None:
    """Make the runtime and state directories; existing ones are used if they can be trusted.

    Raises:
        CannotStart: One cannot be made, or must not be trusted.
    """
    if config.state_dir is not None:
        with explained("state_dir: "):
            config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with explained("runtime_dir: "):
        try:
            locations.make_runtime_dir(str(config.runtime_dir), environ, os.geteuid())
        except locations.UntrustedDirectory as error:
            raise CannotStart(f"runtime_dir: {error}") from error


def sockets_of(
    config: Config, runtime: Runtime, stack: AsyncExitStack, *, before: Sockets | None = None
) -> Sockets:
    """Return listening sockets for every configured address, to be closed with *stack*.

    They are systemd's where one of those covers the address, else our own, those of *before* where
    they are the same. Sockets of systemd's that are not configured are served too.

    Raises:
        CannotStart: An address is taken, or lacking on this host.
    """
    container, binder = config.container, Binder(config, stack, runtime=runtime, before=before)
    return Sockets(
        control=binder.control(),
        imds=binder.both("imds", config.imds.listen, hops=config.imds.hop_limit_at),
        container=(
            *binder.both("container", container.listen, explicit=container.listen_explicit),
            *binder.from_systemd("namespace"),
        ),
        ops=binder.both("ops", config.ops.listen, explicit=config.ops.listen_explicit, local=False),
        inherited=frozenset(runtime.inherited.sockets),
        taken=binder.theirs,
        bound=binder.ours,
        lacking=tuple(binder.lacking),
    )


class Binder:
    """Takes systemd's sockets and binds our own; reuses those of *before*."""

    def __init__(
        self, config: Config, stack: AsyncExitStack, *, runtime: Runtime, before: Sockets | None
    ) -> None:
        self.theirs: dict[str, tuple[socket.socket, ...]] = {}
        self.ours: dict[Place, Bound] = {}
        self.lacking: list[Address] = []
        self._stack = stack
        self._runtime = runtime
        self._config = config
        self._wants_network = any(rule.who.cidr for rule in config.rules)
        self._before = before

    def control(self) -> socket.socket:
        if self._before is not None and is_in_place(self._before):
            return self._before.control
        if theirs := self.from_systemd("control"):
            return theirs[0]
        # Everybody may connect to a system service; the rules say who gets what.
        mode = 0o666 if "RUNTIME_DIRECTORY" in self._runtime.environ else 0o600
        path = self._config.runtime_dir / "broker.sock"
        with explained("runtime_dir: "):
            control = self._stack.enter_context(bind_unix(path, mode=mode))
            control.listen(BACKLOG)
            self._stack.callback(unlink_own, path, path.lstat())
        return control

    def from_systemd(self, name: str) -> tuple[socket.socket, ...]:
        """Return duplicates of systemd's sockets of that name: a server closes its own."""
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
        explicit: bool = True,
        local: bool = True,
        hops: Callable[[Address], int | None] = lambda _: None,
    ) -> tuple[socket.socket, ...]:
        """Return systemd's sockets of that name, and our own for addresses they do not cover.

        A default, which is not *explicit*, is left out beside systemd's. *local* sockets are bound
        to lo where their address is for this host only.
        """
        theirs = self.from_systemd(name)
        if theirs and not explicit:
            return theirs
        left = [each for each in addresses if not any(covers(sock, each) for sock in theirs)]
        device = partial(device_for, wants_network=self._wants_network) if local else lambda _: None
        places = [(name, each, left[:index].count(each)) for index, each in enumerate(left)]
        ours = [self._ours(place, hops=hops(place[1]), device=device(place[1])) for place in places]
        if left and not any(ours) and not theirs:
            raise _none_left(name, left)
        return (*theirs, *(each.sock for each in ours if each is not None))

    def _ours(self, place: Place, *, hops: int | None, device: str | None) -> Bound | None:
        """Return our socket there; None, with a warning, if this host lacks the address."""
        name, address, _ = place
        bound = self._before.bound.get(place) if self._before is not None else None
        if bound is None:
            try:
                sock = self._listening(address, hops=hops, device=device)
            except AddressLacking as error:
                self.lacking.append(address)
                self._runtime.log.warning(
                    "address.lacking", surface=name, address=str(address), reason=str(error)
                )
                return None
            except ListenError as error:
                hint = ""
                if name == "container" and self._before is None and isinstance(error, AddressInUse):
                    hint = self._replace_seen_tokens(error.uid)
                raise CannotStart(f"{name}.listen: {error}{hint}") from error
            bound = Bound(sock, hops, device)
        elif (bound.hops, bound.device) != (hops, device):
            self._runtime.warn(
                f"{name}.listen: {address} stays open as it was, with "
                f"{bound.hops or 'no'} hop limit and bound to {bound.device or 'no device'}; "
                "another hop limit or device takes a restart"
            )
        self.ours[place] = bound
        return bound

    def _replace_seen_tokens(self, uid: int | None) -> str:
        """Replace the container tokens that another user's listener may have been sent.

        Return what to add to the error. Tokens that do not exist yet are not made.
        """
        if uid in (0, os.geteuid()):
            return ""
        container, replaced = self._config.container, False
        for file in (container.token_file, *container.tokens.values()):
            with suppress(OSError, ValueError):
                if file.lstat().st_uid == os.geteuid():
                    new_container_token(file, container.token_group)
                    replaced = True
        return "; the container token that it may have seen was replaced" if replaced else ""

    def _listening(
        self, address: Address, *, hops: int | None, device: str | None
    ) -> socket.socket:
        """Bind and listen at once: on a port that is only bound, any user can listen."""
        sock = bind(address.host, address.port, hop_limit=hops, device=device)
        try:
            listen(sock)
        except BaseException:
            sock.close()
            raise
        return self._stack.enter_context(sock)


def is_in_place(sockets: Sockets) -> bool:
    """Return whether the control socket is still at its path.

    Its directory may have been removed, as ``XDG_RUNTIME_DIR`` is at the last logout.
    """
    return "control" in sockets.inherited or Path(sockets.control.getsockname()).exists()


def has_address(address: Address) -> bool:
    """Return whether this host has that address by now."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((address.host, 0))
        return True
    return False


def covers(listening: socket.socket, address: Address) -> bool:
    """Return whether connections to *address* reach that socket."""
    host, port = listening.getsockname()[:2]
    there, target = ip_address(host.partition("%")[0]), ip_address(address.host)
    if port != address.port:
        return False
    if there.is_unspecified and there.version == 6 and target.version == 4:
        return not listening.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return there == target or (there.is_unspecified and there.version == target.version)


def is_reachable(host: str, *, device: str | None) -> bool:
    """Return whether neighbours on the link reach a metadata address *host* bound to *device*."""
    return ip_address(host.partition("%")[0]) in METADATA_ADDRESSES and device != "lo"


def device_for(address: Address, *, wants_network: bool) -> str | None:
    """Return the device that a listener is bound to: ``lo`` for an address of this host alone.

    A neighbour on the link can reach even an address on lo, so a rule for network callers needs
    the listener to be open to the network: then None.
    """
    ip = ip_address(address.host) if address.host != "localhost" else ip_address("127.0.0.1")
    own = ip.is_loopback or ip.is_link_local or ip in METADATA_ADDRESSES
    return "lo" if own and not wants_network else None


def _none_left(name: str, addresses: Sequence[Address]) -> CannotStart:
    names = ", ".join(map(str, addresses))
    return CannotStart(
        f"{name}.listen: this host has none of {names}; "
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
    """Return ``http://HOST:PORT`` of a bound socket, with loopback for a wildcard address."""
    address, port = bound.getsockname()[:2]
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    return f"http://{Address(host=address, port=port)}"


@contextmanager
def announced(config: Config, endpoints: BrokerEndpoints, sockets: Sockets) -> Iterator[None]:
    """Keep RUNTIME/endpoints.json for our own commands during the block.

    It stays after it if the control socket is systemd's: connections then wait for our return.
    """
    announce(config, endpoints, sockets)
    try:
        yield
    finally:
        if "control" not in sockets.inherited:
            endpoints_file(config).unlink(missing_ok=True)


def announce(config: Config, endpoints: BrokerEndpoints, sockets: Sockets) -> None:
    """Write RUNTIME/endpoints.json.

    Raises:
        CannotStart: It cannot be written; the file is as it was.
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
    """Return the addresses of systemd's sockets."""
    return [sock.getsockname()[0] for sock in inherited.of("imds", "container", "namespace", "ops")]


@dataclass(frozen=True, slots=True)
class Listener:
    """One socket that is served, by which surface, and its server, which ends with ``closing``."""

    surface: str
    server: Server
    closing: AsyncExitStack


class Listeners:
    """Serves each socket by the current surface of a name."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context
        self._surfaces: dict[str, Surface] = {}
        self._limits = Limits()
        self._open: dict[socket.socket, Listener] = {}

    def change(self, surfaces: Mapping[str, Surface], *, limits: Limits) -> None:
        """Answer by *surfaces* from the next request on, also on open connections."""
        self._surfaces.update(surfaces)
        self._limits = limits
        for listener in self._open.values():
            listener.server.change(self._surfaces[listener.surface], limits=limits)

    def forget_answers(self) -> None:
        """Compute every answer anew: a lease or a token has changed."""
        for listener in self._open.values():
            listener.server.forget_answers()

    async def open(self, surface: str, sockets: Iterable[socket.socket]) -> None:
        """Serve those of *sockets* that are not served yet, by the surface of that name.

        They are closed by `close` from here on.
        """
        for sock in sockets:
            if sock not in self._open:
                closing = AsyncExitStack()
                with explained(f"{surface}.listen: "):
                    server = await closing.enter_async_context(
                        serving_in(
                            self._context, self._surfaces[surface], [sock], limits=self._limits
                        )
                    )
                self._open[sock] = Listener(surface, server, closing)

    async def close(self, sockets: Iterable[socket.socket]) -> None:
        """Drain and close those of *sockets* that are served, all at the same time."""
        listeners = [self._open.pop(sock) for sock in tuple(sockets) if sock in self._open]
        await close_together([listener.server for listener in listeners])
        for listener in listeners:
            await listener.closing.aclose()

    async def close_all(self) -> None:
        await self.close(self._open)
