"""Roles, by flags and file: what is assumed, and with what limits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from broker.config import checks, tables
from broker.config.errors import ConfigError, shown
from broker.config.file import read_bounded, text_of
from broker.config.model import RoleConfig
from broker.config.tables import RoleTable
from broker.credentials import Role

STS_REGION_OF_NO_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class FlagRole:
    """One ``--role-arn``: the name it is given or has, and the ARN."""

    name: str
    arn: str


def flag_role(text: str) -> FlagRole:
    """Split ``NAME=ARN`` at the first ``=`` where what stands before has no ``:``; the name of a
    bare ARN is its role's. Source: interface, ``--role-arn``."""
    place = "--role-arn"
    before, equals, after = text.partition("=")
    named = bool(equals) and ":" not in before
    arn = checks.role_arn(after if named else text, place=place)
    name = before if named else arn.rpartition("/")[2]
    return FlagRole(checks.name(name, place=place), arn)


def flag_roles(texts: Iterable[str]) -> dict[str, FlagRole]:
    """Return the roles of the flags by name, in their order."""
    roles: dict[str, FlagRole] = {}
    for role in map(flag_role, texts):
        if role.name in roles:
            raise ConfigError(
                "--role-arn", f"gives two roles the name {role.name}", "name one: NAME=ARN"
            )
        roles[role.name] = role
    return roles


def roles_of(
    flags: Mapping[str, FlagRole], file: Mapping[str, Any], *, region: str | None
) -> tuple[RoleConfig, ...]:
    """Return every role: the flags' first, then the file's. A flag wins over the ``arn`` of the
    file's role of the same name, whose other keys stay.

    Raises:
        ConfigError: A key of a role is no good.
    """
    names = [*flags, *(name for name in file if name not in flags)]
    return tuple(role_of(name, flags.get(name), file.get(name), region=region) for name in names)


def role_of(
    name: str, flag: FlagRole | None, table: object | None, *, region: str | None
) -> RoleConfig:
    place = tables.below("roles", name)
    checks.name(name, place=place)
    said = tables.read(RoleTable, {} if table is None else table, place=place)
    arn = flag.arn if flag else file_arn(said, place=f"{place}.arn")
    role_region = region or STS_REGION_OF_NO_REGION
    if said.region is not None:
        role_region = checks.region(said.region, place=f"{place}.region")
    must_share_partition(arn, role_region, place="--role-arn" if flag else f"{place}.arn")
    wanted_session = said.session_name
    return RoleConfig(
        role=Role(
            name=name,
            arn=arn,
            region=role_region,
            duration_s=checks.duration_s(said.duration_s, place=f"{place}.duration_s"),
            session_name=None
            if wanted_session is None
            else checks.session_name(wanted_session, place=f"{place}.session_name"),
            policy=session_policy(said, place=place),
            policy_arns=checks.policy_arns(said.policy_arns, place=f"{place}.policy_arns"),
        ),
        identity=said.identity,
        audience=checks.audience(said.audience, place=f"{place}.audience"),
    )


def file_arn(said: RoleTable, *, place: str) -> str:
    if said.arn is None:
        raise ConfigError(place, "is missing", "give the role's ARN")
    return checks.role_arn(said.arn, place=place)


def must_share_partition(arn: str, region: str, *, place: str) -> None:
    """A role of another partition is unknown to this region's STS."""
    partition = arn.split(":")[1]
    if partition != checks.partition_of(region):
        raise ConfigError(
            place, f"is in {partition}, and region {region} is not", f"set a region of {partition}"
        )


def session_policy(said: RoleTable, *, place: str) -> str | None:
    if said.policy is not None and said.policy_file is not None:
        raise ConfigError(f"{place}.policy_file", "stands beside policy", "give one of the two")
    if said.policy is not None:
        return checks.policy(said.policy, place=f"{place}.policy")
    if said.policy_file is None:
        return None
    place = f"{place}.policy_file"
    file = checks.path(said.policy_file, place=place)
    return checks.policy(policy_text(file, place=place), place=place)


def policy_text(file: Path, *, place: str) -> str:
    try:
        return text_of(read_bounded(file), file)
    except ConfigError as error:
        raise ConfigError(place, f"{error.place} {error.what}", "give a JSON file") from error


def default_role(
    flags: Mapping[str, FlagRole], wanted: str | None, roles: Iterable[RoleConfig]
) -> str | None:
    """Return the role of whoever names none: the first flag's, else the file's choice or first;
    None where there are no roles."""
    names = [role.role.name for role in roles]
    if flags or wanted is None:
        return names[0] if names else None
    if wanted not in names:
        raise ConfigError(
            "default_role",
            f"is {shown(wanted)}, which is no role",
            f"the roles are {', '.join(names) or 'none'}",
        )
    return wanted
