"""Who may ask, and who is told of it: rules, secrets and the audit, from the configuration."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from broker.access.caller import PLAIN_TOKEN, Caller
from broker.access.cgroups import Cgroups
from broker.access.facts import HostFacts
from broker.access.guard import Guard
from broker.access.people import People
from broker.access.processes import Processes
from broker.access.rules import ExplainedRules, FirstMatch, OwnerOnly
from broker.audit import AuditLog, Holder, auditing, sink_for
from broker.config import Config
from broker.pipelines import (
    Parts,
    Pipelines,
)
from broker.starting import Misconfigured, explained
from broker.surfaces.kept_tokens import KeptTokens
from broker.surfaces.message import Exchange
from broker.surfaces.session_tokens import SigningKeys
from broker.surfaces.spec_secrets import MASTER_BYTES, SpecSecrets, kept_spec_secrets
from broker.surfaces.usage import Usage
from broker.telemetry import Telemetry

CREDENTIALS = frozenset({"credentials", "container"})
"""The routes by which credentials are handed out."""


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


def signing_keys(config: Config, parts: Parts) -> SigningKeys:
    if config.state_dir is None:
        return SigningKeys.in_memory(now=parts.clock.now())
    return SigningKeys.kept(
        config.state_dir / "imds-keys.json", now=parts.clock.now(), warn=parts.warn
    )


def allowed_hosts(config: Config) -> list[str]:
    listened = (*config.imds.listen, *config.container.listen, *config.ops.listen)
    return [*config.guard.allowed_hosts, *(address.host for address in listened)]
