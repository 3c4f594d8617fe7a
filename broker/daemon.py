"""Open the surfaces over the pipelines, run them, and leave in good order. Owns every task."""

import asyncio
import json
import os
import resource
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from broker import __version__, host, places
from broker.access.caller import PLAIN_TOKEN, Caller
from broker.access.cgroups import Cgroups
from broker.access.facts import HostFacts
from broker.access.guard import METADATA_ADDRESSES, Guard
from broker.access.peer import Peers, why_unaskable
from broker.access.people import People
from broker.access.processes import Processes
from broker.access.rules import ExplainedRules, FirstMatch, OwnerOnly
from broker.access.subjects import Subjects
from broker.audit import AuditLog, Holder, auditing, sink_for
from broker.clock import Clock, jumps
from broker.config import Address, Config, IdentityConfig
from broker.credentials import IdToken
from broker.exposed import exposed
from broker.keeper import Keeper
from broker.lease import NotReady
from broker.pipelines import (
    FROM_AWS,
    Parts,
    Pipelines,
    exchange,
    first_leases,
    keeping,
    listen_to,
    obtain,
    obtain_all,
    obtain_id_token,
    obtain_namespace_token,
    wired,
)
from broker.secrecy import keep_memory_private
from broker.sources.circles import Ours, identity_leads_to, leads_to
from broker.surfaces.container import Container
from broker.surfaces.control import Control, Endpoints, Handing, client_facts
from broker.surfaces.crowd import Crowd
from broker.surfaces.http import Limits, serving
from broker.surfaces.imds import Imds
from broker.surfaces.imds_paths import Place, instance_id_from
from broker.surfaces.kept_tokens import KeptTokens
from broker.surfaces.listen import AddressLacking, ListenError, bind, bind_unix, unlink_own
from broker.surfaces.message import Exchange, Surface
from broker.surfaces.namespace import NamespaceTokens
from broker.surfaces.ops import Ops
from broker.surfaces.private_file import write_private
from broker.surfaces.routed import Routed
from broker.surfaces.session_tokens import SessionTokens, SigningKeys
from broker.surfaces.spec_secrets import MASTER_BYTES, SpecSecrets, kept_spec_secrets
from broker.surfaces.token_files import TokenFile
from broker.surfaces.token_forms import BareJwt, TokenJson
from broker.surfaces.usage import Usage
from broker.telemetry import Log, Metrics, Telemetry, logger
from broker.watch import watch

__all__ = [
    "CannotStart",
    "Parts",
    "Running",
    "exchange",
    "main",
    "obtain",
    "obtain_all",
    "obtain_id_token",
    "obtain_namespace_token",
    "private",
    "run",
    "serving_all",
]


CREDENTIALS = frozenset({"credentials", "container"})
"""The routes by which credentials are handed out."""


class CannotStart(Exception):
    """The daemon cannot start, or has to end; the text says why and what to do."""

    exit_code = 1


class Misconfigured(CannotStart):
    """What the configuration names must not be used."""

    exit_code = 2


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

    rules: ExplainedRules
    facts: HostFacts
    usage: Usage
    cgroups: Cgroups
    guard: Guard
    keys: SigningKeys
    spec_secrets: SpecSecrets
    tokens: KeptTokens


