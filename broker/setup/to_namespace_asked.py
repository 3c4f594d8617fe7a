"""What an operator says to `setup to-namespace`, checked before anything is asked of any cloud.
Pure.

Each check raises `ConfigError` at its flag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from broker import aws
from broker.config import validate
from broker.config.errors import ConfigError, shown
from broker.setup import checks as setup_checks
from broker.setup.to_namespace import POOL_NAME, ByCognito, BySts
from broker.setup.wanted import Document
from broker.sources.aws.web_identity import ALGORITHM, AUDIENCE, DURATION_S

_POOL_NAME = re.compile(r"[\w\s+=,.@-]{1,128}")
_SUBJECT = re.compile(rf"arn:{aws.PARTITION}:iam::{aws.ACCOUNT_ID}:(?:role|user)/[!-~]+", re.ASCII)
_DURATION = re.compile(r"(?P<number>[0-9]{1,9})(?P<unit>[smhd]?)")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_GRANT_MEMBERS = ("resource_type", "resource_id", "actions")

_OF_STS_ALONE = (
    *("issuer", "subject_match", "audience", "algorithm", "duration"),
    *("grants", "token_duration", "unconditional"),
)
_OF_COGNITO_ALONE = ("identity_pool", "pool_name")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToNamespaceFlags:
    """The flags as they were typed; None (or nothing) where they were not."""

    role_name: str | None = None
    issuer: str | None = None
    subject_match: str | None = None
    audience: str | None = None
    algorithm: str | None = None
    duration: str | None = None
    grants: tuple[str, ...] = ()
    token_duration: str | None = None
    unconditional: bool = False
    identity_pool: str | None = None
    pool_name: str | None = None
    region: str | None = None


def asked_by_sts(flags: ToNamespaceFlags) -> BySts:
    """Return what is asked for by ``--via sts``."""
    _require_none(flags, _OF_COGNITO_ALONE, via="sts")
    token_duration_s = None
    if flags.token_duration is not None:
        token_duration_s = _token_duration_s(flags.token_duration)
    duration_s = DURATION_S if flags.duration is None else _duration_s(flags.duration)
    return BySts(
        role_name=_role_name(flags.role_name),
        issuer=_issuer(flags.issuer),
        subject_match=None if flags.subject_match is None else subject_match(flags.subject_match),
        audience=validate.audience(flags.audience or AUDIENCE, place="--audience"),
        algorithm=_algorithm(flags.algorithm or ALGORITHM),
        duration_s=duration_s,
        unconditional=flags.unconditional,
        grants=tuple(grant(text) for text in flags.grants),
        token_duration_s=token_duration_s,
    )


def asked_by_cognito(flags: ToNamespaceFlags, *, region: str | None) -> ByCognito:
    """Return what is asked for by ``--via cognito``; *region* is the one for everything, said or
    found. A pool's own region, where it is in its id, stands over that."""
    _require_none(flags, _OF_STS_ALONE, via="cognito")
    if flags.identity_pool is not None and flags.pool_name is not None:
        raise ConfigError("--pool-name", "is given with --identity-pool", "give one of them")
    pool_name = POOL_NAME if flags.pool_name is None else flags.pool_name
    if not _POOL_NAME.fullmatch(pool_name):
        raise ConfigError(
            "--pool-name", f"is {shown(pool_name)}", "give 1 to 128 of letters, digits and _+=,.@-"
        )
    pool_id = None
    if flags.identity_pool is not None:
        pool_id = _pool_id(flags.identity_pool, said=flags.region, region=region)
    return ByCognito(role_name=_role_name(flags.role_name), pool_id=pool_id, pool_name=pool_name)


def region_in(identity_pool: str | None) -> str | None:
    """Return the region that a pool's id names, where it does."""
    if identity_pool is None:
        return None
    return validate.split_pool(identity_pool, place="--identity-pool")[0]


def subject_match(text: str) -> str:
    """Return a pattern for the ``sub`` of STS's tokens: a principal's ARN, in which ``*`` is any
    text. Source: aws-api.md 5."""
    if _SUBJECT.fullmatch(text):
        return text
    place = "--subject-match"
    kind = text.split(":", 5)[5].split("/")[0] if text.count(":") >= 5 else ""
    what = validate.MISTAKEN_ARNS.get(kind) if kind != "user" else None
    raise ConfigError(
        place,
        what or f"is {shown(text)}",
        "give arn:aws:iam::ACCOUNT:role/NAME, or role/* for any role of that account",
    )


def grant(text: str) -> Document:
    """Return one permission. Source: namespace-api.md 6.7."""
    place = "--grant"
    example = '\'{"resource_type": "instance", "resource_id": "*", "actions": ["create"]}\''
    next_step = f"give one JSON object each, like {example}"
    try:
        said: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(place, f"is {shown(text)}, which is no JSON", next_step) from None
    if not isinstance(said, dict):
        raise ConfigError(place, f"is {shown(text)}, which is no JSON object", next_step)
    for name in said:
        if name not in _GRANT_MEMBERS:
            raise ConfigError(place, f"has {shown(name)}, which a grant has not", next_step)
    if not _is_text(said.get("resource_type")) or not _is_text(said.get("resource_id", "*")):
        raise ConfigError(place, "has no resource_type", next_step)
    actions = said.get("actions")
    if not isinstance(actions, list) or not actions or not all(map(_is_text, actions)):
        raise ConfigError(place, "has no list of actions", next_step)
    return said


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _role_name(text: str | None) -> str:
    place = "--role-name"
    if text is None:
        raise ConfigError(place, "is not given", "name the role that the workload runs as")
    return setup_checks.role_name(text, place=place)


def _issuer(text: str | None) -> str | None:
    return None if text is None else setup_checks.issuer(text, place="--issuer")


def _algorithm(text: str) -> str:
    if text not in ("ES384", "RS256"):
        raise ConfigError("--algorithm", f"is {shown(text)}", "give ES384 or RS256")
    return text


def _duration_s(text: str) -> int:
    place = "--duration"
    seconds = _seconds(text)
    if seconds is None:
        raise ConfigError(place, f"is {shown(text)}", "give seconds, like 300 or 300s")
    return validate.web_identity_s(seconds, place=place)


def _token_duration_s(text: str) -> int:
    seconds = _seconds(text) if not text.isdecimal() else None
    if not seconds:
        raise ConfigError("--token-duration", f"is {shown(text)}", "give it like 1800s, or 30m")
    return seconds


def _seconds(text: str) -> int | None:
    found = _DURATION.fullmatch(text)
    return None if found is None else int(found["number"]) * _UNITS_S[found["unit"]]


def _pool_id(text: str, *, said: str | None, region: str | None) -> str:
    """Return ``region:guid``."""
    in_pool, guid = validate.split_pool(text, place="--identity-pool")
    if in_pool is not None and said is not None and said != in_pool:
        raise ConfigError("--region", f"is {said}", f"the identity pool is in {in_pool}")
    found = in_pool or said or region
    if found is None:
        raise ConfigError(
            "--identity-pool",
            f"is {shown(guid)}, and no region is set",
            f"give REGION:{guid}, or --region",
        )
    return f"{found}:{guid}"


def _require_none(flags: ToNamespaceFlags, names: tuple[str, ...], *, via: str) -> None:
    said: Mapping[str, object] = {name: getattr(flags, name) for name in names}
    for name, value in said.items():
        if value:
            flag = "--" + name.rstrip("s").replace("_", "-")
            other = "cognito" if via == "sts" else "sts"
            raise ConfigError(
                flag, f"has no meaning with --via {via}", f"leave it out, or give --via {other}"
            )
