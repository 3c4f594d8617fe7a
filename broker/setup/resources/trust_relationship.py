"""Trust relationships of a workspace: which entry does what is desired, and the list with ours.

An entry is kept as received: members that are not known here, and the other spelling of those that
are, go back unchanged. Source: namespace-api.md 6.7.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from broker import policy
from broker.lease import Refused
from broker.setup.documents import Document
from broker.setup.namespace import Entry, offering_by_hand, why_not
from broker.setup.resource import (
    CloudAccess,
    Outputs,
    Placeholder,
    Resource,
    ResourceState,
    Step,
)

NSC_REMOVAL = "nsc auth trust-relationships remove --id ID"
FULL_ACCESS = "no grants: whoever it admits has full access to the workspace"

_CAMEL = {
    "subject_match": "subjectMatch",
    "default_permissions": "defaultPermissions",
    "default_token_duration": "defaultTokenDuration",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ActualRelationship:
    """What was found in a workspace.

    ``entry`` is the one that does what is desired, or will once it is changed; ``ours`` equals
    what we would have added. ``unreadable`` says why the list could not be read. ``proven``: a
    token was exchanged under this very trust, so the list is not needed.
    """

    entry: Entry | None = None
    ours: Entry | None = None
    unreadable: str = ""
    proven: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRelationship(Resource[ActualRelationship]):
    """The workspace trusts an issuer's subjects.

    Without *grants* (JSON objects) it gives full access.
    """

    workspace: str
    issuer: str
    subject_match: str
    audience: str | None = None
    grants: tuple[Document, ...] = ()
    token_duration_s: int | None = None

    @property
    def title(self) -> str:
        return f"trust relationship for {self.subject_match} in workspace {self.workspace}"

    async def read(self, clouds: CloudAccess, *, deep: bool = False) -> ActualRelationship:
        """Return what exists; where we may not read it, why, and whether it admits all the same."""
        try:
            entries = (await clouds.workspace.relationships()).entries
        except Refused as refused:
            is_known = Placeholder.ISSUER.value not in self.issuer
            proven = is_known and clouds.admits is not None and await clouds.admits(self)
            return ActualRelationship(unreadable=why_not(refused), proven=proven)
        return self.found_in(entries)

    def found_in(self, entries: Sequence[Entry]) -> ActualRelationship:
        ours = next((entry for entry in entries if self.is_ours(entry)), None)
        return ActualRelationship(entry=self.matching(entries), ours=ours)

    def matching(self, entries: Sequence[Entry]) -> Entry | None:
        """Return the entry that does what is desired, or is to be changed; None: add one.

        One that fits as it is comes first, then the one for the same issuer and subject.

        Grants and duration that were not given fit whatever they are. An entry without an audience
        is the guide's, and fits any.
        """
        same = [entry for entry in entries if _is_for(entry, self)]
        covering = [entry for entry in entries if _admits(entry, self)]
        fitting = [entry for entry in (*same, *covering) if self._fits(entry)]
        return next(iter([*fitting, *same]), None)

    def _fits(self, entry: Entry) -> bool:
        return _has_grants(entry, self) and _has_duration(entry, self)

    def added_to(self, entries: Sequence[Entry]) -> tuple[Entry, ...]:
        """Return the list with this in it; every other entry as it is, in its place."""
        match = self.matching(entries)
        if match is None:
            return (*entries, self.as_entry())
        return tuple(self._changed(entry) if entry is match else entry for entry in entries)

    def removed_from(self, entries: Sequence[Entry]) -> tuple[Entry, ...]:
        """Return the list without the entries that equal what we would have added."""
        return tuple(entry for entry in entries if not self.is_ours(entry))

    def is_ours(self, entry: Entry) -> bool:
        """Return whether it equals what we would add, whatever the server has added to it."""
        made = self.as_entry()
        return (
            all(_text(entry, key) == made.get(key, "") for key in ("issuer", "subject_match"))
            and _text(entry, "audience") == (self.audience or "")
            and _equal_grants(member(entry, "default_permissions"), made.get("default_permissions"))
            and _seconds(entry) == self.token_duration_s
        )

    def as_entry(self) -> Entry:
        """Return a new entry; what was not given is left out."""
        members = {
            "issuer": self.issuer,
            "subject_match": self.subject_match,
            "audience": self.audience,
            "default_permissions": [dict(grant) for grant in self.grants],
            "default_token_duration": _duration(self.token_duration_s),
        }
        return {name: value for name, value in members.items() if value}

    def _changed(self, entry: Entry) -> Entry:
        """Return the entry with what differs replaced, and nothing else."""
        desired = self.as_entry()
        new = dict(entry)
        for name, is_right in (
            ("default_permissions", _has_grants(entry, self)),
            ("default_token_duration", _has_duration(entry, self)),
        ):
            if not is_right:
                new[_spelling_of(entry, name)] = desired[name]
        return new

    def diff(self, actual: ActualRelationship | None) -> Step:
        actual = actual or ActualRelationship()
        if actual.entry is not None:
            return self._diff_from(actual.entry)
        if actual.proven:
            note = f"a token was exchanged under it; its grants are not known ({actual.unreadable})"
            return self.step("keep", note)
        lines = [f"+ {line}" for line in _lines(self.as_entry())]
        if actual.unreadable:
            lines.append(f"  by hand: {self.nsc_line}")
        access = "" if self.grants else FULL_ACCESS
        return self.step("create", access, actual.unreadable, diff=lines)

    def _diff_from(self, entry: Entry) -> Step:
        new = self._changed(entry)
        old_lines, new_lines = _lines(entry), _lines(new)
        diff = (
            *(f"- {line}" for line in old_lines if line not in new_lines),
            *(f"{' ' if line in old_lines else '+'} {line}" for line in new_lines),
        )
        return self.step(
            "keep" if new == entry else "change",
            _text(entry, "id"),
            "" if _is_for(entry, self) else f"its {_text(entry, 'subject_match')} admits this too",
            "" if member(new, "default_permissions") else FULL_ACCESS,
            diff=() if new == entry else diff,
        )

    def removal(
        self, actual: ActualRelationship | None, others: Sequence[ResourceState[Any]]
    ) -> Step:
        """Return what removes the entry that equals ours."""
        actual = actual or ActualRelationship()
        if actual.unreadable:
            note = f"{actual.unreadable}; by hand: `{NSC_REMOVAL}`, the id by `list`"
            return self.step("keep", note)
        if actual.ours is not None:
            lines = [f"- {line}" for line in _lines(actual.ours)]
            return self.step("remove", _text(actual.ours, "id"), diff=lines)
        if actual.entry is None:
            return self.step("keep", "there is none")
        entry_id = _text(actual.entry, "id")
        return self.step(
            "keep",
            f"{entry_id} is not what these flags make (its audience, grants or duration differ); "
            f"remove it with `nsc auth trust-relationships remove --id {shlex.quote(entry_id)}`",
        )

    async def create(self, clouds: CloudAccess) -> Outputs:
        with offering_by_hand(self.nsc_line):
            await clouds.workspace.change(self.added_to)
        return Outputs()

    async def update(self, clouds: CloudAccess, actual: ActualRelationship) -> None:
        await self.create(clouds)

    async def delete(self, clouds: CloudAccess, actual: ActualRelationship) -> None:
        with offering_by_hand(NSC_REMOVAL):
            await clouds.workspace.change(self.removed_from)

    @property
    def nsc_line(self) -> str:
        """The nsc command that adds the relationship. Source: namespace-api.md 11."""
        words = ["nsc", "auth", "trust-relationships", "add", "--issuer", self.issuer]
        words += ["--subject-match", self.subject_match]
        if self.audience:
            words += ["--audience", self.audience]
        for grant in self.grants:
            words += ["--grant", json.dumps(grant, separators=(",", ":"))]
        if self.token_duration_s is not None:
            words += ["--default_token_duration", str(_duration(self.token_duration_s))]
        return shlex.join(words)


def member(entry: Entry, name: str) -> object:
    """Return a member in either of its spellings. Source: namespace-api.md 12."""
    return entry.get(_spelling_of(entry, name))


def in_our_spelling(entry: Entry) -> Entry:
    """Return the members that decide, for evaluation."""
    names = ("id", "issuer", "subject_match", "audience")
    return {name: member(entry, name) for name in names if member(entry, name) is not None}


def _is_for(entry: Entry, desired: TrustRelationship) -> bool:
    """Return whether it is for the same issuer and subject, and the same audience or any."""
    same = (_text(entry, "issuer"), _text(entry, "subject_match"))
    return same == (desired.issuer, desired.subject_match) and _text(entry, "audience") in (
        "",
        desired.audience or "",
    )


def _admits(entry: Entry, desired: TrustRelationship) -> bool:
    """Return whether it admits the desired subject; a pattern has to be there literally."""
    if "*" in desired.subject_match:
        return False
    claims = {"iss": desired.issuer, "sub": desired.subject_match, "aud": desired.audience or ""}
    return bool(policy.relationship_admits(in_our_spelling(entry), claims=claims))


def _has_grants(entry: Entry, desired: TrustRelationship) -> bool:
    return not desired.grants or _equal_grants(
        member(entry, "default_permissions"), [dict(grant) for grant in desired.grants]
    )


def _equal_grants(one: object, other: object) -> bool:
    """Compare two lists of permissions, in any order; without a resource_id it is `*`."""
    return _sorted_grants(one) == _sorted_grants(other)


def _sorted_grants(granted: object) -> list[str]:
    listed = granted if isinstance(granted, list) else []
    return sorted(json.dumps(_normalised(grant), sort_keys=True) for grant in listed)


def _normalised(grant: object) -> object:
    if not isinstance(grant, Mapping):
        return grant
    spelled = {
        {"resourceType": "resource_type", "resourceId": "resource_id"}.get(name, name): value
        for name, value in grant.items()
    }
    actions = spelled.get("actions")
    listed = sorted(map(str, actions)) if isinstance(actions, list) else actions
    return {"resource_id": "*"} | spelled | {"actions": listed}


def _has_duration(entry: Entry, desired: TrustRelationship) -> bool:
    return desired.token_duration_s is None or _seconds(entry) == desired.token_duration_s


def _seconds(entry: Entry) -> Decimal | None:
    """Return the duration in seconds, None where there is none.

    NaN (equal to nothing) where it cannot be parsed.
    """
    text = _text(entry, "default_token_duration")
    if not text:
        return None
    try:
        return Decimal(text.removesuffix("s"))
    except InvalidOperation:
        return Decimal("NaN")


def _duration(duration_s: int | None) -> str | None:
    return None if duration_s is None else f"{duration_s}s"


def _spelling_of(entry: Entry, name: str) -> str:
    camel = _CAMEL.get(name, name)
    return camel if camel in entry and name not in entry else name


def _text(entry: Entry, name: str) -> str:
    value = member(entry, name)
    return value if isinstance(value, str) else ""


def _lines(entry: Entry) -> list[str]:
    """Return the members that decide, one on a line."""
    names = ("issuer", "subject_match", "audience", "default_token_duration")
    lines = [f"{name}: {_text(entry, name)}" for name in names if _text(entry, name)]
    granted = member(entry, "default_permissions")
    grants: list[Document] = granted if isinstance(granted, list) else []
    return lines + [f"grant: {json.dumps(grant)}" for grant in grants]
