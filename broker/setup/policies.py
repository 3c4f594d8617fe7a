"""How the permission policies that a role is to have compare with those it has. Pure.

A policy that stands is added to, never written over: what is not ours stays, equal and in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.policy import identity_may
from broker.setup.documents import (
    difference,
    statements_of,
    with_statement,
    without_statement,
)
from broker.setup.steps import Standing, Step
from broker.setup.wanted import AttachedPolicy, Document, InlinePolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAttached:
    """That a managed policy is attached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundInline:
    document: Document


def attached_step(wanted: AttachedPolicy, found: FoundAttached | None) -> Step:
    return Step(
        kind="keep" if found else "create",
        resource=wanted,
        title=f"policy of {wanted.role}",
        diff=() if found else (f"+ {wanted.arn}",),
        note=wanted.arn if found else "",
    )


def attached_removal(
    wanted: AttachedPolicy, found: FoundAttached | None, _: Sequence[Standing]
) -> Step:
    return Step(
        kind="remove" if found else "keep",
        resource=wanted,
        title=f"policy of {wanted.role}",
        diff=(f"- {wanted.arn}",) if found else (),
        note="" if found else f"{wanted.arn} is not attached",
    )


def inline_step(wanted: InlinePolicy, found: FoundInline | None) -> Step:
    title = _title(wanted)
    if found is None:
        return Step(
            kind="create", resource=wanted, title=title, diff=difference(None, wanted.document)
        )
    if found.document == wanted.document:
        return Step(kind="keep", resource=wanted, title=title)
    if wanted.allowances and not _obstacle(wanted, found.document):
        note = "what stands differs, and allows what is needed"
        return Step(kind="keep", resource=wanted, title=title, note=note)
    merged = merged_with(wanted, found)
    return Step(
        kind="keep" if merged == found.document else "change",
        resource=wanted,
        title=title,
        diff=difference(found.document, merged),
        note="; ".join(_notes(wanted, merged)),
    )


def merged_with(wanted: InlinePolicy, found: FoundInline) -> Document:
    """Return the document that stands with our statements in it: each in the place of one that we
    made with other values, else after all others, which stay as they are and in order."""
    merged = found.document
    for statement in _ours(wanted):
        listed = statements_of(merged)
        if statement in listed:
            continue
        earlier = next((one for one in listed if _is_earlier_form(one, statement, wanted)), None)
        if earlier is None:
            merged = with_statement(merged, statement)
        else:
            replaced = [statement if one is earlier else one for one in listed]
            merged = {**merged, "Statement": replaced}
    return merged


def _is_earlier_form(one: object, statement: Document, wanted: InlinePolicy) -> bool:
    """Is it *statement* with other values in its conditions, as other flags make it? Of a policy
    that is not ours to write (one without allowances) nobody can tell."""
    if not wanted.allowances or not isinstance(one, Mapping):
        return False
    shape = _shape_of(statement.get("Condition"))
    return (
        bool(shape)
        and one == {**statement, "Condition": one.get("Condition")}
        and (_shape_of(one.get("Condition")) == shape)
    )


def _shape_of(conditions: object) -> set[tuple[str, str]]:
    """Return the operators and keys."""
    return {
        (str(operator), str(key))
        for operator, tests in (conditions if isinstance(conditions, Mapping) else {}).items()
        for key in (tests if isinstance(tests, Mapping) else {"?": tests})
    }


def _notes(wanted: InlinePolicy, merged: Document) -> list[str]:
    foreign = [one for one in statements_of(merged) if one not in _ours(wanted)]
    notes = []
    if foreign:
        notes.append(
            "it also has a statement that is not ours, which stays"
            if len(foreign) == 1
            else f"it also has {len(foreign)} statements that are not ours, which stay"
        )
    obstacle = _obstacle(wanted, merged)
    if obstacle:
        notes.append(f"it may not be allowed all the same: {obstacle}")
    return notes


def _ours(wanted: InlinePolicy) -> list[Document]:
    return [one for one in statements_of(wanted.document) if isinstance(one, Mapping)]


def _obstacle(wanted: InlinePolicy, document: Document) -> str:
    """Say why *document* does not allow everything that the policy is there for; empty where it
    does."""
    for allowance in wanted.allowances:
        verdict = identity_may(
            {wanted.name: document},
            action=allowance.action,
            resource=allowance.resource,
            context=allowance.context,
        )
        if not verdict:
            return verdict.reason
    return ""


def inline_removal(wanted: InlinePolicy, found: FoundInline | None, _: Sequence[Standing]) -> Step:
    """Return what takes our statements back: the policy itself, where it has no others."""
    title = _title(wanted)
    if found is None:
        return Step(kind="keep", resource=wanted, title=title, note="is not there")
    left = document_without_us(wanted, found)
    if left == found.document:
        note = "what stands is not what we would have put there"
        return Step(kind="keep", resource=wanted, title=title, note=note)
    if not statements_of(left):
        return Step(
            kind="remove", resource=wanted, title=title, diff=difference(found.document, None)
        )
    return Step(
        kind="change",
        resource=wanted,
        title=title,
        diff=difference(found.document, left),
        note="it has statements that are not ours, which stay",
    )


def document_without_us(wanted: InlinePolicy, found: FoundInline) -> Document:
    """Return the document that stands without the statements that equal ours."""
    left = found.document
    for statement in _ours(wanted):
        left = without_statement(left, statement)
    return left if len(statements_of(left)) < len(statements_of(found.document)) else found.document


def _title(wanted: InlinePolicy) -> str:
    return f"policy {wanted.name} of {wanted.role}"
