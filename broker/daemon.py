"""Wire pipelines from the configuration, run them, and leave in good order. Owns every task."""

import asyncio
import json
import os
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from broker import __version__, host, places
from broker.access.caller import Caller
from broker.access.guard import Guard
from broker.access.peer import why_unaskable
from broker.access.rules import OwnerOnly, Rules
from broker.clock import Clock, SystemClock, jumps
from broker.config import Address, Config
from broker.credentials import AwsCredentials, NamespaceToken
from broker.keeper import Event, Keeper, Obtained, Renewed
from broker.lease import Lease, NotReady, Refused, Unavailable
from broker.sources.aws import AssumedRole, Sts
from broker.sources.namespace import IdTokenFor, NamespaceIam, identity_source, open_session
from broker.surfaces.container import Container
from broker.surfaces.container_tokens import ContainerTokens, container_token
from broker.surfaces.control import Control, Endpoints, client_facts
from broker.surfaces.http import Limits, serving
from broker.surfaces.imds import Imds
from broker.surfaces.imds_paths import Place, instance_id_from
from broker.surfaces.listen import AddressLacking, ListenError, bind, bind_unix
from broker.surfaces.message import Surface
from broker.surfaces.ops import Ops
from broker.surfaces.private_file import write_private
from broker.surfaces.session_tokens import SessionTokens, SigningKeys
from broker.telemetry import Log, Metrics, Telemetry, logger
from broker.watch import watch

T = TypeVar("T")

ONCE_LIMIT_S = 60.0
"""How long a command without a daemon goes on over passing faults."""


class CannotStart(Exception):
    """The daemon cannot start, or has to end; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What pipelines are made with, so that tests and the demo can hand in their own."""

    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    clock: Clock = field(default_factory=SystemClock)
    log: Log = field(default_factory=lambda: logger(form="auto", level="info"))
    renew_within_s: float | None = None
    """Renew role leases at least this often, for a demo that shows it."""


@dataclass(frozen=True, slots=True)
class Pipelines:
    """Every keeper, and how to hear that an identity's files changed."""

    identities: Mapping[str, Keeper[NamespaceToken]]
    roles: Mapping[str, Keeper[AwsCredentials]]
    watched: Mapping[str, Callable[[], Iterable[Path]]]

    @property
    def keepers(self) -> list[Keeper[Any]]:
        return [*self.identities.values(), *self.roles.values()]


@asynccontextmanager
async def wired(config: Config, parts: Parts) -> AsyncIterator[Pipelines]:
    """Wire the configured pipelines; their connections end with the block."""
    async with (
        open_session() as http,
        Sts(
            clock=parts.clock,
            endpoint=config.upstream.sts_endpoint,
            ca_bundle=config.upstream.ca_bundle,
        ) as sts,
    ):
        iam = NamespaceIam(http, config.upstream.iam_endpoint)
        identities: dict[str, Keeper[NamespaceToken]] = {}
        roles: dict[str, Keeper[AwsCredentials]] = {}
        watched: dict[str, Callable[[], Iterable[Path]]] = {}
        for name, identity in config.identities.items():
            source = identity_source(
                source=identity.source,
                token_file=identity.token_file,
                token_spec=identity.token_spec,
                environ=parts.environ,
                iam=iam,
                http=http,
                clock=parts.clock,
            )
            identities[name] = Keeper(f"identity/{name}", source, clock=parts.clock)
            watched[name] = source.watched
        for entry in config.roles:
            token = IdTokenFor(
                entry.audience, bearer=identities[entry.identity], iam=iam, clock=parts.clock
            )
            roles[entry.role.name] = Keeper(
                f"role/{entry.role.name}",
                AssumedRole(entry.role, token=token, sts=sts, warn=_warner(parts.log)),
                clock=parts.clock,
                renew_within_s=parts.renew_within_s,
            )
        yield Pipelines(identities, roles, watched)


def listen_to(pipelines: Pipelines, config: Config, on_event: Callable[[Event], None]) -> None:
    """Tell *on_event* of every lease, and wake a role that waits when its identity is renewed."""
    for role in pipelines.roles.values():
        role.on_event = on_event
    for name, identity in pipelines.identities.items():
        dependants = [
            pipelines.roles[entry.role.name] for entry in config.roles if entry.identity == name
        ]
        identity.on_event = _waking(dependants, on_event)


def _waking(
    dependants: Sequence[Keeper[Any]], on_event: Callable[[Event], None]
) -> Callable[[Event], None]:
    def heard(event: Event) -> None:
        on_event(event)
        if isinstance(event, Obtained | Renewed):
            for keeper in dependants:
                if keeper.state() != "live":
                    keeper.renew_now()

    return heard


