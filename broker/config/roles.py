"""Roles, by flags and file: which are assumed, and with which parameters."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from broker import aws
from broker.config import validate
from broker.config.errors import ConfigError, shown
from broker.config.file import below, read
from broker.config.model import RoleConfig, RoleTable
from broker.credentials import Role

STS_REGION_OF_NO_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class FlagRole:
    """One ``--role-arn``: the name it is given or has, and the ARN."""

    name: str
    arn: str


def flag_role(text: str) -> FlagRole:
    """Split ``NAME=ARN`` at the first ``=`` if no ``:`` is before it; a bare ARN has a name.

    Source: interface, ``--role-arn``.
    """
    place = "--role-arn"
    before, equals, after = text.partition("=")
    named = bool(equals) and ":" not in before
    arn = validate.role_arn(after if named else text, place=place)
    name = before if named else arn.rpartition("/")[2]
    return FlagRole(validate.name(name, place=place), arn)


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
    flags: Mapping[str, FlagRole], tables: Mapping[str, Any], *, region: str | None
) -> tuple[RoleConfig, ...]:
    """Return every role: the flags' first, then the file's.

    A flag wins over the ``arn`` of the file's role of the same name, whose other keys stay.

    Raises:
        ConfigError: A key of a role is wrong.
    """
    names = [*flags, *(name for name in tables if name not in flags)]
    return tuple(role_of(name, flags.get(name), tables.get(name), region=region) for name in names)


def role_of(
    name: str, flag: FlagRole | None, table: object | None, *, region: str | None
) -> RoleConfig:
    place = below("roles", name)
    validate.name(name, place=place)
    keys = read(RoleTable, {} if table is None else table, place=place)
    arn = flag.arn if flag else keys.arn
    if arn is None:
        raise ConfigError(f"{place}.arn", "is missing", "give the role's ARN")
    if keys.policy is not None and keys.policy_file is not None:
        raise ConfigError(f"{place}.policy_file", "stands beside policy", "give one of the two")
    role_region = keys.region or region or STS_REGION_OF_NO_REGION
    _require_same_partition(arn, role_region, place="--role-arn" if flag else f"{place}.arn")
    role = Role(
        name=name,
        arn=arn,
        region=role_region,
        duration_s=None if keys.duration_s == "max" else keys.duration_s,
        session_name=keys.session_name,
        policy=keys.policy
        if keys.policy_file is None
        else validate.policy_file(keys.policy_file, place=f"{place}.policy_file"),
        policy_arns=keys.policy_arns,
    )
    return RoleConfig(role=role, identity=keys.identity, audience=keys.audience)


def _require_same_partition(arn: str, region: str, *, place: str) -> None:
    """Require the role's partition to be the region's, whose STS knows no other."""
    partition = aws.partition_of(arn)
    if partition != aws.partition_of_region(region):
        raise ConfigError(
            place, f"is in {partition}, and region {region} is not", f"set a region of {partition}"
        )


def default_role(
    flags: Mapping[str, FlagRole], desired: str | None, roles: Iterable[RoleConfig]
) -> str | None:
    """Return the role of callers that name none; None where there are no roles.

    That is the first flag's, else the file's choice, else the file's first.
    """
    names = [role.role.name for role in roles]
    if flags or desired is None:
        return names[0] if names else None
    if desired not in names:
        raise ConfigError(
            "default_role",
            f"is {shown(desired)}, which is no role",
            f"the roles are {', '.join(names) or 'none'}",
        )
    return desired
