"""Carry out a plan, one step after the other. Prints nothing, and begins nothing that was not
planned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from broker.lease import Refused
from broker.setup.cloud import Cloud, hands_for
from broker.setup.plan import rules_of
from broker.setup.steps import Plan, Standing, Step
from broker.setup.wanted import Known, knowing

OnDone = Callable[[Step], None]
"""Told of each step that stands, the kept ones too."""


async def make(plan: Plan, standing: Sequence[Standing], cloud: Cloud, on_done: OnDone) -> Known:
    """Make everything stand, and return what is known by then. *standing* is what *plan* was made
    of. Each thing is read again just before it is changed.

    Raises:
        SourceError: A step failed, or no longer is what was planned; those before it are done.
    """
    known = Known()
    for step, stood in zip(plan.steps, standing, strict=True):
        found = stood.found
        if step.does_something:
            found, known = await _made(step, cloud, known)
        if found is not None:
            known = known.and_also(rules_of(step.resource).known(found))
        on_done(step)
    return known


async def _made(step: Step, cloud: Cloud, known: Known) -> tuple[object | None, Known]:
    """Do one step, and return what stood before it and what is known after it."""
    wanted = knowing(step.resource, known)
    hands = hands_for(cloud, wanted)
    found = await hands.read(wanted, deeply=False)
    now = rules_of(wanted).step(wanted, found)
    _must_be_as_planned(knowing(step, known), now)
    if now.kind == "create":
        known = known.and_also(await hands.create(wanted))
    elif now.kind == "change":
        await hands.change(wanted, found)
    return found, known


async def take_back(
    plan: Plan, standing: Sequence[Standing], cloud: Cloud, on_done: OnDone
) -> None:
    """Take back what *plan*, a removal made of *standing*, says. As careful as `make`.

    Raises:
        SourceError: As `make`.
    """
    left = list(standing)
    for step in plan.steps:
        wanted = step.resource
        hands = hands_for(cloud, wanted)
        if step.does_something:
            found = await hands.read(wanted, deeply=True)
            at = next(i for i, each in enumerate(left) if each.wanted == wanted)
            left[at] = replace(left[at], found=found)
            now = rules_of(wanted).removal(wanted, found, left)
            _must_be_as_planned(step, now)
            if now.kind == "remove":
                await hands.remove(wanted, found)
                left[at] = replace(left[at], found=None)
            elif now.kind == "change":
                await hands.take_back(wanted, found)
        on_done(step)


def _must_be_as_planned(planned: Step, now: Step) -> None:
    """Raise where a step is not what was shown. That nothing is left to do is no surprise."""
    if now.kind != "keep" and (now.kind, _shown(now)) != (planned.kind, _shown(planned)):
        raise Refused(
            f"{planned.title} was changed since the plan was made; run the command again",
            word="conflict",
        )


def _shown(step: Step) -> list[str]:
    """Return the difference as it was shown, without what is said beside it for doing by hand."""
    return [line for line in step.diff if not line.lstrip().startswith("by hand:")]