@asynccontextmanager
async def keeping(pipelines: Pipelines, clock: Clock) -> AsyncIterator[asyncio.TaskGroup]:
    """Run every keeper and file watch for the block. A bug in one of them ends the block."""
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(keeper.run(), name=keeper.name) for keeper in pipelines.keepers
        ]
        running += [
            tasks.create_task(
                watch(paths, pipelines.identities[name].renew_now, clock=clock),
                name=f"watch/{name}",
            )
            for name, paths in pipelines.watched.items()
        ]
        try:
            yield tasks
        except Exception as error:
            # The block's own, which nobody should have to look for in an exception group.
            failure = error
        finally:
            for task in running:
                task.cancel()
    if failure is not None:
        raise failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Sockets:
    """Every socket we serve on: bound, so that its port is ours and known, not yet listening."""

    imds: tuple[socket.socket, ...] = ()
    container: tuple[socket.socket, ...] = ()
    ops: tuple[socket.socket, ...] = ()
    control: socket.socket


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A broker that serves, for who started it in this process."""

    endpoints: Endpoints
    pipelines: Pipelines
    client: Mapping[str, Any] = field(repr=False)
    """What ``/v1/client`` tells the owner, the container token with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What the surfaces share: who may ask, and by which secrets."""

    rules: Rules
    guard: Guard
    keys: SigningKeys
    container_token: str = field(repr=False)


@asynccontextmanager
async def serving_all(config: Config, parts: Parts) -> AsyncIterator[Running]:
    """Run the whole broker for the block.

    Ops and control open first; the credential surfaces when the first leases are there, or after
    the start-up limit.

    Raises:
        CannotStart: A port is taken, or a file or directory cannot be used.
    """
    async with AsyncExitStack() as stack:
        pipelines = await stack.enter_async_context(wired(config, parts))
        metrics = Metrics(pipelines.keepers, clock=parts.clock)
        telemetry = Telemetry(log=parts.log, metrics=metrics, clock=parts.clock)
        listen_to(pipelines, config, telemetry.on_event)

        async def open_surface(surface: Surface, sockets: Iterable[socket.socket]) -> None:
            opening = serving(
                surface,
                tuple(sockets),
                clock=parts.clock,
                limits=limits_of(config),
                on_exchange=telemetry.on_exchange,
                on_error=telemetry.on_bug,
            )
            with explained():
                await stack.enter_async_context(opening)

        prepare_runtime_dir(config.runtime_dir, parts.environ)
        sockets = stack.enter_context(opened_sockets(config, parts))
        endpoints = endpoints_of(config, sockets)
        access = access_of(config, pipelines, parts)
        tasks = await stack.enter_async_context(keeping(pipelines, parts.clock))
        await open_surface(ops_surface(pipelines, access, metrics), sockets.ops)
        opened = asyncio.Event()
        control = control_surface(pipelines, access, endpoints, is_open=opened.is_set)
        await open_surface(control, [sockets.control])
        stack.enter_context(announced(config, endpoints))
        await first_leases(
            pipelines.roles.values(), clock=parts.clock, limit_s=config.start_timeout_s
        )
        await open_surface(imds_surface(config, pipelines, access, parts), sockets.imds)
        await open_surface(container_surface(pipelines, access), sockets.container)
        opened.set()
        after_jumps = tasks.create_task(renew_after_jumps(pipelines, access.keys, parts.clock))
        stack.callback(after_jumps.cancel)
        everything = access.rules.grant_for(Caller(uid=os.geteuid()))
        yield Running(
            endpoints=endpoints,
            pipelines=pipelines,
            client=client_facts(endpoints, everything, container_token=access.container_token),
        )


def access_of(config: Config, pipelines: Pipelines, parts: Parts) -> Access:
    """Return who may ask here, with the secrets in their files."""
    with explained():
        secret = container_token(config.container.token_file, config.container.token_group)
    return Access(
        rules=OwnerOnly(
            owner_uid=os.geteuid(), roles=pipelines.roles, default_role=config.default_role
        ),
        guard=Guard(allowed_hosts=allowed_hosts(config)),
        keys=signing_keys(config, parts),
        container_token=secret,
    )


def ops_surface(pipelines: Pipelines, access: Access, metrics: Metrics) -> Surface:
    return Ops(keepers=pipelines.keepers, guard=access.guard, metrics=metrics.text)


def control_surface(
    pipelines: Pipelines, access: Access, endpoints: Endpoints, *, is_open: Callable[[], bool]
) -> Surface:
    return Control(
        keepers=pipelines.keepers,
        roles=pipelines.roles,
        rules=access.rules,
        owner_uid=os.geteuid(),
        container_token=access.container_token,
        endpoints=endpoints,
        is_open=is_open,
    )


def imds_surface(config: Config, pipelines: Pipelines, access: Access, parts: Parts) -> Surface:
    return Imds(
        pipelines.roles,
        rules=access.rules,
        guard=access.guard,
        tokens=SessionTokens(access.keys),
        place=place_of(config, pipelines, parts.clock),
        v1=config.imds.v1,
    )


def container_surface(pipelines: Pipelines, access: Access) -> Surface:
    return Container(
        pipelines.roles,
        rules=access.rules,
        guard=access.guard,
        secrets=ContainerTokens({"default": (access.container_token,)}),
    )


async def renew_after_jumps(pipelines: Pipelines, keys: SigningKeys, clock: Clock) -> None:
    """Renew everything after a jump of the wall clock: this may be a thawed clone, whose twin
    holds the same leases and signing keys."""
    async for _ in jumps(clock):
        keys.add_key(clock.now())
        for keeper in pipelines.keepers:
            keeper.renew_now()


async def first_leases(keepers: Iterable[Keeper[Any]], *, clock: Clock, limit_s: float) -> None:
    """Wait until each keeper has its first lease or was refused it, at most *limit_s* seconds."""
    tasks: list[asyncio.Future[Any]] = [
        asyncio.ensure_future(keeper.settled()) for keeper in keepers
    ]
    everything: asyncio.Future[Any] = asyncio.gather(*tasks)
    limit: asyncio.Future[Any] = asyncio.ensure_future(clock.sleep(limit_s))
    try:
        await asyncio.wait({everything, limit}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        everything.cancel()
        limit.cancel()
        await asyncio.gather(everything, limit, return_exceptions=True)


def place_of(config: Config, pipelines: Pipelines, clock: Clock) -> Place:
    """Return what IMDS says of this machine: what is configured, else Namespace's facts, else
    this host's."""
    default = next((e.role for e in config.roles if e.role.name == config.default_role), None)
    return Place(
        instance_id=config.imds.instance_id
        or _namespace_instance_id(pipelines)
        or instance_id_from(host.machine_id()),
        read_at=clock.now(),
        region=config.region,
        availability_zone=config.availability_zone,
        account_id=default.arn.split(":")[4] if default else None,
        hostname=socket.gethostname(),
        local_ipv4=host.local_ipv4(),
        mac=host.mac(),
        architecture=host.architecture(),
    )


