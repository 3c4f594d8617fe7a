"""Identities at Namespace, by a table of the file or by the flags of a command."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from broker.config import validate
from broker.config.errors import ConfigError, shown
from broker.config.file import below, read, value_of
from broker.config.model import (
    IDENTITY_SOURCES,
    AutoIdentityConfig,
    AwsIdentityConfig,
    CognitoIdentityConfig,
    IdentityConfig,
    IdentitySource,
)

DEFAULT_IDENTITY = "default"


@dataclass(frozen=True, slots=True)
class Use:
    """Something that uses an identity: the identity's name, and the key that names it."""

    identity: str
    place: str


def identities_of(
    tables: Mapping[str, Any], uses: Iterable[Use], *, region: str | None
) -> tuple[dict[str, IdentityConfig], tuple[str, ...]]:
    """Return the identities in use, and the names of those in the file that nothing uses.

    The automatic one needs no table. *region* is the one for everything, where there is one.

    Raises:
        ConfigError: A key of an identity is wrong, used or not; or a used one does not exist.
    """
    known: dict[str, IdentityConfig] = {}
    for name, table in tables.items():
        place = below("identities", name)
        validate.name(name, place=place)
        known[name] = identity_of(name, table, place=place, region=region)
    used: dict[str, IdentityConfig] = {}
    for use in uses:
        if use.identity == DEFAULT_IDENTITY:
            known.setdefault(DEFAULT_IDENTITY, AutoIdentityConfig(name=DEFAULT_IDENTITY))
        if use.identity not in known:
            raise ConfigError(
                use.place,
                f"is {shown(use.identity)}, which is no identity",
                f"the identities are {', '.join(sorted({*known, DEFAULT_IDENTITY}))}",
            )
        used[use.identity] = known[use.identity]
    return used, tuple(name for name in known if name not in used)


def identity_of(
    name: str,
    table: object,
    *,
    place: str,
    region: str | None,
    key_place: Callable[[str], str] | None = None,
) -> Any:
    """Return the identity in a table of the file, or in flags; *key_place* as for `read`.

    Raises:
        ConfigError: A key is missing, has no meaning with this source, or is wrong.
    """
    at = key_place or (lambda key: below(place, key))
    keys = dict(table) if isinstance(table, Mapping) else table
    source = "auto"
    if isinstance(keys, dict):
        source = value_of(keys.pop("source", "auto"), IdentitySource, at("source"))
        for key in keys:
            _require_meaning(key, source, place=at(key))
    identity = read(IDENTITY_SOURCES[source], keys, place=place, key_place=at, name=name)
    if isinstance(identity, CognitoIdentityConfig):
        return _with_region_of_pool(identity, region, at)
    if isinstance(identity, AwsIdentityConfig):
        return msgspec.structs.replace(identity, region=identity.region or region)
    return identity


def _require_meaning(key: str, source: str, *, place: str) -> None:
    sources = [name for name, kind in IDENTITY_SOURCES.items() if key in kind.__struct_fields__]
    if sources and source not in sources:
        raise ConfigError(
            place, f"has no meaning with {source}", f"take it away, or use {' or '.join(sources)}"
        )


def _with_region_of_pool(
    identity: CognitoIdentityConfig, region: str | None, at: Callable[[str], str]
) -> CognitoIdentityConfig:
    """Return the identity with its pool's region, which wins over the one for everything."""
    own = identity.region
    in_pool, guid = validate.split_pool(identity.identity_pool, place=at("identity_pool"))
    if in_pool is not None and own is not None and own != in_pool:
        raise ConfigError(at("region"), f"is {own}", f"the identity pool is in {in_pool}")
    chosen = in_pool or own or region
    if chosen is None:
        raise ConfigError(
            at("identity_pool"),
            f"is {guid}, and no region is set",
            f"give REGION:{guid}, or set AWS_REGION",
        )
    return msgspec.structs.replace(identity, region=chosen, identity_pool=f"{chosen}:{guid}")
