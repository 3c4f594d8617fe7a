"""Compare desired resources with what exists, and carry out the difference step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from broker.lease import Refused
from broker.setup.resource import AnyResource, CloudAccess, Outputs, ResourceState, Step, resolve

OnDone = Callable[[Step], None]
"""Called after each step, those that change nothing included."""

State = ResourceState[Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are carried out."""

    steps: tuple[Step, ...]

    @property
    def pending(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.changes_something)

    def as_json(self) -> list[dict[str, object]]:
        """Return the steps as `--json` shows them."""
        return [
            {"do": step.kind, "what": step.title, "diff": list(step.diff), "note": step.note}
            for step in self.steps
        ]


async def read_states(
    clouds: CloudAccess, desired: Sequence[AnyResource], *, deep: bool = False
) -> tuple[State, ...]:
    """Read each resource in order; the outputs of one (its issuer, its id) are known to the next.

    Raises:
        SourceError: One could not be read.
    """
    outputs, states = Outputs(), []
    for each in desired:
        resource = resolve(each, outputs)
        actual = await resource.read(clouds, deep=deep)
        if actual is not None:
            outputs = outputs.updated(resource.outputs(actual))
        states.append(ResourceState(desired=resource, actual=actual))
    return tuple(states)


def plan_changes(states: Sequence[State]) -> Plan:
    """Return what makes every resource as desired. Pure."""
    return Plan(tuple(each.desired.diff(each.actual) for each in states))


def plan_removal(states: Sequence[State]) -> Plan:
    """Return what removes everything that `plan_changes` would have made, the last first. Pure."""
    return Plan(tuple(each.desired.removal(each.actual, states) for each in reversed(states)))


async def apply(
    plan: Plan, states: Sequence[State], clouds: CloudAccess, on_done: OnDone
) -> Outputs:
    """Carry out *plan*, made of *states*, and return all outputs.

    Each resource is read again just before it is changed.

    Raises:
        SourceError: A step failed, or is no longer what was planned; those before it are done.
    """
    outputs = Outputs()
    for step, state in zip(plan.steps, states, strict=True):
        actual = state.actual
        if step.changes_something:
            actual, outputs = await _apply(step, clouds, outputs)
        if actual is not None:
            outputs = outputs.updated(step.resource.outputs(actual))
        on_done(step)
    return outputs


async def _apply(step: Step, clouds: CloudAccess, outputs: Outputs) -> tuple[Any, Outputs]:
    """Carry out one step; return what existed before it, and all outputs after it."""
    desired = resolve(step.resource, outputs)
    actual = await desired.read(clouds)
    current = desired.diff(actual)
    _require_as_planned(replace(step, diff=resolve(step.diff, outputs)), current)
    if current.kind == "create":
        outputs = outputs.updated(await desired.create(clouds))
    elif current.kind == "change":
        await desired.update(clouds, actual)
    return actual, outputs


async def revert(plan: Plan, states: Sequence[State], clouds: CloudAccess, on_done: OnDone) -> None:
    """Carry out *plan*, a removal made of *states*, as carefully as `apply`.

    Raises:
        SourceError: As `apply`.
    """
    remaining = list(states)
    for step in plan.steps:
        desired = step.resource
        if step.changes_something:
            actual = await desired.read(clouds, deep=True)
            at = next(i for i, each in enumerate(remaining) if each.desired == desired)
            remaining[at] = replace(remaining[at], actual=actual)
            current = desired.removal(actual, remaining)
            _require_as_planned(step, current)
            if current.kind == "remove":
                await desired.delete(clouds, actual)
                remaining[at] = replace(remaining[at], actual=None)
            elif current.kind == "change":
                await desired.revert(clouds, actual)
        on_done(step)


def _require_as_planned(planned: Step, current: Step) -> None:
    """Raise where a step is not what was shown. That nothing is left to do is fine."""
    if current.kind != "keep" and (current.kind, _shown(current)) != (
        planned.kind,
        _shown(planned),
    ):
        raise Refused(
            f"{planned.title} was changed since the plan was made; run the command again",
            word="conflict",
        )


def _shown(step: Step) -> list[str]:
    """Return the difference as shown, without the command that does the step by hand."""
    return [line for line in step.diff if not line.lstrip().startswith("by hand:")]