@asynccontextmanager
async def serving_all(
    config: Config, parts: Parts, *, stop: asyncio.Event | None = None
) -> AsyncIterator[Running]:
    """Run the whole broker for the block.

    Ops and control open first; the credential surfaces when the first leases are there, or after
    the start-up limit. *stop* ends the waiting for them: the block is then to leave at once.

    Raises:
        CannotStart: A port is taken, or a file or directory cannot be used.
    """
    async with AsyncExitStack() as stack:
        pipelines = await stack.enter_async_context(wired(config, parts))
        metrics = Metrics(pipelines.keepers, clock=parts.clock)
        telemetry = Telemetry(log=parts.log, metrics=metrics, clock=parts.clock)
        listen_to(pipelines, config, telemetry.on_event)
        asyncio.get_running_loop().set_exception_handler(telemetry.on_loop_trouble)
        prepare_runtime_dir(config.runtime_dir, parts.environ)
        files = token_files(config, pipelines, parts, telemetry)
        for file in files:
            stack.callback(file.close)
        sockets = stack.enter_context(opened_sockets(config, parts))
        endpoints = endpoints_of(config, sockets)
        refuse_circles(config, endpoints, parts)
        for paths in pipelines.watched.values():
            for sentence in exposed(paths()):
                parts.warn(sentence)
        access = access_of(config, pipelines, parts)
        crowd = Crowd(
            connections=config.guard.max_connections,
            per_caller=config.guard.max_connections_per_caller,
        )
        metrics.count_connections(crowd)

        peers = stack.enter_context(Peers(access.cgroups))

        audit = await stack.enter_async_context(audit_of(config, access, parts, telemetry))

        def on_exchange(exchange: Exchange) -> None:
            if audit is not None:  # first: a line is missed more than a number
                audit.on_exchange(exchange)
            telemetry.on_exchange(exchange)
            note_use(exchange, access, now=parts.clock.now())

        async def open_surface(surface: Surface, sockets: Iterable[socket.socket]) -> None:
            opening = serving(
                surface,
                tuple(sockets),
                clock=parts.clock,
                limits=limits_of(config),
                crowd=crowd,
                on_exchange=on_exchange,
                on_error=telemetry.on_bug,
                who=peers.caller_of,
            )
            with explained():
                await stack.enter_async_context(opening)

        tasks = await stack.enter_async_context(keeping(pipelines, parts.clock))
        background = [file.keep() for file in files]
        background.append(renew_after_jumps(pipelines, access.keys, parts.clock))
        background.append(watch(access.tokens.watched, access.tokens.look_again, clock=parts.clock))
        for task in [tasks.create_task(each) for each in background]:
            stack.callback(task.cancel)
        await open_surface(ops_surface(pipelines, access, metrics), sockets.ops)
        opened = asyncio.Event()
        control = control_surface(config, pipelines, access, endpoints, is_open=opened.is_set)
        await open_surface(control, [sockets.control])
        stack.enter_context(announced(config, endpoints))
        await first_leases(
            pipelines.keepers, clock=parts.clock, limit_s=config.start_timeout_s, stop=stop
        )
        await open_surface(imds_surface(config, pipelines, access, parts), sockets.imds)
        await open_surface(container_surface(config, pipelines, access), sockets.container)
        # Whoever waited for us must find what we write, too.
        await first_leases(files, clock=parts.clock, limit_s=config.start_timeout_s, stop=stop)
        opened.set()
        everything = access.rules.grant_for(Caller(uid=os.geteuid()))
        yield Running(
            endpoints=endpoints,
            pipelines=pipelines,
            client=client_facts(
                endpoints,
                everything,
                container_token=access.tokens.newest(PLAIN_TOKEN),
                namespace=handing_on(config, access).facts_for(os.geteuid(), endpoints, everything),
            ),
        )


def access_of(config: Config, pipelines: Pipelines, parts: Parts) -> Access:
    """Return who may ask here, with the secrets in their files."""
    files = {PLAIN_TOKEN: config.container.token_file, **config.container.tokens}
    with explained("container: "):
        for file in config.container.tokens.values():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        tokens = KeptTokens(
            files, clock=parts.clock, group=config.container.token_group, warn=parts.warn
        )
        spec_secrets = spec_secrets_of(config)
    cgroups = Cgroups()
    facts = host_facts(cgroups)
    return Access(
        rules=rules_of(config, pipelines, facts),
        facts=facts,
        usage=Usage(tuple(rule.name for rule in config.rules)),
        cgroups=cgroups,
        spec_secrets=spec_secrets,
        guard=Guard(allowed_hosts=allowed_hosts(config)),
        keys=signing_keys(config, parts),
        tokens=tokens,
    )


def host_facts(cgroups: Cgroups) -> HostFacts:
    return HostFacts(people=People(), processes=Processes(members_of=cgroups.members_of))


def rules_of(config: Config, pipelines: Pipelines, facts: HostFacts) -> ExplainedRules:
    """Return the configured rules; where there are none, the floor."""
    if config.rules:
        return FirstMatch(config.rules, facts=facts)
    return OwnerOnly(
        owner_uid=os.geteuid(),
        roles=pipelines.roles,
        default_role=config.default_role,
        namespace_tokens=[each.identity for each in config.namespace_tokens if each.http],
        id_token_audiences=[each.audience for each in config.id_tokens],
    )


def spec_secrets_of(config: Config) -> SpecSecrets:
    """Return the secrets of the token specs, kept where specs that were handed out must go on."""
    if not any(each.http for each in config.namespace_tokens):
        return SpecSecrets(os.urandom(MASTER_BYTES))
    return kept_spec_secrets((config.state_dir or config.runtime_dir) / "spec-secret")


