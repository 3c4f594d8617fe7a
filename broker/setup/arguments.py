"""Check the arguments of `setup`: limits that AWS would report too late, or never.

Every check raises `ConfigError` at *place*, the flag.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from broker import aws
from broker.config import validate
from broker.config.errors import ConfigError, shown
from broker.setup.documents import Document
from broker.setup.resources.identity_pool import DEFAULT_POOL_NAME
from broker.setup.to_namespace import CognitoRequest, StsRequest
from broker.sources.aws.web_identity import ALGORITHM, AUDIENCE, DURATION_S

ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
POLICY_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
SUBJECT_CHARACTERS = 255
INLINE_POLICY_CHARACTERS = 10_240
"""All inline policies of a role together, blanks not counted. Source: IAM quotas."""


def role_name(text: str, *, place: str) -> str:
    """Return the name of a role.

    An ARN is refused: the guide prints a provider's where a role's is meant. Source: aws-api 6.3;
    guide-flows.md, third table.
    """
    if ROLE_NAME.fullmatch(text):
        return text
    parts = text.split(":", 5)
    if text.isascii() and text.isprintable() and len(parts) == 6 and parts[0] == "arn":
        kind, _, name = parts[5].partition("/")
        if kind == "role":
            name = name.rpartition("/")[2]
            what = f"{shown(text)[1:-1]} is a role's ARN, not its name"
            raise ConfigError(place, what, f"give {name or 'its name'}")
        what = validate.MISTAKEN_ARNS.get(kind, "is an ARN, not a role's name")
        raise ConfigError(place, f"{shown(text)[1:-1]} {what}", "give the name of the role")
    raise ConfigError(
        place,
        f"is {shown(text)}, which is not a role's name",
        "give 1 to 64 of letters, digits and _+=,.@-, without path",
    )


def workspace(text: str, *, place: str) -> str:
    """Return a workspace's id, which may hold no wildcard: patterns are made of it."""
    if not WORKSPACE.fullmatch(text):
        raise ConfigError(
            place,
            f"is {shown(text)}, which is not a workspace's id",
            "give it as `namespace-broker token` or the dashboard has it",
        )
    return text


def subject(text: str, *, workspace: str, place: str) -> str:
    """Return the pattern for an identity's ``sub``.

    It must begin with the workspace, or identities of others would be admitted. Source: interface,
    ``--subject``.
    """
    beginning = f"{workspace}/"
    if text == beginning:
        raise ConfigError(
            place,
            f"is {shown(text)}, which matches no identity: a name has to follow the slash",
            f"give {beginning}* or something narrower",
        )
    if not text.startswith(beginning):
        raise ConfigError(
            place,
            f"is {shown(text)}, which does not begin with the workspace",
            f"give {beginning}* or something narrower",
        )
    return _subject_text(text, place=place)


def foreign_subject(text: str, *, place: str) -> str:
    """Return the pattern for the ``sub`` of another issuer's tokens.

    It must begin with something of one's own: whoever uses that issuer has tokens of it, as
    everybody on GitHub has of GitHub's. A GitHub owner is followed by a slash.
    """
    if re.match(r"[*?]|repo:[^/]*[*?]", text) or text in ("repo:", ""):
        raise ConfigError(
            place,
            f"is {shown(text)}, which admits the issuer's other users too",
            "give a pattern that begins with your own name, like repo:OWNER/REPOSITORY:*",
        )
    return _subject_text(text, place=place)


def _subject_text(text: str, *, place: str) -> str:
    if len(text) > SUBJECT_CHARACTERS or not re.fullmatch(r"[!-~]+", text) or "${" in text:
        raise ConfigError(
            place, f"is {shown(text)}", f"give up to {SUBJECT_CHARACTERS} visible characters"
        )
    return text


def issuer(text: str, *, place: str) -> str:
    """Return the URL of an issuer, ``https://HOST``: exactly the ``iss`` of its tokens.

    Source: aws-api 6.2.
    """
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ConfigError(place, f"is {shown(text)}", "give https://HOST") from None
    if url.scheme != "https" or not url.hostname or url.username is not None:
        raise ConfigError(
            place, f"is {shown(text)}, which is not an issuer's URL", "give https://HOST"
        )
    plain = f"https://{url.hostname}"
    if port is not None or ":" in url.netloc:
        raise ConfigError(place, f"is {shown(text)}: AWS takes no port", f"give {plain}")
    if url.path or url.query or url.fragment or text != plain:
        raise ConfigError(
            place,
            f"is {shown(text)}: it must equal the iss of the tokens, which has nothing after"
            " the host, not even a slash",
            f"give {plain}",
        )
    return text


