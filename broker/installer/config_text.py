"""The text of the configuration file that an installation begins with."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from broker.installer import units

HEAD = """\
# Written by `namespace-broker install`, which writes it anew as long as nobody edits it.
# Every key: docs/config.toml, docs/callers.md. After a change: systemctl reload namespace-broker
# As written: sha256 """
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """The callers to admit: these users, or every user of this host."""

    users: tuple[str, ...] = ()
    any_local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Where root has the Namespace token: in a token file, or by a token spec."""

    kind: Literal["token-file", "token-spec"]
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """The installation that the flags describe. *roles* are ARNs by name, the default one first."""

    roles: Mapping[str, str]
    allowed: Allowed
    identity: Identity
    region: str | None = None


def config_text(desired: Desired) -> str:
    """Return the configuration file, stamped so that later edits can be detected."""
    body = "\n".join([*_top(desired), *_identity(desired), *_roles(desired), *_container()])
    return stamped(f"{body}\n{rules_text(desired)}")


def rules_text(desired: Desired) -> str:
    """Return the rules by which callers are served."""
    roles = ", ".join(map(_text, desired.roles))
    whos = [f"user = {_text(user)}" for user in desired.allowed.users]
    if desired.allowed.any_local:
        whos.append("any_local = true")
    return "\n".join(f"[[rules]]\nwho = {{ {who} }}\nroles = [{roles}]\n" for who in whos)


def stamped(body: str) -> str:
    return f"{HEAD}{_stamp(body)}\n\n{body}"


def is_as_written(text: str) -> bool:
    """Return whether *text* is still as we wrote it."""
    return _parts(text) is not None and stamped((_parts(text) or ("", ""))[1]) == text


def is_edited_from(text: str, original: str) -> bool:
    """Return whether *text* is an edited copy of our *original*."""
    ours, theirs = _parts(original), _parts(text)
    return ours is not None and theirs is not None and ours[0] == theirs[0]


def _parts(text: str) -> tuple[str, str] | None:
    """Return the stamp and the body, None where there is no stamp."""
    found = re.search(r"^# As written: sha256 ([0-9a-f]{64})\n\n?", text, re.MULTILINE)
    return None if found is None else (found[1], text[found.end() :])


def _stamp(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _top(desired: Desired) -> list[str]:
    return [] if desired.region is None else [f"region = {_text(desired.region)}", ""]


def _identity(desired: Desired) -> list[str]:
    kind = desired.identity.kind
    path = units.TOKEN_COPY if kind == "token-file" else units.SPEC_CREDENTIAL
    how = "a copy, kept by namespace-broker-token" if kind == "token-file" else "by LoadCredential="
    return [
        "[identities.default]",
        f"# {json.dumps(str(desired.identity.path))}, as the service sees it: {how}",
        f"source = {_text(kind)}",
        f"path = {_text(str(path))}",
        "",
    ]


def _roles(desired: Desired) -> list[str]:
    return [
        line
        for name, arn in desired.roles.items()
        for line in (f"[roles.{_key(name)}]", f"arn = {_text(arn)}", "")
    ]


def _container() -> list[str]:
    return [
        "[container]",
        "# In the service's own directory, so that it outlives restarts.",
        f"token_file = {_text(str(units.STATE / 'container-token'))}",
        "",
    ]


def _key(name: str) -> str:
    return name if BARE_KEY.fullmatch(name) else _text(name)


def _text(value: str) -> str:
    # JSON's strings are among TOML's basic strings.
    return json.dumps(value)
