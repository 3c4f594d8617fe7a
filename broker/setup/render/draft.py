"""What every form is rendered from, and the texts that they share."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from broker.setup.aws import Target
from broker.setup.resource import TAG_KEY, TAG_VALUE, Placeholder
from broker.setup.resources import (
    DesiredResource,
    IamRole,
    IdentityPool,
    OidcProvider,
    OutboundFederation,
    PoolTrust,
)
from broker.setup.resources.trust_relationship import FULL_ACCESS, TrustRelationship

W = TypeVar("W")

_ESCAPED = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

TAGS: Mapping[str, str] = {TAG_KEY: TAG_VALUE}
ENABLING = ("aws", "iam", "enable-outbound-web-identity-federation")
READING_THE_ISSUER = (
    *("aws", "iam", "get-outbound-web-identity-federation-info"),
    *("--query", "IssuerIdentifier", "--output", "text"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The desired resources, and the texts around them.

    ``command`` is the command line that made it, ``next_command`` the one to run afterwards,
    ``profile`` the one of the AWS CLI.
    """

    title: str
    desired: tuple[DesiredResource, ...]
    target: Target
    command: tuple[str, ...]
    next_command: tuple[str, ...]
    profile: str | None = None

    def all_of(self, kind: type[W]) -> tuple[W, ...]:
        return tuple(one for one in self.desired if isinstance(one, kind))

    def one_of(self, kind: type[W]) -> W | None:
        return next(iter(self.all_of(kind)), None)

    @property
    def makes_pool(self) -> bool:
        """Is there a pool to make? One that is given by its id exists."""
        pool = self.one_of(IdentityPool)
        return pool is not None and pool.pool_id is None

    @property
    def placeholders(self) -> frozenset[Placeholder]:
        """What is not known before the resources exist."""
        trust = self.one_of(TrustRelationship)
        asks_issuer = trust is not None and trust.issuer == Placeholder.ISSUER.value
        return frozenset(
            ({Placeholder.ISSUER} if asks_issuer else set())
            | ({Placeholder.POOL_ID, Placeholder.POOL_GUID} if self.makes_pool else set())
        )

    @property
    def unfilled(self) -> Mapping[Placeholder, str]:
        """The placeholders as themselves, for a text in which they are filled later."""
        return {placeholder: placeholder.value for placeholder in self.placeholders}

    @property
    def namespace_command(self) -> tuple[str, ...] | None:
        """The nsc command, None where nothing changes at Namespace."""
        if (trust := self.one_of(TrustRelationship)) is not None:
            return tuple(shlex.split(trust.nsc_line))
        if (pool_trust := self.one_of(PoolTrust)) is not None:
            return tuple(shlex.split(pool_trust.nsc_line))
        return None

    @property
    def role_without_path(self) -> str | None:
        """The ARN of an existing role, where the trust depends on it having no path."""
        trust = self.one_of(TrustRelationship)
        if trust is None or trust.subject_match not in self._arns_without_path():
            return None
        return trust.subject_match

    def _arns_without_path(self) -> set[str]:
        return {self.target.role_arn(name) for name in existing_roles(self)}


def existing_roles(draft: Draft) -> tuple[str, ...]:
    """Return the roles that get a policy and are not made here."""
    made = {role.name for role in draft.all_of(IamRole)}
    named = [str(name) for one in draft.desired if (name := getattr(one, "role", None))]
    return tuple(name for name in dict.fromkeys(named) if name not in made)


# Texts with placeholders in them.


def pieces(text: str, placeholders: frozenset[Placeholder]) -> Iterator[str | Placeholder]:
    """Yield what *text* consists of: none of it twice, nothing that is empty."""
    if not placeholders:
        yield from filter(None, [text])
        return
    stand_ins = {placeholder.value: placeholder for placeholder in placeholders}
    for piece in re.split("|".join(f"({re.escape(one)})" for one in stand_ins), text):
        if piece:
            yield stand_ins.get(piece, piece)