def account(text: str, *, place: str) -> str:
    if not re.fullmatch(aws.ACCOUNT_ID, text, re.ASCII):
        raise ConfigError(
            place, f"is {shown(text)}, which is not an account's id", "give its 12 digits"
        )
    return text


def policy_arns(texts: tuple[str, ...], *, place: str) -> tuple[str, ...]:
    """Return the ARNs of managed policies."""
    for text in texts:
        if not validate.POLICY_ARN.fullmatch(text):
            raise ConfigError(
                place,
                f"is {shown(text)}, which is not a managed policy's ARN",
                "give arn:aws:iam::ACCOUNT:policy/NAME, or arn:aws:iam::aws:policy/NAME",
            )
    return tuple(dict.fromkeys(texts))


def same_partition(arns: tuple[str, ...], partition: str, *, place: str) -> None:
    """Raise where a policy is in another partition than the account: no role can have it."""
    for arn in arns:
        if arn.split(":")[1] != partition:
            raise ConfigError(
                place,
                f"is {arn}, and the account is in {partition}",
                f"give arn:{partition}:{arn.split(':', 2)[2]}",
            )


def max_session_duration_s(seconds: float | None, *, place: str) -> int | None:
    if seconds is None:
        return None
    if not aws.MAX_SESSION_MIN_S <= seconds <= aws.MAX_SESSION_MAX_S or seconds != int(seconds):
        raise ConfigError(
            place,
            f"is {seconds:g}",
            f"IAM takes {aws.MAX_SESSION_MIN_S} to {aws.MAX_SESSION_MAX_S} whole seconds",
        )
    return int(seconds)


def policy_document(text: str, *, place: str) -> Document:
    """Return *text* as a permission policy."""
    try:
        document = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        what = error.args[0] if isinstance(error, ValueError) else "nested too deeply"
        raise ConfigError(place, f"is not JSON ({what})", "give one policy document") from error
    if not isinstance(document, dict) or not document.get("Statement"):
        raise ConfigError(place, "is not a policy document", 'give an object with a "Statement"')
    characters = len(re.sub(r"\s", "", json.dumps(document)))
    if characters > INLINE_POLICY_CHARACTERS:
        raise ConfigError(
            place,
            f"has {characters} characters without blanks",
            f"a role takes {INLINE_POLICY_CHARACTERS}; make it a managed policy and give its ARN",
        )
    return document


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not JSON")


def policy_name(text: str, *, place: str) -> str:
    """Return the name of a role's own policy, which is that of its file without the ending."""
    if not POLICY_NAME.fullmatch(text):
        raise ConfigError(
            place,
            f"has the name {shown(text)}, which a policy cannot have",
            "rename the file, with letters, digits and _+=,.@- only",
        )
    return text


# `setup to-namespace`.

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
    """The flags as typed; None (or nothing) where they were not given."""

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


def sts_request(flags: ToNamespaceFlags) -> StsRequest:
    """Return the request of ``--via sts``."""
    _require_none(flags, _OF_COGNITO_ALONE, via="sts")
    token_duration_s = None
    if flags.token_duration is not None:
        token_duration_s = _token_duration_s(flags.token_duration)
    duration_s = DURATION_S if flags.duration is None else _duration_s(flags.duration)
    return StsRequest(
        role_name=_role_name(flags.role_name),
        issuer=_issuer(flags.issuer),
        subject_match=None if flags.subject_match is None else subject_match(flags.subject_match),
        audience=validate.audience(flags.audience or AUDIENCE, place="--audience"),
        algorithm=_algorithm(flags.algorithm or ALGORITHM),
        duration_s=duration_s,
        unconditional=flags.unconditional,
        grants=tuple(parse_grant(text) for text in flags.grants),
        token_duration_s=token_duration_s,
    )


