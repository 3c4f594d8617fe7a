"""Tokens that are handed on to others, in files and over HTTP: which, and where. Writes nothing."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from broker.config import checks, tables
from broker.config.errors import ConfigError
from broker.config.model import IdTokenConfig, NamespaceTokenConfig, RoleConfig
from broker.config.tables import IdTokenTable, NamespaceTokenTable

CACHE_OF_NSC = "token.cache"


def namespace_tokens_of(file: Mapping[str, Any]) -> tuple[NamespaceTokenConfig, ...]:
    return tuple(namespace_token_of(name, table) for name, table in file.items())


def namespace_token_of(identity: str, table: object) -> NamespaceTokenConfig:
    place = tables.below("namespace_tokens", identity)
    said = tables.read(NamespaceTokenTable, table, place=place)
    if said.file is None and not said.http:
        raise ConfigError(place, "is handed on nowhere", "give file, or http = true")
    if said.group is not None and said.file is None:
        raise ConfigError(f"{place}.group", "has no file to open to it", "give file too")
    return NamespaceTokenConfig(
        identity=identity,
        file=token_file(said.file, place=f"{place}.file"),
        group=None if said.group is None else checks.group(said.group, place=f"{place}.group"),
        http=said.http,
    )


def id_tokens_of(file: Mapping[str, Any], roles: Iterable[RoleConfig]) -> tuple[IdTokenConfig, ...]:
    arns = {role.role.name: role.role.arn for role in roles}
    return tuple(id_token_of(name, table, arns) for name, table in file.items())


def id_token_of(name: str, table: object, arns: Mapping[str, str]) -> IdTokenConfig:
    place = tables.below("id_tokens", name)
    checks.name(name, place=place)
    said = tables.read(IdTokenTable, table, place=place)
    if said.audience is None:
        raise ConfigError(f"{place}.audience", "is missing", "say whom the token is for")
    role = said.role
    if role is not None:
        role = arns.get(role) or checks.role_arn(role, place=f"{place}.role")
    return IdTokenConfig(
        name=name,
        audience=checks.audience(said.audience, place=f"{place}.audience"),
        file=token_file(said.file, place=f"{place}.file"),
        identity=said.identity,
        role=role,
    )


def token_file(text: str | None, *, place: str) -> Path | None:
    if text is None:
        return None
    path = checks.path(text, place=place)
    if path.name == CACHE_OF_NSC:
        # nsc's own cache: it goes whenever a token file beside it is written.
        raise ConfigError(place, f"is named {CACHE_OF_NSC}, as nsc's cache", "name it token.json")
    return path


def must_be_distinct(files: Iterable[tuple[str, Path | None]]) -> None:
    """Raise `ConfigError` where two of the places (each with its key) are one file."""
    seen: dict[Path, str] = {}
    for place, path in files:
        if path is None:
            continue
        if path in seen:
            raise ConfigError(place, f"is {path}, as {seen[path]} is", "give each its own file")
        seen[path] = place