def _namespace_instance_id(pipelines: Pipelines) -> str | None:
    for identity in pipelines.identities.values():
        with suppress(NotReady):
            return identity.current().value.instance_id
    return None


def signing_keys(config: Config, parts: Parts) -> SigningKeys:
    if config.state_dir is None:
        return SigningKeys.in_memory(now=parts.clock.now())
    return SigningKeys.kept(
        config.state_dir / "imds-keys.json", now=parts.clock.now(), warn=_warner(parts.log)
    )


def allowed_hosts(config: Config) -> list[str]:
    listened = (*config.imds.listen, *config.container.listen, *config.ops.listen)
    return [*config.guard.allowed_hosts, *(address.host for address in listened)]


def limits_of(config: Config) -> Limits:
    return Limits(
        header_bytes=config.guard.header_bytes,
        header_timeout_s=config.guard.header_timeout_s,
        idle_timeout_s=config.guard.idle_timeout_s,
        connections=config.guard.max_connections,
        connections_per_caller=config.guard.max_connections_per_caller,
    )


def prepare_runtime_dir(path: Path, environ: Mapping[str, str]) -> None:
    """Make RUNTIME, for us alone; one that is there is taken as it is, unless anybody could have
    made it.

    Raises:
        CannotStart: It cannot be made, or must not be trusted.
    """
    with explained():
        try:
            places.make_runtime_dir(str(path), environ, os.geteuid())
        except places.NotOurs as error:
            raise CannotStart(f"runtime_dir: {error}") from error


@contextmanager
def opened_sockets(config: Config, parts: Parts) -> Iterator[Sockets]:
    """Bind every configured address for the block."""
    with ExitStack() as stack, explained():
        # A system service's socket is everybody's to speak to; who gets what, the rules say.
        mode = 0o666 if "RUNTIME_DIRECTORY" in parts.environ else 0o600
        path = config.runtime_dir / "broker.sock"
        control = stack.enter_context(bind_unix(path, mode=mode))
        stack.callback(path.unlink, missing_ok=True)
        sockets = Sockets(
            control=control,
            imds=_bound("imds", config.imds.listen, parts.log, hops=config.imds.hop_limit),
            container=_bound("container", config.container.listen, parts.log),
            ops=_bound("ops", config.ops.listen, parts.log),
        )
        for each in (*sockets.imds, *sockets.container, *sockets.ops):
            stack.enter_context(each)
        yield sockets


