"""Load the configuration: a flag wins over the file, the file over defaults and environment."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from broker.config import validate
from broker.config.errors import ConfigError, NoRole
from broker.config.file import SYSTEM_FILE, below, config_file, read, read_file, value_of
from broker.config.identities import DEFAULT_IDENTITY, Use, identities_of, identity_of
from broker.config.model import (
    AuditConfig,
    Config,
    ContainerConfig,
    ContainerTable,
    File,
    Flags,
    IdentityConfig,
    IdTokenConfig,
    ImdsConfig,
    LogConfig,
    LogFormat,
    Login,
    LoginFlags,
    LogLevel,
    NamespaceTokenConfig,
    OpsConfig,
    RoleConfig,
    StartTimeout,
    Upstream,
)
from broker.config.roles import default_role, flag_roles, roles_of
from broker.config.rules import Grantable, rules_of
from broker.config.validate import Address
from broker.config.warnings import no_workspace, warnings_of
from broker.files import locations

T = TypeVar("T")

NAMESPACE_IAM = "https://private-api.global.namespaceapis.com"
CONTAINER_ADDRESS = Address("127.0.0.1", 8170)
OPS_ADDRESS = Address("127.0.0.1", 8171)
START_TIMEOUT_S = 10.0


def load(flags: Flags, environ: Mapping[str, str], *, system_file: Path = SYSTEM_FILE) -> Config:
    """Return the whole configuration of a daemon.

    Raises:
        NoRole: It names no role, and no token to export.
        ConfigError: Anything else that is wrong: a flag, a key, a variable, the file itself.
    """
    config = _load(flags, environ, system_file=system_file)
    if not (config.roles or config.namespace_tokens or config.id_tokens):
        raise _no_role()
    return config


def load_roles(
    flags: Flags, environ: Mapping[str, str], *, system_file: Path = SYSTEM_FILE
) -> Config:
    """Return the configuration with nothing to obtain but roles, for a command without a daemon.

    It is for whoever runs the command, so it has no rules.

    Raises:
        NoRole: It names no role.
        ConfigError: As `load`.
    """
    config = _load(flags, environ, system_file=system_file)
    if not config.roles:
        raise _no_role()
    used = {role.identity for role in config.roles}
    identities = {name: each for name, each in config.identities.items() if name in used}
    return _subset(config, roles=config.roles, identities=identities)


def load_identity(
    flags: Flags,
    environ: Mapping[str, str],
    name: str | None,
    *,
    system_file: Path = SYSTEM_FILE,
) -> Config:
    """Return the configuration with one identity to obtain, for a command without a daemon.

    That is *name*'s, else the first that is exported, else the default role's, else the default.

    Raises:
        ConfigError: As `load`; or there is none of that name.
    """
    config = _load(flags, environ, identity=name or DEFAULT_IDENTITY, system_file=system_file)
    candidates = (
        name,
        *(token.identity for token in config.namespace_tokens),
        *(role.identity for role in config.roles if role.role.name == config.default_role),
        DEFAULT_IDENTITY,
    )
    chosen = next(candidate for candidate in candidates if candidate is not None)
    return _subset(config, roles=(), identities={chosen: config.identities[chosen]})


def load_login(flags: LoginFlags, environ: Mapping[str, str]) -> Login:
    """Return the AWS identity that `login` exchanges.

    Raises:
        ConfigError: A flag or a variable is wrong, or missing.
    """
    keys = {
        "source": flags.via,
        "workspace": flags.workspace,
        "audience": flags.audience,
        "algorithm": flags.algorithm,
        "region": flags.region,
        "profile": flags.profile,
        "identity_pool": flags.identity_pool,
    }
    identity = identity_of(
        "login",
        {key: value for key, value in keys.items() if value is not None},
        place="",
        region=None if flags.region else region_of_environment(environ),
        key_place=lambda key: "--" + key.replace("_", "-"),
    )
    return Login(
        identity=identity,
        upstream=upstream_of(environ),
        warnings=() if identity.workspace else (no_workspace("--workspace"),),
    )


def _no_role() -> NoRole:
    return NoRole("--role-arn", "is not given, and no file names a role", "give --role-arn ARN")


def _subset(
    config: Config, *, roles: tuple[RoleConfig, ...], identities: Mapping[str, IdentityConfig]
) -> Config:
    """Return the configuration with those roles and identities, and nothing exported."""
    subset = replace(
        config,
        default_role=config.default_role if roles else None,
        roles=roles,
        identities=identities,
        namespace_tokens=(),
        id_tokens=(),
        rules=(),
        audit=AuditConfig(),
        container=replace(config.container, tokens={}),
    )
    return replace(subset, warnings=warnings_of(subset))


def _load(
    flags: Flags, environ: Mapping[str, str], *, identity: str | None = None, system_file: Path
) -> Config:
    """Return the configuration, also where a broker would have nothing to do with it.

    *identity* is kept beside those that the configuration uses.
    """
    path = config_file(flags.config, environ, system_file=system_file)
    file = read(File, read_file(path) if path else {}, place="")
    region = _region_of(flags, file, environ)
    by_flags = flag_roles(flags.role_arns)
    roles = roles_of(by_flags, file.roles, region=region)
    namespace_tokens = _namespace_tokens_of(file.namespace_tokens)
    id_tokens = _id_tokens_of(file.id_tokens, roles)
    uses = _uses_of(roles, namespace_tokens, id_tokens, identity)
    identities, unused = identities_of(file.identities, uses, region=region)
    runtime_dir = runtime_dir_of(flags, environ, uid=os.getuid())
    rules = rules_of(file.rules, Grantable.of(roles, namespace_tokens, id_tokens))
    named = [rule.who.token for rule in rules if rule.who.token is not None]
    imds, container, ops = _surfaces_of(flags, file, runtime_dir, tokens_of_rules=named)
    _require_distinct(_files_of(container, namespace_tokens, id_tokens, file.audit))
    config = Config(
        default_role=default_role(by_flags, file.default_role, roles),
        roles=roles,
        identities=identities,
        namespace_tokens=namespace_tokens,
        id_tokens=id_tokens,
        region=region,
        availability_zone=_availability_zone_of(file, region),
        state_dir=_state_dir_of(flags, file, environ),
        runtime_dir=runtime_dir,
        imds=imds,
        container=container,
        ops=ops,
        rules=rules,
        guard=file.guard,
        audit=file.audit,
        log=_log_of(flags, file.log),
        start_timeout_s=_start_timeout_of(flags),
        upstream=upstream_of(environ),
    )
    return replace(config, warnings=warnings_of(config, unused=unused))


def _uses_of(
    roles: Iterable[RoleConfig],
    namespace_tokens: Iterable[NamespaceTokenConfig],
    id_tokens: Iterable[IdTokenConfig],
    identity: str | None,
) -> list[Use]:
    """Return what uses an identity; *identity* is used by the command itself."""
    return [
        *(Use(role.identity, f"{below('roles', role.role.name)}.identity") for role in roles),
        *(Use(t.identity, below("namespace_tokens", t.identity)) for t in namespace_tokens),
        *(Use(token.identity, f"{below('id_tokens', token.name)}.identity") for token in id_tokens),
        *([] if identity is None else [Use(identity, "--identity")]),
    ]


def _namespace_tokens_of(tables: Mapping[str, Any]) -> tuple[NamespaceTokenConfig, ...]:
    return tuple(_namespace_token_of(name, table) for name, table in tables.items())


def _namespace_token_of(identity: str, table: object) -> NamespaceTokenConfig:
    place = below("namespace_tokens", identity)
    token = read(NamespaceTokenConfig, table, place=place, identity=identity)
    if token.file is None and not token.http:
        raise ConfigError(place, "is exported nowhere", "give file, or http = true")
    if token.group is not None and token.file is None:
        raise ConfigError(f"{place}.group", "has no file to open to it", "give file too")
    return token


def _id_tokens_of(
    tables: Mapping[str, Any], roles: Iterable[RoleConfig]
) -> tuple[IdTokenConfig, ...]:
    arns = {role.role.name: role.role.arn for role in roles}
    return tuple(_id_token_of(name, table, arns) for name, table in tables.items())


def _id_token_of(name: str, table: object, arns: Mapping[str, str]) -> IdTokenConfig:
    place = below("id_tokens", name)
    validate.name(name, place=place)
    token = read(IdTokenConfig, table, place=place, name=name)
    if token.role is None:
        return token
    arn = arns.get(token.role) or validate.role_arn(token.role, place=f"{place}.role")
    return msgspec.structs.replace(token, role=arn)


def _files_of(
    container: ContainerConfig,
    namespace_tokens: Iterable[NamespaceTokenConfig],
    id_tokens: Iterable[IdTokenConfig],
    audit: AuditConfig,
) -> list[tuple[str, Path | None]]:
    """Return the key of each file that we write, and its path."""
    return [
        ("container.token_file", container.token_file),
        *((below("container.tokens", name), path) for name, path in container.tokens.items()),
        *((f"{below('namespace_tokens', t.identity)}.file", t.file) for t in namespace_tokens),
        *((f"{below('id_tokens', token.name)}.file", token.file) for token in id_tokens),
        ("audit.to", audit.to if isinstance(audit.to, Path) else None),
    ]


def _require_distinct(files: Iterable[tuple[str, Path | None]]) -> None:
    seen: dict[Path, str] = {}
    for place, path in files:
        if path is None:
            continue
        if path in seen:
            raise ConfigError(place, f"is {path}, as {seen[path]} is", "give each its own file")
        seen[path] = place


def _first_set(*candidates: tuple[str, T | None]) -> tuple[str, T] | None:
    """Return the first (place, value) with a value."""
    for place, value in candidates:
        if value is not None:
            return place, value
    return None


def _region_of(flags: Flags, file: File, environ: Mapping[str, str]) -> str | None:
    if flags.region is not None:
        return validate.region(flags.region, place="--region")
    return file.region or region_of_environment(environ)


def region_of_environment(environ: Mapping[str, str]) -> str | None:
    found = _first_set(
        *((name, environ.get(name) or None) for name in ("AWS_REGION", "AWS_DEFAULT_REGION"))
    )
    return validate.region(found[1], place=found[0]) if found else None


def _availability_zone_of(file: File, region: str | None) -> str | None:
    if file.availability_zone is None:
        return f"{region}a" if region else None
    return validate.availability_zone(file.availability_zone, region, place="availability_zone")


def _state_dir_of(flags: Flags, file: File, environ: Mapping[str, str]) -> Path | None:
    if flags.state_dir is not None:
        return validate.path(flags.state_dir, place="--state-dir")
    if file.state_dir is not None:
        return file.state_dir
    # systemd gives several, with colons between, to a unit that asks for several.
    first = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return validate.path(first, place="STATE_DIRECTORY") if first else None


def runtime_dir_of(flags: Flags, environ: Mapping[str, str], *, uid: int) -> Path:
    """Return RUNTIME: the flag's, systemd's, the user's or root's own.

    Raises:
        ConfigError: It is the one by uid in the temporary directory, and could be another user's.
    """
    if flags.runtime_dir is not None:
        return validate.path(flags.runtime_dir, place="--runtime-dir")
    path = locations.runtime_dir(environ, uid)
    if path == locations.temporary_dir(environ, uid):
        try:
            locations.require_owned(path, uid, forbidden=0o077)
        except FileNotFoundError:
            pass  # the daemon makes it, and checks again
        except (locations.UntrustedDirectory, OSError) as error:
            raise ConfigError("--runtime-dir", str(error), "give one of your own") from error
    return validate.path(path, place="RUNTIME_DIRECTORY")


def _surfaces_of(
    flags: Flags, file: File, runtime_dir: Path, *, tokens_of_rules: Iterable[str]
) -> tuple[ImdsConfig, ContainerConfig, OpsConfig]:
    container = file.container
    listening = {
        "imds": _listen("--imds", flags.imds, file.imds.listen, ()),
        "container": _listen(
            "--container", flags.container, container.listen, (CONTAINER_ADDRESS,)
        ),
        "ops": _listen("--ops", flags.ops, file.ops.listen, (OPS_ADDRESS,)),
    }
    _require_different_addresses(listening)
    of_rules = {name: runtime_dir / "tokens" / name for name in tokens_of_rules}
    return (
        msgspec.structs.replace(file.imds, listen=listening["imds"]),
        ContainerConfig(
            listen=listening["container"],
            listen_explicit=bool(flags.container) or container.listen is not None,
            token_file=_token_file_of(flags, container, runtime_dir),
            token_group=container.token_group,
            tokens={**of_rules, **container.tokens},
        ),
        OpsConfig(
            listen=listening["ops"],
            listen_explicit=bool(flags.ops) or file.ops.listen is not None,
        ),
    )


def _listen(
    flag: str,
    texts: Sequence[str],
    key: tuple[Address, ...] | None,
    default: tuple[Address, ...],
) -> tuple[Address, ...]:
    if texts:
        return validate.addresses(texts, place=flag)
    return default if key is None else key


def _require_different_addresses(listening: Mapping[str, Sequence[Address]]) -> None:
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


def _token_file_of(flags: Flags, container: ContainerTable, runtime_dir: Path) -> Path:
    if flags.container_token_file is not None:
        return validate.path(flags.container_token_file, place="--container-token-file")
    return container.token_file or runtime_dir / "container-token"


def _log_of(flags: Flags, log: LogConfig) -> LogConfig:
    changes = {}
    if flags.log_format is not None:
        changes["format"] = value_of(flags.log_format, LogFormat, "--log-format")
    if flags.log_level is not None:
        changes["level"] = value_of(flags.log_level, LogLevel, "--log-level")
    return msgspec.structs.replace(log, **changes)


def _start_timeout_of(flags: Flags) -> float:
    if flags.start_timeout_s is None:
        return START_TIMEOUT_S
    return float(value_of(flags.start_timeout_s, StartTimeout, "--start-timeout"))


def upstream_of(environ: Mapping[str, str]) -> Upstream:
    """Return the clouds' endpoints.

    ``AWS_ENDPOINT_URL`` and the shared AWS config never redirect a web-identity call.

    Source: interface, environment; namespace-api 2.1.
    """
    for variable in ("https_proxy", "HTTPS_PROXY"):
        if named := environ.get(variable, "").strip():
            validate.proxy(named, place=variable)
    iam = _first_set(
        *((name, environ.get(name) or None) for name in ("NSC_IAM_ENDPOINT", "NSC_GLOBAL_ENDPOINT"))
    )
    return Upstream(
        iam_endpoint=validate.endpoint(iam[1], place=iam[0]) if iam else NAMESPACE_IAM,
        sts_endpoint=aws_endpoint_of(environ, "AWS_ENDPOINT_URL_STS"),
        cognito_endpoint=aws_endpoint_of(environ, "AWS_ENDPOINT_URL_COGNITO_IDENTITY"),
        ca_bundle=_ca_bundle_of(environ),
        use_fips=environ.get("AWS_USE_FIPS_ENDPOINT", "").lower() == "true",
        use_dualstack=environ.get("AWS_USE_DUALSTACK_ENDPOINT", "").lower() == "true",
    )


def aws_endpoint_of(environ: Mapping[str, str], variable: str) -> str | None:
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    text = environ.get(variable)
    return validate.endpoint(text, place=variable) if text else None


def _ca_bundle_of(environ: Mapping[str, str]) -> str | None:
    text = environ.get("AWS_CA_BUNDLE")
    if not text:
        return None
    path = validate.path(text, place="AWS_CA_BUNDLE")
    if not path.exists():
        raise ConfigError("AWS_CA_BUNDLE", f"is {path}, which does not exist", "correct it")
    return str(path)
