"""Build what decides on callers: rules, host facts, tokens and keys; and the audit of them."""

import os
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial

from broker.access.caller import PLAIN_TOKEN, Caller
from broker.access.caller_lookup import HostFacts
from broker.access.cgroup import Cgroups
from broker.access.process import Processes, RecentProcesses
from broker.access.rules import ExplainedRules, FirstMatch, OwnerOnly
from broker.access.usage import Usage
from broker.access.users import SubordinateUids, UserDatabase
from broker.config import Config
from broker.daemon.errors import Misconfigured, explained
from broker.daemon.listeners import hosts_of
from broker.daemon.runtime import Runtime
from broker.daemon.wiring import Pipelines
from broker.files.off_loop import off_loop
from broker.files.private import read_private, write_private
from broker.http.guard import Guard
from broker.surfaces.container_tokens import ContainerTokenFiles
from broker.surfaces.namespace import MASTER_BYTES, TokenSpecSigner, load_token_spec_signer
from broker.surfaces.session_tokens import SessionKeys
from broker.telemetry.audit import AuditLog, CallerDetails, auditing, sink_for
from broker.telemetry.events import Telemetry

RULES, SCOPE_FILE = "rules", "token-scope"


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may ask, and by which secrets: shared by the surfaces."""

    config: Config
    rules: ExplainedRules
    facts: HostFacts
    subordinates: SubordinateUids
    usage: Usage
    cgroups: Cgroups
    guard: Guard
    keys: SessionKeys
    token_spec_signer: TokenSpecSigner
    tokens: ContainerTokenFiles


def access_of(
    config: Config,
    pipelines: Pipelines,
    runtime: Runtime,
    undo: AsyncExitStack,
    *,
    before: Access | None = None,
) -> Access:
    """Build the access of *config*; what was known *before* is kept, so that sessions stay valid.

    Raises:
        CannotStart: A file cannot be used; new files are removed again with *undo*.
    """
    with explained("container: "):
        tokens = tokens_of(config, runtime, undo, before=before.tokens if before else None)
        token_spec_signer = token_spec_signer_of(config, before=before)
    cgroups = before.cgroups if before else Cgroups()
    facts = before.facts if before else host_facts(cgroups)
    return Access(
        config=config,
        rules=rules_of(config, pipelines, facts),
        facts=facts,
        subordinates=before.subordinates if before else SubordinateUids(),
        usage=usage_of(config, before),
        cgroups=cgroups,
        token_spec_signer=token_spec_signer,
        guard=Guard(allowed_hosts=[*allowed_hosts(config), *hosts_of(runtime.inherited)]),
        keys=before.keys if before else signing_keys(config, runtime),
        tokens=tokens,
    )


def tokens_of(
    config: Config, runtime: Runtime, undo: AsyncExitStack, *, before: ContainerTokenFiles | None
) -> ContainerTokenFiles:
    """Return the container tokens, each made where its file is missing."""
    container = config.container
    files = {PLAIN_TOKEN: container.token_file, **container.tokens}
    for file in container.tokens.values():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if before is None:
        return ContainerTokenFiles(
            files, clock=runtime.clock, group=container.token_group, warn=runtime.warn
        )
    if before.is_for_files(files, group=container.token_group):
        return before
    for file in files.values():
        if not file.exists():
            undo.callback(file.unlink, missing_ok=True)
    return before.with_files(files, group=container.token_group)


def replace_tokens_that_open_more(access: Access, *, before: str | None, runtime: Runtime) -> None:
    """Replace all container tokens if they open more than *before*, and record their scope.

    Under rules a token admits its holder to what the rules grant; without rules it opens every
    role. So copies that were made under rules must not outlive these, over a restart neither.
    """
    scope = token_scope(access.config)
    if before == RULES and scope != RULES:
        access.tokens.replace_all()
        runtime.warn(
            "without rules a container token opens every role, so all tokens were replaced; "
            "programs that read theirs from its file go on, others need the new one"
        )
    try:
        write_private(access.config.runtime_dir / SCOPE_FILE, scope.encode())
    except OSError as error:
        runtime.warn(f"{error.filename}: {error.strerror}; after rules are removed, remove tokens")


def token_scope(config: Config) -> str:
    """Return what a container token of *config* opens: what the rules grant, or everything."""
    return RULES if config.rules else "everything"


def recorded_token_scope(config: Config) -> str | None:
    """Return the scope that an earlier process recorded, or None."""
    with suppress(OSError, ValueError):
        path = config.runtime_dir / SCOPE_FILE
        return read_private(path, max_mode=0o600, max_bytes=64).decode("ascii")
    return None


def usage_of(config: Config, before: Access | None) -> Usage:
    """Return the record of uses; the counts of matches are kept while the rules are the same."""
    if before is not None and before.config.rules == config.rules:
        return before.usage
    names = tuple(rule.name for rule in config.rules)
    return Usage(names, before=before.usage if before else None)


def host_facts(cgroups: Cgroups) -> HostFacts:
    return HostFacts(users=UserDatabase(), processes=Processes(members_of=cgroups.members_of))


def rules_of(config: Config, pipelines: Pipelines, facts: HostFacts) -> ExplainedRules:
    """Return the configured rules; without any, only our own uid is admitted."""
    if config.rules:
        return FirstMatch(config.rules, facts=facts)
    return OwnerOnly(
        owner_uid=os.geteuid(),
        roles=pipelines.roles,
        default_role=config.default_role,
        namespace_tokens=[each.identity for each in config.namespace_tokens if each.http],
        id_token_audiences=[each.audience for each in config.id_tokens],
    )


def token_spec_signer_of(config: Config, *, before: Access | None) -> TokenSpecSigner:
    """Return the signer of token specs, kept while specs that it signed must stay valid."""
    if before is not None and (hands_out_specs(before.config) or not hands_out_specs(config)):
        return before.token_spec_signer
    if not hands_out_specs(config):
        return TokenSpecSigner(os.urandom(MASTER_BYTES))
    return load_token_spec_signer((config.state_dir or config.runtime_dir) / "spec-secret")


def hands_out_specs(config: Config) -> bool:
    return any(each.http for each in config.namespace_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The audit log of a configuration, if it has one; it is closed with ``closing``."""

    log: AuditLog | None = None
    closing: AsyncExitStack = field(default_factory=AsyncExitStack)


