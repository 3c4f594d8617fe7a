"""How things in a cloud are read, made, changed and taken back: the protocol that planning and
doing are written against. Names no cloud."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from broker.setup.plan import rules_of
from broker.setup.steps import Standing
from broker.setup.wanted import Known, Wanted, knowing


class Hands(Protocol):
    """What handles one kind of thing. Each method raises `SourceError` with one line that says
    what to do next.

    ``found`` is a value of the kind's own type, such as `providers.FoundProvider`.
    """

    async def read(self, wanted: Any, *, deeply: bool) -> Any | None:
        """Return what stands, None where nothing does. *deeply*: also what taking it back has to
        know, such as who else uses it."""

    async def create(self, wanted: Any) -> Known:
        """Make it, and return what is known by that. That it stands by now is no error."""

    async def change(self, wanted: Any, found: Any) -> None:
        """Make what stands do for what is wanted."""

    async def remove(self, wanted: Any, found: Any) -> None:
        """Take it away. That it is gone by now is no error."""

    async def take_back(self, wanted: Any, found: Any) -> None:
        """Change what stands to what it would be without us, where it is not ours to take away."""


Cloud = Mapping[type, Hands]
"""By the type of what is wanted."""


def hands_for(cloud: Cloud, wanted: Wanted) -> Hands:
    return cloud[type(wanted)]


async def standing_in(
    cloud: Cloud, wanted: Sequence[Wanted], *, deeply: bool = False
) -> tuple[Standing, ...]:
    """Read what stands for each thing that is wanted, in their order: what one says (its issuer,
    its id) is known to those after it.

    Raises:
        SourceError: One could not be read.
    """
    known, read = Known(), []
    for each in wanted:
        told = knowing(each, known)
        found = await hands_for(cloud, told).read(told, deeply=deeply)
        if found is not None:
            known = known.and_also(rules_of(told).known(found))
        read.append(Standing(wanted=told, found=found))
    return tuple(read)