def escaped(character: str) -> str:
    """Return a character in a double-quoted text of YAML or Terraform."""
    if character in _ESCAPED:
        return _ESCAPED[character]
    if " " <= character <= "~":
        return character
    # Not as JSON does it: these have no pairs of surrogates.
    return f"\\U{ord(character):08x}" if ord(character) > 0xFFFF else f"\\u{ord(character):04x}"


def shell_word(text: str, fills: Mapping[Placeholder, str]) -> str:
    """Return *text* as one word of a shell; *fills* are expressions of the shell, quoted."""
    parts = [
        fills[piece] if isinstance(piece, Placeholder) else shlex.quote(piece)
        for piece in pieces(text, frozenset(fills))
    ]
    return "".join(parts) or "''"


def shell_line(words: Sequence[str], fills: Mapping[Placeholder, str]) -> str:
    return " ".join(shell_word(word, fills) for word in words)


def comment(lines: Sequence[str]) -> str:
    """Return *lines* as comments of a shell, YAML or Terraform. Nothing in them can end one."""
    shown = [part for line in lines for part in line.splitlines() or [""]]
    return "".join(f"# {_printable(line)}".rstrip() + "\n" for line in shown)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def head(draft: Draft) -> list[str]:
    """Return what it is, and where it comes from."""
    target = draft.target
    workspace = f", workspace {target.workspace}" if target.workspace else ""
    return [
        draft.title,
        f"Account {target.account}, region {target.region}{workspace}.",
        "",
        "Made by:",
        f"    {shlex.join(draft.command)}",
        "",
        *_taken_for_granted(draft),
    ]


def _taken_for_granted(draft: Draft) -> list[str]:
    lines = ["No cloud was asked: this is for an account that has none of it yet."]
    for name in existing_roles(draft):
        lines.append(f"The role {name} has to exist.")
    if draft.role_without_path is not None:
        lines.append("If it has a path, render again with --subject-match and its whole ARN.")
    pool = draft.one_of(IdentityPool)
    if pool is not None and pool.pool_id is not None:
        lines.append(f"The identity pool {pool.pool_id} has to exist, with {_provider(pool)}.")
    return lines


def cannot_keep(draft: Draft) -> list[str]:
    """Return the warning for a form that cannot read what exists."""
    if draft.one_of(OidcProvider) is None:
        return []
    return [
        "If the OIDC provider or the role exists, this can neither keep the provider nor add to",
        "the role's trust policy; the same command without --render can.",
    ]


def _provider(pool: IdentityPool) -> str:
    return f"the developer provider {pool.developer_provider}"


def commands_left(draft: Draft, notes: Sequence[str] = ()) -> list[str]:
    """Return the commands for what a template cannot express; then the next command."""
    fills = {placeholder: _IN_COMMANDS[placeholder] for placeholder in draft.placeholders}
    lines = []
    if draft.one_of(OutboundFederation) is not None:
        lines += [
            "Not included, because it is for the whole account and others may use it: once, by",
            "hand (it does no harm if it is on already):",
            *("", f"    {shlex.join(ENABLING)}", ""),
            *([*notes, ""] if notes else []),
        ]
    nsc = draft.namespace_command
    if nsc is not None:
        lines += [
            f"Namespace's side, by whoever administers the workspace {draft.target.workspace}:",
            *("", f"    {shell_line(nsc, fills)}", ""),
            *grants_note(draft),
        ]
    if draft.makes_pool:
        lines += ["POOL_ID and GUID are filled in, in the outputs.", ""]
    return [*lines, "Next:", "", f"    {shell_line(draft.next_command, fills)}"]


_IN_COMMANDS = {
    Placeholder.ISSUER: f'"$({shlex.join(READING_THE_ISSUER)})"',
    Placeholder.POOL_ID: "POOL_ID",
    Placeholder.POOL_GUID: "GUID",
}


def grants_note(draft: Draft) -> list[str]:
    trust = draft.one_of(TrustRelationship)
    return [f"It has {FULL_ACCESS}.", ""] if trust is not None and not trust.grants else []