def cognito_request(flags: ToNamespaceFlags, *, region: str | None) -> CognitoRequest:
    """Return the request of ``--via cognito``; the region in a pool's id wins over *region*."""
    _require_none(flags, _OF_STS_ALONE, via="cognito")
    if flags.identity_pool is not None and flags.pool_name is not None:
        raise ConfigError("--pool-name", "is given with --identity-pool", "give one of them")
    pool_name = DEFAULT_POOL_NAME if flags.pool_name is None else flags.pool_name
    if not _POOL_NAME.fullmatch(pool_name):
        raise ConfigError(
            "--pool-name", f"is {shown(pool_name)}", "give 1 to 128 of letters, digits and _+=,.@-"
        )
    pool_id = None
    if flags.identity_pool is not None:
        pool_id = _pool_id(flags.identity_pool, region_flag=flags.region, region=region)
    return CognitoRequest(
        role_name=_role_name(flags.role_name), pool_id=pool_id, pool_name=pool_name
    )


def region_in(identity_pool: str | None) -> str | None:
    """Return the region that a pool's id names, where it does."""
    if identity_pool is None:
        return None
    return validate.split_pool(identity_pool, place="--identity-pool")[0]


def subject_match(text: str) -> str:
    """Return a pattern for the ``sub`` of STS's tokens: a principal's ARN, with wildcards.

    ``*`` is any text. Source: aws-api.md 5.
    """
    if _SUBJECT.fullmatch(text):
        return text
    place = "--subject-match"
    kind = text.split(":", 5)[5].split("/")[0] if text.count(":") >= 5 else ""
    what = validate.MISTAKEN_ARNS.get(kind) if kind != "user" else None
    raise ConfigError(
        place,
        f"{shown(text)[1:-1]} {what}" if what else f"is {shown(text)}",
        "give arn:aws:iam::ACCOUNT:role/NAME, or role/* for any role of that account",
    )


def parse_grant(text: str) -> Document:
    """Return one permission. Source: namespace-api.md 6.7."""
    place = "--grant"
    example = '\'{"resource_type": "instance", "resource_id": "*", "actions": ["create"]}\''
    next_step = f"give one JSON object each, like {example}"
    try:
        grant: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(place, f"is {shown(text)}, which is not JSON", next_step) from None
    if not isinstance(grant, dict):
        raise ConfigError(place, f"is {shown(text)}, which is not a JSON object", next_step)
    for name in grant:
        if name not in _GRANT_MEMBERS:
            raise ConfigError(place, f"has the unknown member {shown(name)}", next_step)
    if not _is_text(grant.get("resource_type")) or not _is_text(grant.get("resource_id", "*")):
        raise ConfigError(place, f"is {shown(text)}, without a resource_type", next_step)
    actions = grant.get("actions")
    if not isinstance(actions, list) or not actions or not all(map(_is_text, actions)):
        raise ConfigError(place, f"is {shown(text)}, without a list of actions", next_step)
    return grant


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _role_name(text: str | None) -> str:
    place = "--role-name"
    if text is None:
        raise ConfigError(place, "is not given", "give the role that the workload runs as")
    return role_name(text, place=place)


def _issuer(text: str | None) -> str | None:
    return None if text is None else issuer(text, place="--issuer")


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


def _pool_id(text: str, *, region_flag: str | None, region: str | None) -> str:
    """Return ``region:guid``."""
    in_pool, guid = validate.split_pool(text, place="--identity-pool")
    if in_pool is not None and region_flag not in (None, in_pool):
        raise ConfigError("--region", f"is {region_flag}", f"the identity pool is in {in_pool}")
    found = in_pool or region_flag or region
    if found is None:
        raise ConfigError(
            "--identity-pool",
            f"is {shown(guid)}, and no region is given",
            f"give REGION:{guid}, or --region",
        )
    return f"{found}:{guid}"


def _require_none(flags: ToNamespaceFlags, names: tuple[str, ...], *, via: str) -> None:
    for name in names:
        if getattr(flags, name):
            flag = "--" + name.rstrip("s").replace("_", "-")
            other = "cognito" if via == "sts" else "sts"
            raise ConfigError(
                flag, f"has no meaning with --via {via}", f"leave it out, or give --via {other}"
            )
