"""Whom a workspace trusts, as a list: what in it does for what is wanted, and the list with it or
without it. Pure: asks nobody.

An entry is kept as it came: members that are not known here, and the other spelling of those that
are, go back as they were. Source: namespace-api.md 6.7.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from broker import policy
from broker.setup.steps import Standing, Step
from broker.setup.wanted import Document, StsTrust

Entry = Mapping[str, object]
"""One trust relationship, as Namespace tells it."""

NSC_REMOVAL = "nsc auth trust-relationships remove --id ID"
FULL_ACCESS = "no grants: whoever it admits has full access to the workspace"

_CAMEL = {
    "subject_match": "subjectMatch",
    "default_permissions": "defaultPermissions",
    "default_token_duration": "defaultTokenDuration",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundTrust:
    """What was found in a workspace.

    ``entry`` is the one that does, or with a change would do, for what is wanted; ``ours`` equals
    what we would have added. ``unread`` says why the list could not be read. ``proven`` is what
    nobody needs a list for: a token was exchanged under this very trust.
    """

    entry: Entry | None = None
    ours: Entry | None = None
    unread: str = ""
    proven: bool = False


# The list.


def found_in(entries: Sequence[Entry], wanted: StsTrust) -> Entry | None:
    """Return the entry that does for *wanted*: one that fits as it is, else the one for the same
    issuer and subject that has to be changed; None where one has to be added.

    What was not said (grants, duration) fits whatever it is. An entry without an audience is the
    guide's, and fits any.
    """
    same = [entry for entry in entries if _is_for(entry, wanted)]
    covering = [entry for entry in entries if _admits(entry, wanted)]
    fitting = [entry for entry in (*same, *covering) if fits(entry, wanted)]
    return next(iter([*fitting, *same]), None)


def found_trust(entries: Sequence[Entry], wanted: StsTrust) -> FoundTrust:
    ours = next((entry for entry in entries if is_ours(entry, wanted)), None)
    return FoundTrust(entry=found_in(entries, wanted), ours=ours)


def fits(entry: Entry, wanted: StsTrust) -> bool:
    """Are grants and duration what was said of them, if anything was?"""
    return _granted(entry, wanted) and _lasting(entry, wanted)


def with_wanted(entries: Sequence[Entry], wanted: StsTrust) -> tuple[Entry, ...]:
    """Return the list with *wanted* in it; every other entry as it is, in its place."""
    found = found_in(entries, wanted)
    if found is None:
        return (*entries, as_entry(wanted))
    return tuple(changed(entry, wanted) if entry is found else entry for entry in entries)


def without(entries: Sequence[Entry], wanted: StsTrust) -> tuple[Entry, ...]:
    """Return the list without the entries that equal what we would have added."""
    return tuple(entry for entry in entries if not is_ours(entry, wanted))


def is_ours(entry: Entry, wanted: StsTrust) -> bool:
    """Does the entry equal what we would have added, whatever the server has put to it?"""
    made = as_entry(wanted)
    return (
        all(_text(entry, key) == made.get(key, "") for key in ("issuer", "subject_match"))
        and _text(entry, "audience") == (wanted.audience or "")
        and _same_grants(member(entry, "default_permissions"), made.get("default_permissions"))
        and _seconds(entry) == wanted.token_duration_s
    )


def as_entry(wanted: StsTrust) -> Entry:
    """Return *wanted* as a new entry; what was not said is left out."""
    said = {
        "issuer": wanted.issuer,
        "subject_match": wanted.subject_match,
        "audience": wanted.audience,
        "default_permissions": [dict(grant) for grant in wanted.grants],
        "default_token_duration": _spelled(wanted.token_duration_s),
    }
    return {name: value for name, value in said.items() if value}


def changed(entry: Entry, wanted: StsTrust) -> Entry:
    """Return the entry with what differs replaced, and nothing else."""
    said = as_entry(wanted)
    new = dict(entry)
    for name, is_right in (
        ("default_permissions", _granted(entry, wanted)),
        ("default_token_duration", _lasting(entry, wanted)),
    ):
        if not is_right:
            new[_spelling(entry, name)] = said[name]
    return new


def member(entry: Entry, name: str) -> object:
    """Return a member in either of its spellings. Source: namespace-api.md 12."""
    return entry.get(_spelling(entry, name))


def in_our_spelling(entry: Entry) -> Entry:
    """Return the members that decide, for evaluation."""
    names = ("id", "issuer", "subject_match", "audience")
    return {name: member(entry, name) for name in names if member(entry, name) is not None}


# The plan.


def step(wanted: StsTrust, found: FoundTrust | None) -> Step:
    """Return what makes the workspace trust what is wanted."""
    title = f"trust relationship for {wanted.subject_match} in workspace {wanted.workspace}"
    found = found or FoundTrust()
    if found.entry is None and found.proven:
        note = f"a token was exchanged under it; its grants are not known ({found.unread})"
        return Step(kind="keep", resource=wanted, title=title, note=note)
    if found.entry is None:
        lines = [f"+ {line}" for line in _lines(as_entry(wanted))]
        if found.unread:
            lines.append(f"  by hand: {nsc_line(wanted)}")
        notes = ("" if wanted.grants else FULL_ACCESS, found.unread)
        return Step(
            kind="create",
            resource=wanted,
            title=title,
            diff=tuple(lines),
            note="; ".join(filter(None, notes)),
        )
    return _step_for(found.entry, wanted, title)


def _step_for(entry: Entry, wanted: StsTrust, title: str) -> Step:
    new = changed(entry, wanted)
    granted = member(new, "default_permissions")
    notes = [
        _text(entry, "id"),
        "" if _is_for(entry, wanted) else f"its {_text(entry, 'subject_match')} admits this too",
        "" if granted else FULL_ACCESS,
    ]
    note = "; ".join(filter(None, notes))
    if new == entry:
        return Step(kind="keep", resource=wanted, title=title, note=note)
    old_lines, new_lines = _lines(entry), _lines(new)
    diff = (
        *(f"- {line}" for line in old_lines if line not in new_lines),
        *(f"{' ' if line in old_lines else '+'} {line}" for line in new_lines),
    )
    return Step(kind="change", resource=wanted, title=title, diff=diff, note=note)


def removal(wanted: StsTrust, found: FoundTrust | None, _: Sequence[Standing]) -> Step:
    """Return what takes back the entry that equals ours."""
    title = f"trust relationship for {wanted.subject_match} in workspace {wanted.workspace}"
    found = found or FoundTrust()
    if found.unread:
        note = f"{found.unread}; by hand: `{NSC_REMOVAL}`, the id by `list`"
        return Step(kind="keep", resource=wanted, title=title, note=note)
    if found.ours is not None:
        lines = tuple(f"- {line}" for line in _lines(found.ours))
        note = _text(found.ours, "id")
        return Step(kind="remove", resource=wanted, title=title, diff=lines, note=note)
    if found.entry is None:
        return Step(kind="keep", resource=wanted, title=title, note="there is none")
    note = (
        f"{_text(found.entry, 'id')} is not what these flags make (its audience, grants or "
        f"duration differ); take it away with `nsc auth trust-relationships remove --id "
        f"{shlex.quote(_text(found.entry, 'id'))}`"
    )
    return Step(kind="keep", resource=wanted, title=title, note=note)


def nsc_line(wanted: StsTrust) -> str:
    """Return the command of nsc's that adds the relationship. Source: namespace-api.md 11."""
    words = ["nsc", "auth", "trust-relationships", "add", "--issuer", wanted.issuer]
    words += ["--subject-match", wanted.subject_match]
    if wanted.audience:
        words += ["--audience", wanted.audience]
    for grant in wanted.grants:
        words += ["--grant", json.dumps(grant, separators=(",", ":"))]
    if wanted.token_duration_s is not None:
        words += ["--default_token_duration", str(_spelled(wanted.token_duration_s))]
    return shlex.join(words)