async def audit_of(config: Config, access: Access, runtime: Runtime, telemetry: Telemetry) -> Audit:
    """Open the configured audit log, if any.

    Raises:
        Misconfigured: The file cannot be used.
    """
    if config.audit.to is None:
        return Audit()
    try:
        sink = await off_loop(partial(sink_for, str(config.audit.to)))
    except (OSError, ValueError) as error:
        raise Misconfigured(f"audit.to: {error}") from error
    log = auditing(
        sink,
        clock=runtime.clock,
        # Facts of its own, because it is called in the audit's thread.
        details_of=partial(
            details_of,
            facts=host_facts(access.cgroups),
            processes=RecentProcesses(Processes(members_of=access.cgroups.members_of)),
        ),
        on_event=telemetry.on_audit,
    )
    closing = AsyncExitStack()
    return Audit(log=await closing.enter_async_context(log), closing=closing)


def details_of(caller: Caller, *, facts: HostFacts, processes: RecentProcesses) -> CallerDetails:
    """Look up the caller's user and process: slow, for the audit only."""
    process = processes.process_of(caller)
    return CallerDetails(
        user=None if caller.uid is None else facts.user_of(caller.uid),
        pid=process.pid,
        exe=process.exe,
    )


def signing_keys(config: Config, runtime: Runtime) -> SessionKeys:
    if config.state_dir is None:
        return SessionKeys.in_memory(now=runtime.clock.now(), on=runtime.boot_id())
    return SessionKeys.kept(
        config.state_dir / "imds-keys.json",
        now=runtime.clock.now(),
        on=runtime.boot_id(),
        warn=runtime.warn,
    )


def allowed_hosts(config: Config) -> list[str]:
    listened = (*config.imds.listen, *config.container.listen, *config.ops.listen)
    return [*config.guard.allowed_hosts, *(address.host for address in listened)]