@asynccontextmanager
async def audit_of(
    config: Config, access: Access, parts: Parts, telemetry: Telemetry
) -> AsyncIterator[AuditLog | None]:
    """Write the audit log for the block, where one is configured.

    Raises:
        Misconfigured: The file cannot be used.
    """
    if config.audit.to is None:
        yield None
        return
    try:
        sink = sink_for(str(config.audit.to))
    except (OSError, ValueError) as error:
        raise Misconfigured(f"audit.to: {error}") from error
    log = auditing(
        sink,
        clock=parts.clock,
        # Its own, because it is asked in the log's thread.
        holder_of=partial(holder_of, facts=host_facts(access.cgroups)),
        on_event=telemetry.on_audit,
    )
    async with log as writing:
        with suppress(ValueError, RuntimeError):  # not in the main thread, so nobody sends us any
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, writing.reopen)
        yield writing


def holder_of(caller: Caller, *, facts: HostFacts) -> Holder:
    """Return what can be told of a caller beyond its connection: slow, for the audit only."""
    process = facts.process_behind(caller)
    return Holder(
        user=None if caller.uid is None else facts.user_of(caller.uid),
        pid=process.pid,
        exe=process.exe,
    )


def note_use(exchange: Exchange, access: Access, *, now: datetime) -> None:
    """Remember who used what, for `status`."""
    answer, caller = exchange.answer, exchange.caller
    if exchange.surface == "ops" or answer.route in ("ready", "status", "who"):
        return
    rule = answer.rule
    if rule is None:  # no rule was asked
        return
    access.usage.matched(rule, at=now)
    if answer.status == 200 and answer.role != "none" and answer.route in CREDENTIALS:
        access.usage.served(answer.role, caller, rule=rule, at=now)


def ops_surface(pipelines: Pipelines, access: Access, metrics: Metrics) -> Surface:
    return Ops(keepers=pipelines.keepers, guard=access.guard, metrics=metrics.text)


def control_surface(
    config: Config,
    pipelines: Pipelines,
    access: Access,
    endpoints: Endpoints,
    *,
    is_open: Callable[[], bool],
) -> Surface:
    return Control(
        keepers=pipelines.keepers,
        roles=pipelines.roles,
        held=pipelines.held,
        identities=pipelines.identities,
        id_tokens=by_audience(config, pipelines),
        rules=access.rules,
        facts=Subjects(access.facts),
        usage=access.usage,
        owner_uid=os.geteuid(),
        container_token=lambda: access.tokens.newest(PLAIN_TOKEN),
        handing=handing_on(config, access),
        endpoints=endpoints,
        is_open=is_open,
    )


def imds_surface(config: Config, pipelines: Pipelines, access: Access, parts: Parts) -> Surface:
    return Imds(
        pipelines.held,
        rules=access.rules,
        guard=access.guard,
        tokens=SessionTokens(access.keys),
        place=place_of(config, pipelines, parts.clock),
        v1=config.imds.v1,
    )


def container_surface(config: Config, pipelines: Pipelines, access: Access) -> Surface:
    container = Container(
        pipelines.held, rules=access.rules, guard=access.guard, secrets=access.tokens
    )
    if not config.id_tokens and not any(each.http for each in config.namespace_tokens):
        return container
    namespace = NamespaceTokens(
        pipelines.identities,
        id_tokens=by_audience(config, pipelines),
        rules=access.rules,
        guard=access.guard,
        secrets=access.tokens,
        spec_secrets=access.spec_secrets,
    )
    return Routed(namespace=namespace, container=container)


def by_audience(config: Config, pipelines: Pipelines) -> Mapping[str, Keeper[IdToken]]:
    """Return the kept ID tokens by audience; of two for one audience, the first."""
    return {each.audience: pipelines.id_tokens[each.name] for each in reversed(config.id_tokens)}


def handing_on(config: Config, access: Access) -> Handing:
    """Return what is told to a caller who may have a Namespace token: the way to it."""
    files = {each.identity: each.file for each in config.namespace_tokens if each.file}
    return Handing(
        files={identity: str(file) for identity, file in files.items()},
        spec_secrets=access.spec_secrets,
    )


