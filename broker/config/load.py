"""Flags, file and environment become one `Config`. A flag wins over the file, which wins over both
defaults and environment."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

from broker.access.rules import Rule
from broker.config import checks, tables
from broker.config.errors import ConfigError, shown
from broker.config.file import SYSTEM_FILE, config_file, read_file
from broker.config.handed_on import id_tokens_of, must_be_distinct, namespace_tokens_of
from broker.config.identities import DEFAULT_IDENTITY, Use, identities_of
from broker.config.model import (
    Address,
    AuditConfig,
    AuditStream,
    Config,
    ContainerConfig,
    Flags,
    GuardConfig,
    IdTokenConfig,
    ImdsConfig,
    LogConfig,
    LogFormat,
    LogLevel,
    NamespaceTokenConfig,
    OpsConfig,
    RoleConfig,
    Upstream,
)
from broker.config.narrow import identity_only, no_role, roles_only
from broker.config.roles import default_role, flag_roles, roles_of
from broker.config.rules import Grantable, rules_of
from broker.config.tables import (
    AuditTable,
    ContainerTable,
    GuardTable,
    ImdsTable,
    LogTable,
    OpsTable,
    TopTable,
)
from broker.config.warnings import warnings_of
from broker.files import locations

T = TypeVar("T")

NAMESPACE_IAM = "https://private-api.global.namespaceapis.com"
CONTAINER_ADDRESS = Address("127.0.0.1", 8170)
OPS_ADDRESS = Address("127.0.0.1", 8171)
START_TIMEOUT_S = 10.0


def load(flags: Flags, environ: Mapping[str, str], *, system_file: Path = SYSTEM_FILE) -> Config:
    """Return what the operator said, whole and checked.

    Raises:
        NoRole: No role is named anywhere, and no token to hand on.
        ConfigError: Anything else that is wrong: a flag, a key, a variable, the file itself.
    """
    config = load_any(flags, environ, system_file=system_file)
    if not (config.roles or config.namespace_tokens or config.id_tokens):
        raise no_role()
    return config


def load_roles(
    flags: Flags, environ: Mapping[str, str], *, system_file: Path = SYSTEM_FILE
) -> Config:
    """Return the same with nothing but roles to obtain, for a command without a daemon.

    Raises:
        NoRole: No role is named anywhere.
        ConfigError: As `load`.
    """
    return roles_only(load_any(flags, environ, system_file=system_file))


def load_identity(
    flags: Flags,
    environ: Mapping[str, str],
    name: str | None,
    *,
    system_file: Path = SYSTEM_FILE,
) -> Config:
    """Return the same with one identity and nothing else to obtain, for a command without a daemon:
    *name*'s, else the first that is handed on, else the default role's, else the default one.

    Raises:
        ConfigError: As `load`; or there is none of that name.
    """
    config = load_any(flags, environ, identity=name or DEFAULT_IDENTITY, system_file=system_file)
    candidates = (
        name,
        *(token.identity for token in config.namespace_tokens),
        *(role.identity for role in config.roles if role.role.name == config.default_role),
        DEFAULT_IDENTITY,
    )
    chosen = next(candidate for candidate in candidates if candidate is not None)
    return identity_only(config, config.identities[chosen])


def load_any(
    flags: Flags,
    environ: Mapping[str, str],
    *,
    identity: str | None = None,
    system_file: Path,
) -> Config:
    """Return the same, also where a broker would have nothing to do by it. *identity* is used
    beside those that the configuration uses."""
    file = config_file(flags.config, environ, system_file=system_file)
    top = tables.read(TopTable, read_file(file) if file else {}, place="")
    region = region_of(flags, top, environ)
    by_flags = flag_roles(flags.role_arns)
    roles = roles_of(by_flags, top.roles, region=region)
    namespace_tokens = namespace_tokens_of(top.namespace_tokens)
    id_tokens = id_tokens_of(top.id_tokens, roles)
    uses = uses_of(roles, namespace_tokens, id_tokens, identity)
    identities, unused = identities_of(top.identities, uses, region=region)
    runtime_dir = runtime_dir_of(flags, environ)
    rules = rules_of(top.rules, Grantable.of(roles, namespace_tokens, id_tokens))
    imds, container, ops = surfaces_of(flags, top, rules, runtime_dir)
    audit = audit_of(top.audit)
    must_be_distinct(files_of(container, namespace_tokens, id_tokens, audit))
    config = Config(
        default_role=default_role(by_flags, top.default_role, roles),
        roles=roles,
        identities=identities,
        namespace_tokens=namespace_tokens,
        id_tokens=id_tokens,
        region=region,
        availability_zone=availability_zone_of(top, region),
        state_dir=state_dir_of(flags, top, environ),
        runtime_dir=runtime_dir,
        imds=imds,
        container=container,
        ops=ops,
        rules=rules,
        guard=guard_of(top.guard),
        audit=audit,
        log=log_of(flags, top.log),
        start_timeout_s=start_timeout_of(flags),
        upstream=upstream_of(environ),
    )
    return replace(config, warnings=warnings_of(config, unused=unused))


def uses_of(
    roles: Iterable[RoleConfig],
    namespace_tokens: Iterable[NamespaceTokenConfig],
    id_tokens: Iterable[IdTokenConfig],
    identity: str | None,
) -> list[Use]:
    """Return what uses an identity. *identity* is wanted for itself."""
    below = tables.below
    return [
        *(Use(role.identity, f"{below('roles', role.role.name)}.identity") for role in roles),
        *(Use(t.identity, below("namespace_tokens", t.identity)) for t in namespace_tokens),
        *(Use(token.identity, f"{below('id_tokens', token.name)}.identity") for token in id_tokens),
        *([] if identity is None else [Use(identity, "--identity")]),
    ]


def files_of(
    container: ContainerConfig,
    namespace_tokens: Iterable[NamespaceTokenConfig],
    id_tokens: Iterable[IdTokenConfig],
    audit: AuditConfig,
) -> list[tuple[str, Path | None]]:
    """Return the key of each file that we write, and its path."""
    below = tables.below
    return [
        ("container.token_file", container.token_file),
        *((below("container.tokens", name), path) for name, path in container.tokens.items()),
        *((f"{below('namespace_tokens', t.identity)}.file", t.file) for t in namespace_tokens),
        *((f"{below('id_tokens', token.name)}.file", token.file) for token in id_tokens),
        ("audit.to", audit.to if isinstance(audit.to, Path) else None),
    ]


def first_said(*candidates: tuple[str, T | None]) -> tuple[str, T] | None:
    """Return the first of (place, value) that was said."""
    for place, value in candidates:
        if value is not None:
            return place, value
    return None


def region_of(flags: Flags, top: TopTable, environ: Mapping[str, str]) -> str | None:
    said = first_said(("--region", flags.region), ("region", top.region))
    return checks.region(said[1], place=said[0]) if said else region_of_environment(environ)


def region_of_environment(environ: Mapping[str, str]) -> str | None:
    said = first_said(
        *((name, environ.get(name) or None) for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
    )
    return checks.region(said[1], place=said[0]) if said else None


def availability_zone_of(top: TopTable, region: str | None) -> str | None:
    if top.availability_zone is None:
        return f"{region}a" if region else None
    return checks.availability_zone(top.availability_zone, region, place="availability_zone")


def state_dir_of(flags: Flags, top: TopTable, environ: Mapping[str, str]) -> Path | None:
    said = first_said(
        ("--state-dir", flags.state_dir),
        ("state_dir", top.state_dir),
        # systemd gives several, with colons between, to a unit that asks for several.
        ("STATE_DIRECTORY", environ.get("STATE_DIRECTORY", "").split(":")[0] or None),
    )
    return checks.path(said[1], place=said[0]) if said else None


def runtime_dir_of(flags: Flags, environ: Mapping[str, str]) -> Path:
    if flags.runtime_dir is not None:
        return checks.path(flags.runtime_dir, place="--runtime-dir")
    uid = os.getuid()
    path = locations.runtime_dir(environ, uid)
    if path == locations.temporary_dir(environ, uid):
        try:
            locations.require_owned(path, uid, forbidden=0o077)
        except FileNotFoundError:
            pass  # the daemon makes it, and looks again
        except (locations.UntrustedDirectory, OSError) as error:
            raise ConfigError("--runtime-dir", str(error), "give one of your own") from error
    return checks.path(path, place="RUNTIME_DIRECTORY")


def surfaces_of(
    flags: Flags, top: TopTable, rules: Iterable[Rule], runtime_dir: Path
) -> tuple[ImdsConfig, ContainerConfig, OpsConfig]:
    imds = tables.read(ImdsTable, top.imds, place="imds")
    container = tables.read(ContainerTable, top.container, place="container")
    ops = tables.read(OpsTable, top.ops, place="ops")
    listening = {
        "imds": listen(("--imds", flags.imds), ("imds.listen", imds.listen), ()),
        "container": listen(
            ("--container", flags.container),
            ("container.listen", container.listen),
            (CONTAINER_ADDRESS,),
        ),
        "ops": listen(("--ops", flags.ops), ("ops.listen", ops.listen), (OPS_ADDRESS,)),
    }
    must_differ(listening)
    return (
        imds_of(imds, listening["imds"]),
        ContainerConfig(
            listen=listening["container"],
            listen_said=bool(flags.container) or container.listen is not None,
            token_file=token_file_of(flags, container, runtime_dir),
            token_group=token_group_of(container),
            tokens=tokens_of(container.tokens, rules, runtime_dir),
        ),
        OpsConfig(listen=listening["ops"], listen_said=bool(flags.ops) or ops.listen is not None),
    )


def listen(
    flag: tuple[str, Sequence[str]],
    key: tuple[str, Sequence[str] | None],
    default: tuple[Address, ...],
) -> tuple[Address, ...]:
    """Return where one surface listens, by its flag, its key, or by default."""
    if flag[1]:
        return addresses(flag[1], [flag[0]] * len(flag[1]))
    place, texts = key
    if texts is None:
        return default
    return addresses(texts, [f"{place}[{index}]" for index in range(len(texts))])


def addresses(texts: Sequence[str], places_of: Sequence[str]) -> tuple[Address, ...]:
    if "off" in texts:
        if len(set(texts)) > 1:
            raise ConfigError(places_of[0], "is off and on", "give addresses, or off alone")
        return ()
    return tuple(
        checks.address(text, place=place) for text, place in zip(texts, places_of, strict=True)
    )


def must_differ(listening: Mapping[str, Sequence[Address]]) -> None:
    seen: dict[Address, str] = {}
    for surface, found in listening.items():
        for address in found:
            if address.port and address in seen:
                raise ConfigError(
                    f"{surface}.listen",
                    f"has {address}, which {seen[address]}.listen has already",
                    "give each address once",
                )
            seen[address] = surface


def imds_of(said: ImdsTable, listening: tuple[Address, ...]) -> ImdsConfig:
    if said.hop_limit is not None:
        checks.between(said.hop_limit, 1, 255, place="imds.hop_limit")
    if said.instance_id is not None:
        checks.instance_id(said.instance_id, place="imds.instance_id")
    return ImdsConfig(
        listen=listening, v1=said.v1, hop_limit=said.hop_limit, instance_id=said.instance_id
    )


def token_file_of(flags: Flags, said: ContainerTable, runtime_dir: Path) -> Path:
    chosen = first_said(
        ("--container-token-file", flags.container_token_file),
        ("container.token_file", said.token_file),
    )
    if chosen is None:
        return runtime_dir / "container-token"
    return checks.path(chosen[1], place=chosen[0])


def token_group_of(said: ContainerTable) -> str | None:
    if said.token_group is None:
        return None
    return checks.group(said.token_group, place="container.token_group")


def tokens_of(said: Mapping[str, str], rules: Iterable[Rule], runtime_dir: Path) -> dict[str, Path]:
    """Return the file of every token that names a caller: the table's, then those of rules."""
    place = "container.tokens"
    files = {
        checks.token_name(name, place=tables.below(place, name)): checks.path(
            path, place=tables.below(place, name)
        )
        for name, path in said.items()
    }
    for name in (rule.who.token for rule in rules):
        if name is not None:
            files.setdefault(name, runtime_dir / "tokens" / name)
    return files


