"""A plan as values: what is to be done to what, and how that differs from what stands. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from broker.setup.wanted import Wanted

StepKind = Literal["create", "change", "keep", "remove"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One thing that is wanted, and what stands in its place: a value of its kind's own ``Found``
    type, None where nothing does."""

    wanted: Wanted
    found: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing, and what happens to it.

    ``title`` is the thing as a person knows it ("role deploy"); ``diff`` are lines that begin with
    ``+``, ``-`` or a blank; ``note`` says in one line what else is worth knowing.
    """

    kind: StepKind
    resource: Wanted
    title: str
    diff: tuple[str, ...] = ()
    note: str = ""

    @property
    def does_something(self) -> bool:
        return self.kind != "keep"


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...]

    @property
    def to_do(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.does_something)

    def told(self) -> list[dict[str, object]]:
        """Return the steps as `--json` shows them."""
        return [
            {"do": step.kind, "what": step.title, "diff": list(step.diff), "note": step.note}
            for step in self.steps
        ]