def token_files(
    config: Config, pipelines: Pipelines, parts: Parts, telemetry: Telemetry
) -> list[TokenFile[Any]]:
    """Open every configured token file's place.

    Raises:
        Misconfigured: One must not be used.
    """
    files: list[TokenFile[Any]] = []
    try:
        for each in config.namespace_tokens:
            if each.file is not None:
                files.append(
                    TokenFile(
                        each.file,
                        keeper=pipelines.identities[each.identity],
                        form=TokenJson(),
                        clock=parts.clock,
                        group=each.group,
                        on_event=telemetry.on_file,
                    )
                )
        for entry in config.id_tokens:
            if entry.file is not None:
                files.append(
                    TokenFile(
                        entry.file,
                        keeper=pipelines.id_tokens[entry.name],
                        form=BareJwt(),
                        clock=parts.clock,
                        on_event=telemetry.on_file,
                    )
                )
    except (ValueError, OSError) as error:
        for file in files:
            file.close()
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise Misconfigured(reason) from error
    return files


def refuse_circles(config: Config, endpoints: Endpoints, parts: Parts) -> None:
    """Refuse to be our own client.

    Raises:
        Misconfigured: A source would read what we serve or write; names both.
    """
    ours = Ours(
        urls={
            **dict.fromkeys(endpoints.imds, "imds.listen"),
            **dict.fromkeys(endpoints.container, "container.listen"),
            **dict.fromkeys(endpoints.ops, "ops.listen"),
        },
        files={
            **{
                each.file: f"namespace_tokens.{each.identity}.file"
                for each in config.namespace_tokens
                if each.file
            },
            **{each.file: f"id_tokens.{each.name}.file" for each in config.id_tokens if each.file},
        },
    )
    for name, identity in config.identities.items():
        if circle := circle_of(identity, ours, parts.environ):
            raise Misconfigured(f"identities.{name}: {circle}")


def circle_of(identity: IdentityConfig, ours: Ours, environ: Mapping[str, str]) -> str | None:
    if identity.source in FROM_AWS:
        return leads_to(environ, ours=ours, profile=identity.profile)
    return identity_leads_to(
        environ,
        ours=ours,
        source=identity.source,
        token_file=identity.token_file,
        token_spec=identity.token_spec,
    )


async def renew_after_jumps(pipelines: Pipelines, keys: SigningKeys, clock: Clock) -> None:
    """Renew everything after a jump of the wall clock: this may be a thawed clone, whose twin
    holds the same leases and signing keys."""
    async for _ in jumps(clock):
        keys.add_key(clock.now())
        for keeper in pipelines.keepers:
            keeper.renew_now()


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
        config.state_dir / "imds-keys.json", now=parts.clock.now(), warn=parts.warn
    )


def allowed_hosts(config: Config) -> list[str]:
    listened = (*config.imds.listen, *config.container.listen, *config.ops.listen)
    return [*config.guard.allowed_hosts, *(address.host for address in listened)]


def limits_of(config: Config) -> Limits:
    return Limits(
        header_bytes=config.guard.header_bytes,
        header_timeout_s=config.guard.header_timeout_s,
        idle_timeout_s=config.guard.idle_timeout_s,
    )


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


@contextmanager
def explained(place: str = "") -> Iterator[None]:
    """Turn what cannot be used at start into `CannotStart`, about the *place* it begins with."""
    try:
        yield
    except (ListenError, ValueError) as error:
        raise CannotStart(f"{place}{error}") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CannotStart(
            f"{place}{where}{error.strerror or error}; choose another place, or make room there"
        ) from error


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
    async with serving_all(config, parts, stop=stop) as running:
        if not stop.is_set():
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
    keep_memory_private()
    try:
        asyncio.run(_until_signalled(config, Parts(log=log)))
    except CannotStart as error:
        print(f"namespace-broker: {error}", file=sys.stderr)  # noqa: T201 - an error is one line
        return error.exit_code
    return 0


async def _until_signalled(config: Config, parts: Parts) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # A terminal that closes: leave in good order, unless nohup told us to stay.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        loop.add_signal_handler(signal.SIGHUP, stop.set)
    await run(config, parts, stop)


@asynccontextmanager
async def private(config: Config, parts: Parts) -> AsyncIterator[Running]:
    """Run a broker of one's own for the block, on free loopback ports, beside any other.

    It touches none of the secrets that the host's broker keeps. *config* has nothing but roles.
    """
    with tempfile.TemporaryDirectory(prefix="namespace-broker-") as folder:
        anywhere = (Address(host="127.0.0.1", port=0),)
        runtime = Path(folder)
        own = replace(
            config,
            runtime_dir=runtime,
            state_dir=None,
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