def guard_of(table: Mapping[str, Any]) -> GuardConfig:
    said = tables.read(GuardTable, table, place="guard")
    checks.between(said.max_connections, 1, 1_000_000, place="guard.max_connections")
    checks.between(
        said.max_connections_per_caller, 1, 1_000_000, place="guard.max_connections_per_caller"
    )
    checks.between(said.header_bytes, 1024, 1 << 20, place="guard.header_bytes")
    checks.between(said.header_timeout_s, 0.1, 600, place="guard.header_timeout_s")
    # SDKs keep connections for a minute: C-4.
    checks.between(said.idle_timeout_s, 60, 86400, place="guard.idle_timeout_s")
    return GuardConfig(
        allowed_hosts=tuple(
            checks.host(host, place=f"guard.allowed_hosts[{index}]")
            for index, host in enumerate(said.allowed_hosts)
        ),
        max_connections=said.max_connections,
        max_connections_per_caller=said.max_connections_per_caller,
        header_bytes=said.header_bytes,
        header_timeout_s=said.header_timeout_s,
        idle_timeout_s=said.idle_timeout_s,
    )


def audit_of(table: Mapping[str, Any]) -> AuditConfig:
    to = tables.read(AuditTable, table, place="audit").to
    if to is None or to in get_args(AuditStream):
        return AuditConfig(to=cast(AuditStream | None, to))
    if not to.startswith(("/", "~")):
        words = ", ".join(get_args(AuditStream))
        raise ConfigError("audit.to", f"is {shown(to)}", f"give a path from /, or one of {words}")
    return AuditConfig(to=checks.path(to, place="audit.to"))


