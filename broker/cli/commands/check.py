"""`check`: validate the configuration and show what would run."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from broker.cli import control_client
from broker.cli.commands.run import FLAGS as BROKER_FLAGS
from broker.cli.commands.run import broker_flags
from broker.cli.control_client import Reply, no_access
from broker.cli.errors import Failure
from broker.cli.offline import configured, ends_at, explained, misuse, warn
from broker.cli.output import columns, span, without_repeats
from broker.cli.parser import JSON, SWITCH, Flag, Options
from broker.config import Address, Config, ConfigError, IdentityConfig, RoleConfig, Rule
from broker.files import locations
from broker.lease import Lease

DESCRIPTION = """Validate the configuration and show what would run.

Takes the flags of run and starts nothing. With --live it obtains every lease once, as the broker
would, so that missing trust shows now. Where the service runs by this configuration, it is asked
instead.

Exit code 0: valid; 1: a lease could not be obtained; 2: wrong configuration.

    namespace-broker check --config /etc/namespace-broker/config.toml --live
"""

FLAGS = (
    Flag("live", "Also obtain every lease once.", kind=SWITCH),
    JSON,
    *BROKER_FLAGS,
)


def run(options: Options) -> int:
    try:
        config = configured(broker_flags(options))
    except ConfigError as error:
        raise misuse(error) from error
    warn(config.warnings)
    facts = facts_of(config)
    service = running_service(options)
    if service is not None:
        facts["listen"] = listened(service.endpoints)
    if options.switch("live"):
        facts["leases"] = obtained(config) if service is None else held_by(service)
    good = all(lease["ok"] for lease in facts.get("leases", []))
    if options.switch("json"):
        print(json.dumps({"ok": good, **facts}, indent=2))
    else:
        print(described(facts), end="")
    return 0 if good else 1


def running_service(options: Options) -> Reply | None:
    """Return the status of the service that runs by this configuration, None where none does.

    Only the service sees its copy of the identity, and systemd's sockets.
    """
    flags = {flag.name: flag.initial for flag in BROKER_FLAGS}
    is_default = all(options.values[name] == initial for name, initial in flags.items())
    if not is_default or os.environ.get("NAMESPACE_BROKER_CONFIG"):
        return None
    try:
        return control_client.ask("/v1/status", locations.SYSTEM_RUNTIME_DIR, {})
    except Failure:
        return None


def listened(endpoints: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        name: [str(url).removeprefix("http://").rstrip("/") for url in endpoints.get(name) or ()]
        for name in ("imds", "container", "ops")
    }


def held_by(service: Reply) -> list[dict[str, Any]]:
    """Return the service's leases; to a user it shows only those the user may use."""
    if service.status != 200:
        warn([f"{no_access(' to the service')}: its leases are not checked; run this as root"])
        return []
    if "problems" not in service.document:
        warn(["the service shows only the leases that you may use; root sees all"])
    return [
        {
            "name": lease["name"],
            "ok": lease["state"] in ("live", "unavailable"),
            "expires_at": lease["expires_at"],
            "reason": lease.get("reason"),
        }
        for lease in service.document["leases"]
    ]


def facts_of(config: Config) -> dict[str, Any]:
    """Return what would run, as JSON values."""
    surfaces: Mapping[str, Sequence[Address]] = {
        "imds": config.imds.listen,
        "container": config.container.listen,
        "ops": config.ops.listen,
    }
    return {
        "region": config.region,
        "default_role": config.default_role,
        "roles": [role_facts(role) for role in config.roles],
        "identities": [identity_facts(identity) for identity in config.identities.values()],
        "handed_on": token_facts(config),
        "rules": [rule_facts(rule) for rule in config.rules],
        "listen": {name: [str(address) for address in where] for name, where in surfaces.items()},
    }


def role_facts(role: RoleConfig) -> dict[str, Any]:
    return {
        "name": role.role.name,
        "arn": role.role.arn,
        "region": role.role.region,
        "duration_s": role.role.duration_s or "max",
        "identity": role.identity,
        "audience": role.audience,
    }


def identity_facts(identity: IdentityConfig) -> dict[str, Any]:
    return {
        "name": identity.name,
        "source": identity.source,
        **{key: getattr(identity, key, None) for key in ("workspace", "region", "profile")},
    }