def _bound(
    name: str, addresses: Sequence[Address], log: Log, *, hops: int | None = None
) -> tuple[socket.socket, ...]:
    """Bind each address; one that this host lacks is a warning, unless none is left."""
    bound = []
    for address in addresses:
        try:
            bound.append(bind(address.host, address.port, hop_limit=hops))
        except AddressLacking as error:
            log.warning("address.lacking", surface=name, address=str(address), reason=str(error))
    if addresses and not bound:
        wanted = ", ".join(map(str, addresses))
        raise CannotStart(
            f"{name}.listen: this host has none of {wanted}; "
            f"add one to the loopback device (ip address add ADDRESS dev lo) or name another"
        )
    return tuple(bound)


@contextmanager
def explained() -> Iterator[None]:
    """Turn what cannot be used at start into `CannotStart`."""
    try:
        yield
    except (ListenError, ValueError) as error:
        raise CannotStart(str(error)) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CannotStart(f"{where}{error.strerror or error}") from error


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


def raise_open_files_limit() -> None:
    """Take as many descriptors as we may: each surface holds up to ``max_connections``."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def run(config: Config, parts: Parts, stop: asyncio.Event) -> None:
    """Be the daemon until *stop*.

    Raises:
        CannotStart: A port is taken, or a file or directory cannot be used.
    """
    for warning in filter(None, (*config.warnings, why_unaskable())):
        parts.log.warning("config.warning", reason=warning)
    raise_open_files_limit()
    async with serving_all(config, parts) as running:
        parts.log.info(
            "daemon.ready",
            version=__version__,
            imds=running.endpoints.imds,
            container=running.endpoints.container,
            ops=running.endpoints.ops,
            roles=list(running.pipelines.roles),
        )
        await stop.wait()
        parts.log.info("daemon.stopping")


def main(config: Config) -> int:
    """Be the daemon until SIGTERM or SIGINT, and return the exit code."""
    log = logger(form=config.log.format, level=config.log.level)
    try:
        asyncio.run(_until_signalled(config, Parts(log=log)))
    except CannotStart as error:
        print(f"namespace-broker: {error}", file=sys.stderr)  # noqa: T201 - an error is one line
        return 1
    return 0


async def _until_signalled(config: Config, parts: Parts) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(config, parts, stop)


@asynccontextmanager
async def private(config: Config, parts: Parts) -> AsyncIterator[Running]:
    """Run a broker of one's own for the block, on free loopback ports, beside any other."""
    with tempfile.TemporaryDirectory(prefix="namespace-broker-") as folder:
        anywhere = (Address(host="127.0.0.1", port=0),)
        runtime = Path(folder)
        own = replace(
            config,
            runtime_dir=runtime,
            imds=replace(config.imds, listen=anywhere),
            container=replace(
                config.container,
                listen=anywhere,
                token_file=runtime / "container-token",
                token_group=None,
            ),
            ops=replace(config.ops, listen=()),
        )
        async with serving_all(own, parts) as running:
            yield running


async def obtain(config: Config, role: str, parts: Parts) -> Lease[AwsCredentials]:
    """Obtain one lease of *role*, without a daemon.

    Raises:
        Refused: A proper no, at once.
        Unavailable: Passing faults for 60 s.
    """
    async with wired(config, parts) as pipelines, keeping(pipelines, parts.clock):
        return await once(pipelines.roles[role], parts.clock)


async def obtain_all(config: Config, parts: Parts) -> Sequence[tuple[str, Lease[Any] | str]]:
    """Obtain every lease once; of each its name, and the lease or why there is none."""
    async with wired(config, parts) as pipelines, keeping(pipelines, parts.clock):
        return [
            (keeper.name, await _or_reason(once(keeper, parts.clock)))
            for keeper in pipelines.keepers
        ]


async def once(keeper: Keeper[T], clock: Clock) -> Lease[T]:
    """Return the first lease of *keeper*, waiting over passing faults for at most 60 s."""
    await first_leases([keeper], clock=clock, limit_s=ONCE_LIMIT_S)
    return await keeper.fetch()


async def _or_reason(lease: Coroutine[Any, Any, Lease[T]]) -> Lease[T] | str:
    try:
        return await lease
    except (Refused, Unavailable) as error:
        return str(error)


def _warner(log: Log) -> Callable[[str], None]:
    return lambda reason: log.warning("warning", reason=reason)
