"""What may be said to `setup`: limits and patterns that AWS would complain of too late, or never.
Pure. Each raises `ConfigError` at *place*, the flag."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

from broker import aws
from broker.config import validate
from broker.config.errors import ConfigError, shown
from broker.setup.wanted import Document

ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
POLICY_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
WORKSPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
SUBJECT_CHARACTERS = 255
INLINE_POLICY_CHARACTERS = 10_240
"""All inline policies of a role together, blanks not counted. Source: IAM quotas."""


def role_name(text: str, *, place: str) -> str:
    """Return the name of a role. An ARN is not one, and the guide prints a provider's where a
    role's is meant. Source: aws-api 6.3; guide-flows.md, third table."""
    if ROLE_NAME.fullmatch(text):
        return text
    parts = text.split(":", 5)
    if text.isascii() and text.isprintable() and len(parts) == 6 and parts[0] == "arn":
        kind, _, name = parts[5].partition("/")
        if kind == "role":
            name = name.rpartition("/")[2]
            raise ConfigError(place, "is a role's ARN, not its name", f"give {name or 'its name'}")
        what = validate.MISTAKEN_ARNS.get(kind, "is an ARN, not a role's name")
        raise ConfigError(place, what, "give the name of the role")
    raise ConfigError(
        place,
        f"is {shown(text)}, which is no role's name",
        "give 1 to 64 of letters, digits and _+=,.@-, without path",
    )


def workspace(text: str, *, place: str) -> str:
    """Return a workspace's id. Nothing in it may mean more than itself in a pattern."""
    if not WORKSPACE.fullmatch(text):
        raise ConfigError(
            place,
            f"is {shown(text)}, which is no workspace's id",
            "give it as `namespace-broker token` or the dashboard has it",
        )
    return text


def subject(text: str, *, workspace: str, place: str) -> str:
    """Return the pattern that an identity's ``sub`` must match. It must begin with the workspace,
    or the identities of others would be admitted. Source: interface, ``--subject``."""
    beginning = f"{workspace}/"
    if text == beginning:
        raise ConfigError(
            place,
            f"is {shown(text)}, which is nobody's: what is in the workspace comes after the slash",
            f"give {beginning}* or something narrower",
        )
    if not text.startswith(beginning):
        raise ConfigError(
            place,
            f"is {shown(text)}, which does not begin with the workspace",
            f"give {beginning}* or something narrower",
        )
    if len(text) > SUBJECT_CHARACTERS or not re.fullmatch(r"[!-~]+", text) or "${" in text:
        raise ConfigError(
            place, f"is {shown(text)}", f"give up to {SUBJECT_CHARACTERS} visible characters"
        )
    return text


def issuer(text: str, *, place: str) -> str:
    """Return the URL of an issuer, ``https://HOST``: equal, to the last character, to the ``iss``
    of its tokens. Source: aws-api 6.2."""
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ConfigError(place, f"is {shown(text)}", "give https://HOST") from None
    if url.scheme != "https" or not url.hostname or url.username is not None:
        raise ConfigError(place, f"is {shown(text)}, which is no issuer", "give https://HOST")
    plain = f"https://{url.hostname}"
    if port is not None or ":" in url.netloc:
        raise ConfigError(place, f"is {shown(text)}: AWS takes no port", f"give {plain}")
    if url.path or url.query or url.fragment or text != plain:
        raise ConfigError(
            place,
            f"is {shown(text)}: it must equal the iss of the tokens, which has nothing after the"
            " host, no slash either",
            f"give {plain}",
        )
    return text


def account(text: str, *, place: str) -> str:
    if not re.fullmatch(aws.ACCOUNT_ID, text, re.ASCII):
        raise ConfigError(place, f"is {shown(text)}, which is no account", "give its 12 digits")
    return text


def policy_arns(texts: tuple[str, ...], *, place: str) -> tuple[str, ...]:
    """Return the ARNs of managed policies."""
    for text in texts:
        if not validate.POLICY_ARN.fullmatch(text):
            raise ConfigError(
                place,
                f"is {shown(text)}, which is no managed policy's ARN",
                "give arn:aws:iam::ACCOUNT:policy/NAME, or arn:aws:iam::aws:policy/NAME",
            )
    return tuple(dict.fromkeys(texts))


def same_partition(arns: tuple[str, ...], partition: str, *, place: str) -> None:
    """Raise where a policy is in another partition than the account, where no role can have it."""
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
    """Return the permission policy that *text* is."""
    try:
        document = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        what = error.args[0] if isinstance(error, ValueError) else "nested too deep"
        raise ConfigError(place, f"is no JSON ({what})", "give one policy document") from error
    if not isinstance(document, dict) or not document.get("Statement"):
        raise ConfigError(place, "is no policy document", 'give an object with a "Statement"')
    characters = len(re.sub(r"\s", "", json.dumps(document)))
    if characters > INLINE_POLICY_CHARACTERS:
        raise ConfigError(
            place,
            f"has {characters} characters without blanks",
            f"a role takes {INLINE_POLICY_CHARACTERS}; make it a managed policy and give its ARN",
        )
    return document


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def policy_name(text: str, *, place: str) -> str:
    """Return the name of a role's own policy, which is that of its file without the ending."""
    if not POLICY_NAME.fullmatch(text):
        raise ConfigError(
            place,
            f"has the name {shown(text)}, which no policy can have",
            "name the file with letters, digits and _+=,.@-",
        )
    return text
