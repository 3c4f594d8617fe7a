"""The configuration that an installation begins with, as text. Writes none."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from broker.installer import places

HEAD = """\
# Written by `namespace-broker install`, which writes it anew as long as nobody edits it.
# Every key: docs/config.toml, docs/callers.md. After a change: systemctl reload namespace-broker
# As written: sha256 """
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """Who may ask: these users, or every user of this host."""

    users: tuple[str, ...] = ()
    any_local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Where root has the Namespace token: in a token file, or by a token spec."""

    kind: Literal["token-file", "token-spec"]
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What somebody wants to be installed. *roles* are ARNs by name, the default one first."""

    roles: Mapping[str, str]
    allowed: Allowed
    identity: Identity
    region: str | None = None


def config_text(wanted: Wanted) -> str:
    """Return the configuration file, with a stamp by which it is known to be as we wrote it."""
    body = "\n".join([*_top(wanted), *_identity(wanted), *_roles(wanted), *_container()])
    return stamped(f"{body}\n{rules_text(wanted)}")


def rules_text(wanted: Wanted) -> str:
    """Return the rules by which callers are served."""
    roles = ", ".join(map(_text, wanted.roles))
    whos = [f"user = {_text(user)}" for user in wanted.allowed.users]
    if wanted.allowed.any_local:
        whos.append("any_local = true")
    return "\n".join(f"[[rules]]\nwho = {{ {who} }}\nroles = [{roles}]\n" for who in whos)


def stamped(body: str) -> str:
    return f"{HEAD}{_stamp(body)}\n\n{body}"


def is_as_written(text: str) -> bool:
    """Say whether nobody edited *text* since we wrote it."""
    return _parts(text) is not None and stamped((_parts(text) or ("", ""))[1]) == text


def is_edited_from(text: str, original: str) -> bool:
    """Say whether *text* is what somebody made of our *original*."""
    ours, theirs = _parts(original), _parts(text)
    return ours is not None and theirs is not None and ours[0] == theirs[0]


def _parts(text: str) -> tuple[str, str] | None:
    """Return stamp and body, None where there is no stamp."""
    found = re.search(r"^# As written: sha256 ([0-9a-f]{64})\n\n?", text, re.MULTILINE)
    return None if found is None else (found[1], text[found.end() :])


def _stamp(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _top(wanted: Wanted) -> list[str]:
    return [] if wanted.region is None else [f"region = {_text(wanted.region)}", ""]


def _identity(wanted: Wanted) -> list[str]:
    kind = wanted.identity.kind
    path = places.TOKEN_COPY if kind == "token-file" else places.SPEC_CREDENTIAL
    how = "a copy, kept by namespace-broker-token" if kind == "token-file" else "by LoadCredential="
    return [
        "[identities.default]",
        f"# {json.dumps(str(wanted.identity.path))}, as the service sees it: {how}",
        f"source = {_text(kind)}",
        f"path = {_text(str(path))}",
        "",
    ]


def _roles(wanted: Wanted) -> list[str]:
    return [
        line
        for name, arn in wanted.roles.items()
        for line in (f"[roles.{_key(name)}]", f"arn = {_text(arn)}", "")
    ]


def _container() -> list[str]:
    return [
        "[container]",
        "# In the service's own directory, so that it outlives restarts.",
        f"token_file = {_text(str(places.STATE / 'container-token'))}",
        "",
    ]


def _key(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else _text(name)


def _text(value: str) -> str:
    # JSON's strings are among TOML's basic strings.
    return json.dumps(value)
