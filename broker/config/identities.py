"""Who we are at Namespace, by a table of the file or by the flags of a command. Reaches nobody."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from broker.config import checks, tables
from broker.config.errors import ConfigError, shown
from broker.config.model import IdentityConfig, IdentitySource
from broker.config.tables import IdentityTable

DEFAULT_IDENTITY = "default"

BELONGS_TO: Mapping[str, tuple[IdentitySource, ...]] = {
    "path": ("token-file", "token-spec"),
    "workspace": ("sts", "cognito"),
    "audience": ("sts",),
    "algorithm": ("sts",),
    "duration_s": ("sts",),
    "region": ("sts", "cognito"),
    "profile": ("sts", "cognito"),
    "identity_pool": ("cognito",),
    "developer_provider": ("cognito",),
}
"""Which sources each key has a meaning for."""


@dataclass(frozen=True, slots=True)
class Use:
    """Something that uses an identity: the identity's name, and the key that says it."""

    identity: str
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What is said of an identity; ``place`` returns a key's place, for errors. ``region`` is the
    one for everything, where one is said."""

    name: str
    keys: IdentityTable
    place: Callable[[str], str]
    region: str | None

    def missing(self, key: str) -> ConfigError:
        return ConfigError(self.place(key), "is missing", f"{self.keys.source} needs one")


def identities_of(
    file: Mapping[str, Any], uses: Iterable[Use], *, region: str | None
) -> tuple[dict[str, IdentityConfig], tuple[str, ...]]:
    """Return every identity that something uses, the automatic one where it is used unsaid; and
    the names of those in the file that nothing uses.

    Raises:
        ConfigError: A key of an identity is no good, used or not; or one is used that is not there.
    """
    known = {name: identity_of(name, table, region=region) for name, table in file.items()}
    used: dict[str, IdentityConfig] = {}
    for use in uses:
        if use.identity == DEFAULT_IDENTITY:
            known.setdefault(DEFAULT_IDENTITY, IdentityConfig(name=DEFAULT_IDENTITY))
        if use.identity not in known:
            raise ConfigError(
                use.place,
                f"is {shown(use.identity)}, which is no identity",
                f"the identities are {', '.join(sorted({*known, DEFAULT_IDENTITY}))}",
            )
        used[use.identity] = known[use.identity]
    return used, tuple(name for name in known if name not in used)


def identity_of(name: str, table: object, *, region: str | None) -> IdentityConfig:
    place = tables.below("identities", name)
    checks.name(name, place=place)
    keys = tables.read(IdentityTable, table, place=place)
    return identity_said(
        Said(name=name, keys=keys, place=lambda key: tables.below(place, key), region=region)
    )


def identity_said(said: Said) -> IdentityConfig:
    """Return the identity that the keys make.

    Raises:
        ConfigError: A key is missing, has no meaning with this source, or is no good.
    """
    source = said.keys.source
    for key, sources in BELONGS_TO.items():
        if getattr(said.keys, key) is not None and source not in sources:
            raise ConfigError(
                said.place(key),
                f"has no meaning with {source}",
                f"take it away, or use {' or '.join(sources)}",
            )
    match source:
        case "auto":
            return IdentityConfig(name=said.name)
        case "sts":
            return by_sts(said)
        case "cognito":
            return by_cognito(said)
    return by_path(said)


def by_path(said: Said) -> IdentityConfig:
    if said.keys.path is None:
        raise said.missing("path")
    path = checks.path(said.keys.path, place=said.place("path"))
    if said.keys.source == "token-file":
        return IdentityConfig(name=said.name, source="token-file", token_file=path)
    return IdentityConfig(name=said.name, source="token-spec", token_spec=path)


def by_sts(said: Said) -> IdentityConfig:
    keys, unsaid = said.keys, IdentityConfig(name=said.name)
    duration_s = unsaid.duration_s if keys.duration_s is None else keys.duration_s
    return IdentityConfig(
        name=said.name,
        source="sts",
        workspace=workspace_of(said),
        audience=unsaid.audience
        if keys.audience is None
        else checks.audience(keys.audience, place=said.place("audience")),
        algorithm=keys.algorithm or unsaid.algorithm,
        duration_s=checks.web_identity_s(duration_s, place=said.place("duration_s")),
        region=region_of(said) or said.region,
        profile=profile_of(said),
    )


def by_cognito(said: Said) -> IdentityConfig:
    keys, unsaid = said.keys, IdentityConfig(name=said.name)
    workspace = workspace_of(said)
    if workspace is None:
        raise said.missing("workspace")
    if keys.identity_pool is None:
        raise said.missing("identity_pool")
    region, guid = pool_of(said, keys.identity_pool)
    return IdentityConfig(
        name=said.name,
        source="cognito",
        workspace=workspace,
        region=region,
        profile=profile_of(said),
        identity_pool=f"{region}:{guid}",
        developer_provider=unsaid.developer_provider
        if keys.developer_provider is None
        else checks.developer_provider(
            keys.developer_provider, place=said.place("developer_provider")
        ),
    )


def pool_of(said: Said, pool: str) -> tuple[str, str]:
    """Return the pool's region and guid. Its own region stands over the one for everything."""
    place, own = said.place("identity_pool"), region_of(said)
    in_pool, guid = checks.identity_pool(pool, place=place)
    if in_pool is not None and own is not None and own != in_pool:
        raise ConfigError(said.place("region"), f"is {own}", f"the identity pool is in {in_pool}")
    region = in_pool or own or said.region
    if region is None:
        raise ConfigError(
            place, f"is {guid}, and no region is set", f"give REGION:{guid}, or set AWS_REGION"
        )
    return region, guid


def workspace_of(said: Said) -> str | None:
    if said.keys.workspace is None:
        return None
    return checks.visible(
        said.keys.workspace, place=said.place("workspace"), next_step="give the workspace's id"
    )


def profile_of(said: Said) -> str | None:
    if said.keys.profile is None:
        return None
    place = said.place("profile")
    return checks.printable(said.keys.profile, place=place, next_step="give the name of a profile")


def region_of(said: Said) -> str | None:
    """Return the identity's own region, where it has one."""
    if said.keys.region is None:
        return None
    return checks.region(said.keys.region, place=said.place("region"))