# One entry.


def _is_for(entry: Entry, wanted: StsTrust) -> bool:
    """Is it for the same issuer and subject, and for the same audience or any?"""
    same = (_text(entry, "issuer"), _text(entry, "subject_match"))
    return same == (wanted.issuer, wanted.subject_match) and _text(entry, "audience") in (
        "",
        wanted.audience or "",
    )


def _admits(entry: Entry, wanted: StsTrust) -> bool:
    """Does it admit the one subject that is wanted? A pattern is wanted in so many words."""
    if "*" in wanted.subject_match:
        return False
    claims = {"iss": wanted.issuer, "sub": wanted.subject_match, "aud": wanted.audience or ""}
    return bool(policy.relationship_admits(in_our_spelling(entry), claims=claims))


def _granted(entry: Entry, wanted: StsTrust) -> bool:
    return not wanted.grants or _same_grants(
        member(entry, "default_permissions"), [dict(grant) for grant in wanted.grants]
    )


def _same_grants(one: object, other: object) -> bool:
    """Compare two lists of permissions, in any order; a resource that is not named is all."""
    return _sorted_grants(one) == _sorted_grants(other)


def _sorted_grants(granted: object) -> list[str]:
    listed = granted if isinstance(granted, list) else []
    return sorted(json.dumps(_whole(grant), sort_keys=True) for grant in listed)


def _whole(grant: object) -> object:
    if not isinstance(grant, Mapping):
        return grant
    spelled = {
        {"resourceType": "resource_type", "resourceId": "resource_id"}.get(name, name): value
        for name, value in grant.items()
    }
    actions = spelled.get("actions")
    listed = sorted(map(str, actions)) if isinstance(actions, list) else actions
    return {"resource_id": "*"} | spelled | {"actions": listed}


def _lasting(entry: Entry, wanted: StsTrust) -> bool:
    return wanted.token_duration_s is None or _seconds(entry) == wanted.token_duration_s


def _seconds(entry: Entry) -> Decimal | None:
    """Return the duration in seconds; None where it says none, NaN (equal to nothing) where it
    cannot be read."""
    said = _text(entry, "default_token_duration")
    if not said:
        return None
    try:
        return Decimal(said.removesuffix("s"))
    except InvalidOperation:
        return Decimal("NaN")


def _spelled(duration_s: int | None) -> str | None:
    return None if duration_s is None else f"{duration_s}s"


def _spelling(entry: Entry, name: str) -> str:
    camel = _CAMEL.get(name, name)
    return camel if camel in entry and name not in entry else name


def _text(entry: Entry, name: str) -> str:
    value = member(entry, name)
    return value if isinstance(value, str) else ""


def _lines(entry: Entry) -> list[str]:
    """Return what decides in an entry, one member a line."""
    names = ("issuer", "subject_match", "audience", "default_token_duration")
    lines = [f"{name}: {_text(entry, name)}" for name in names if _text(entry, name)]
    granted = member(entry, "default_permissions")
    grants: list[Document] = granted if isinstance(granted, list) else []
    return lines + [f"grant: {json.dumps(grant)}" for grant in grants]