def log_of(flags: Flags, table: Mapping[str, Any]) -> LogConfig:
    said = tables.read(LogTable, table, place="log")
    return LogConfig(
        format=cast(LogFormat, word(flags.log_format, LogFormat, "--log-format") or said.format),
        level=cast(LogLevel, word(flags.log_level, LogLevel, "--log-level") or said.level),
    )


def word(text: str | None, kind: object, place: str) -> str | None:
    known = get_args(kind)
    if text is not None and text not in known:
        raise ConfigError(place, f"is {shown(text)}", f"give one of {', '.join(known)}")
    return text


def start_timeout_of(flags: Flags) -> float:
    if flags.start_timeout_s is None:
        return START_TIMEOUT_S
    checks.between(flags.start_timeout_s, 0, 86400, place="--start-timeout")
    return flags.start_timeout_s


def upstream_of(environ: Mapping[str, str]) -> Upstream:
    """Return where the clouds are. ``AWS_ENDPOINT_URL`` and the shared AWS config never redirect a
    web-identity call. Source: interface, environment; namespace-api 2.1."""
    iam = first_said(
        ("NSC_IAM_ENDPOINT", environ.get("NSC_IAM_ENDPOINT") or None),
        ("NSC_GLOBAL_ENDPOINT", environ.get("NSC_GLOBAL_ENDPOINT") or None),
    )
    return Upstream(
        iam_endpoint=checks.endpoint(iam[1], place=iam[0]) if iam else NAMESPACE_IAM,
        sts_endpoint=aws_endpoint_of(environ, "AWS_ENDPOINT_URL_STS"),
        cognito_endpoint=aws_endpoint_of(environ, "AWS_ENDPOINT_URL_COGNITO_IDENTITY"),
        ca_bundle=ca_bundle_of(environ),
    )


def aws_endpoint_of(environ: Mapping[str, str], variable: str) -> str | None:
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    text = environ.get(variable)
    return checks.endpoint(text, place=variable) if text else None


def ca_bundle_of(environ: Mapping[str, str]) -> str | None:
    text = environ.get("AWS_CA_BUNDLE")
    if not text:
        return None
    path = checks.path(text, place="AWS_CA_BUNDLE")
    if not path.exists():
        raise ConfigError("AWS_CA_BUNDLE", f"names {path}, which is not there", "correct it")
    return str(path)