def rule_facts(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "who": {key: who_value(getattr(rule.who, key)) for key in rule.who.keys},
        "roles": list(rule.roles),
        "default_role": rule.grant.default_role,
        "namespace_tokens": sorted(rule.namespace_tokens),
        "id_token_audiences": sorted(rule.id_token_audiences),
    }


def who_value(value: object) -> object:
    return value if isinstance(value, bool | int) else str(value)


def token_facts(config: Config) -> list[dict[str, Any]]:
    """Return the tokens that are exported, by lease name, and how."""
    namespace_tokens = [
        {
            "name": f"identity/{token.identity}",
            "file": None if token.file is None else str(token.file),
            "http": token.http,
        }
        for token in config.namespace_tokens
    ]
    id_tokens = [
        {
            "name": f"id-token/{token.name}",
            "file": None if token.file is None else str(token.file),
            "http": True,
        }
        for token in config.id_tokens
    ]
    return [*namespace_tokens, *id_tokens]


def obtained(config: Config) -> list[dict[str, Any]]:
    """Obtain every lease; return each one's end, or the reason why it failed."""
    from broker.daemon.offline import obtain_all
    from broker.daemon.runtime import Runtime
    from broker.telemetry.log import logger

    runtime = Runtime(log=logger(form="auto", level="error"))
    with explained("--live"):
        outcomes = asyncio.run(obtain_all(config, runtime))
    return [
        {"name": name, "ok": True, "expires_at": ends_at(outcome), "reason": None}
        if isinstance(outcome, Lease)
        else {
            "name": name,
            "ok": False,
            "expires_at": None,
            "reason": outcome.removeprefix(f"{name}: "),
        }
        for name, outcome in outcomes
    ]


def described(facts: Mapping[str, Any]) -> str:
    roles = [
        [
            role["name"] + (" (default)" if role["name"] == facts["default_role"] else ""),
            role["arn"],
            role["region"],
            role["duration_s"] if role["duration_s"] == "max" else span(role["duration_s"]),
            role["identity"],
        ]
        for role in facts["roles"]
    ]
    surfaces = [[name, ", ".join(where) or "off"] for name, where in facts["listen"].items()]
    identities = [
        [
            identity["name"],
            identity["source"],
            *(identity[key] or "-" for key in ("workspace", "region", "profile")),
        ]
        for identity in facts["identities"]
    ]
    handed_on = [
        [token["name"], token["file"] or "-", "yes" if token["http"] else "no"]
        for token in facts["handed_on"]
    ]
    rules = [
        [
            rule["name"],
            " and ".join(key_in_words(*key) for key in rule["who"].items()),
            granted(rule),
        ]
        for rule in facts["rules"]
    ]
    tables = [
        columns(header, rows)
        for header, rows in (
            (["ROLE", "ARN", "REGION", "LASTS", "IDENTITY"], roles),
            (["IDENTITY", "SOURCE", "WORKSPACE", "REGION", "PROFILE"], identities),
            (["HANDED ON", "IN FILE", "BY HTTP"], handed_on),
            (["RULE", "WHO", "MAY HAVE"], rules),
            (["SURFACE", "LISTENS ON"], surfaces),
        )
        if rows
    ]
    if "leases" in facts:
        reasons = without_repeats(
            (lease["name"], lease["reason"] or "") for lease in facts["leases"]
        )
        leases = [
            [lease["name"], result(lease) if lease["ok"] else reason]
            for lease, reason in zip(facts["leases"], reasons, strict=True)
        ]
        tables.append(columns(["LEASE", "RESULT"], leases))
    return "\n".join(tables)


def key_in_words(key: str, value: object) -> str:
    return "anybody on this host" if key == "any_local" else f"{key} {value}"


def granted(rule: Mapping[str, Any]) -> str:
    """Return what the rule grants, its default role first."""
    default = rule["default_role"]
    roles = sorted(rule["roles"], key=lambda role: role != default)
    return (
        ", ".join(
            [
                *roles,
                *(f"Namespace token {name}" for name in rule["namespace_tokens"]),
                *(f"ID token for {audience}" for audience in rule["id_token_audiences"]),
            ]
        )
        or "nothing"
    )


def result(lease: Mapping[str, Any]) -> str:
    return f"good until {lease['expires_at']}" if lease["expires_at"] else "good until revoked"
