"""What every form is drawn from, and what all of them say in the same words. Knows no form."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from broker.setup import to_namespace_pool_trust, to_namespace_relationships
from broker.setup.to_namespace_relationships import FULL_ACCESS
from broker.setup.wanted import (
    GUID_OF_THE_POOL,
    ISSUER_OF_THE_ACCOUNT,
    POOL_ID,
    TAG_KEY,
    TAG_VALUE,
    CognitoTrust,
    IdentityPool,
    OidcProvider,
    OutboundFederation,
    Place,
    Role,
    StsTrust,
    Wanted,
)

W = TypeVar("W")

TAGS: Mapping[str, str] = {TAG_KEY: TAG_VALUE}
ENABLING = ("aws", "iam", "enable-outbound-web-identity-federation")
READING_THE_ISSUER = (
    *("aws", "iam", "get-outbound-web-identity-federation-info"),
    *("--query", "IssuerIdentifier", "--output", "text"),
)


class Blank(Enum):
    """What only AWS can say, once the thing stands; by what stands for it in a wanted text."""

    ISSUER = ISSUER_OF_THE_ACCOUNT
    POOL = POOL_ID
    GUID = GUID_OF_THE_POOL


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is to stand, and the words around it.

    ``command`` is the command line that it was made by, ``next_command`` what comes once it
    stands, ``profile`` the one of the AWS CLI.
    """

    title: str
    wanted: tuple[Wanted, ...]
    place: Place
    command: tuple[str, ...]
    next_command: tuple[str, ...]
    profile: str | None = None

    def all_of(self, kind: type[W]) -> tuple[W, ...]:
        return tuple(one for one in self.wanted if isinstance(one, kind))

    def one_of(self, kind: type[W]) -> W | None:
        return next(iter(self.all_of(kind)), None)

    @property
    def makes_pool(self) -> bool:
        """Is there a pool to be made? One that was named by its id stands."""
        pool = self.one_of(IdentityPool)
        return pool is not None and pool.pool_id is None

    @property
    def blanks(self) -> frozenset[Blank]:
        """What is not known before the thing stands."""
        trust = self.one_of(StsTrust)
        asks_issuer = trust is not None and trust.issuer == Blank.ISSUER.value
        return frozenset(
            ({Blank.ISSUER} if asks_issuer else set())
            | ({Blank.POOL, Blank.GUID} if self.makes_pool else set())
        )

    @property
    def namespace_command(self) -> tuple[str, ...] | None:
        """The words of nsc's command, None where Namespace has nothing to be told."""
        if (trust := self.one_of(StsTrust)) is not None:
            return tuple(shlex.split(to_namespace_relationships.nsc_line(trust)))
        if (pool_trust := self.one_of(CognitoTrust)) is not None:
            return tuple(shlex.split(to_namespace_pool_trust.nsc_line(pool_trust)))
        return None

    @property
    def role_without_path(self) -> str | None:
        """The ARN of a role that stands, where the trust depends on it having no path."""
        trust = self.one_of(StsTrust)
        if trust is None or trust.subject_match not in self._arns_without_path():
            return None
        return trust.subject_match

    def _arns_without_path(self) -> set[str]:
        return {self.place.role_arn(name) for name in roles_that_stand(self)}


def roles_that_stand(draft: Draft) -> tuple[str, ...]:
    """Return the names of the roles that are given a policy, and are not made here."""
    made = {role.name for role in draft.all_of(Role)}
    named = [str(name) for one in draft.wanted if (name := getattr(one, "role", None))]
    return tuple(name for name in dict.fromkeys(named) if name not in made)


# Texts with blanks in them.


def pieces(text: str, blanks: frozenset[Blank]) -> Iterator[str | Blank]:
    """Yield what *text* consists of: none of it twice, nothing that is empty."""
    if not blanks:
        yield from filter(None, [text])
        return
    stand_ins = {blank.value: blank for blank in blanks}
    for piece in re.split("|".join(f"({re.escape(one)})" for one in stand_ins), text):
        if piece:
            yield stand_ins.get(piece, piece)


def shell_word(text: str, fills: Mapping[Blank, str]) -> str:
    """Return *text* as one word of a shell; *fills* are expressions of the shell, quoted."""
    parts = [
        fills[piece] if isinstance(piece, Blank) else shlex.quote(piece)
        for piece in pieces(text, frozenset(fills))
    ]
    return "".join(parts) or "''"


def shell_line(words: Sequence[str], fills: Mapping[Blank, str]) -> str:
    return " ".join(shell_word(word, fills) for word in words)


# What is said in comments.


def comment(lines: Sequence[str]) -> str:
    """Return *lines* as comments of a shell, YAML or Terraform. Nothing in them can end one."""
    shown = [part for line in lines for part in line.splitlines() or [""]]
    return "".join(f"# {_printable(line)}".rstrip() + "\n" for line in shown)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def head(draft: Draft) -> list[str]:
    """Return what it is, and where it comes from."""
    place = draft.place
    return [
        draft.title,
        f"Account {place.account}, region {place.region}, workspace {place.workspace}.",
        "",
        "Made by:",
        f"    {shlex.join(draft.command)}",
        "",
        *_taken_for_granted(draft),
    ]


def _taken_for_granted(draft: Draft) -> list[str]:
    lines = ["No cloud was asked: it is written for an account that has nothing of this."]
    for name in roles_that_stand(draft):
        lines.append(f"The role {name} has to stand.")
    if draft.role_without_path is not None:
        lines.append("If it has a path, render again with --subject-match and its whole ARN.")
    pool = draft.one_of(IdentityPool)
    if pool is not None and pool.pool_id is not None:
        lines.append(f"The identity pool {pool.pool_id} has to stand, for {_provider(pool)}.")
    return lines


def cannot_keep(draft: Draft) -> list[str]:
    """Return what has to be said of a form that cannot look what stands."""
    if draft.one_of(OidcProvider) is None:
        return []
    return [
        "Where the OIDC provider or the role stands already, this can neither keep the one nor add",
        "to the trust policy of the other; the same command without --render does.",
    ]


def _provider(pool: IdentityPool) -> str:
    return f"the developer provider {pool.developer_provider}"


def commands_left(draft: Draft, notes: Sequence[str] = ()) -> list[str]:
    """Return what a form that is no script cannot express, as the commands that do it; then what
    is next."""
    fills = {blank: _IN_COMMANDS[blank] for blank in draft.blanks}
    lines = []
    if draft.one_of(OutboundFederation) is not None:
        lines += [
            "Not in here, because it is the whole account's and others may use it: once, by hand",
            "(that it is on already is no trouble):",
            *("", f"    {shlex.join(ENABLING)}", ""),
            *([*notes, ""] if notes else []),
        ]
    nsc = draft.namespace_command
    if nsc is not None:
        lines += [
            f"Namespace's side, by whoever administers the workspace {draft.place.workspace}:",
            *("", f"    {shell_line(nsc, fills)}", ""),
            *grants_note(draft),
        ]
    if draft.makes_pool:
        lines += ["POOL_ID and GUID are filled in, in the outputs.", ""]
    return [*lines, "Next:", "", f"    {shell_line(draft.next_command, fills)}"]


_IN_COMMANDS = {
    Blank.ISSUER: f'"$({shlex.join(READING_THE_ISSUER)})"',
    Blank.POOL: "POOL_ID",
    Blank.GUID: "GUID",
}


def grants_note(draft: Draft) -> list[str]:
    trust = draft.one_of(StsTrust)
    return [f"It has {FULL_ACCESS}.", ""] if trust is not None and not trust.grants else []
