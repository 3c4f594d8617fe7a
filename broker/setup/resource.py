"""What every kind of resource offers: reading, comparing, making, changing and removing it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from typing import Any, Generic, Literal, TypeVar

from broker.clock import Clock
from broker.setup.aws import AwsApi
from broker.setup.namespace import NamespaceTrust

T = TypeVar("T")
A = TypeVar("A")
"""What is found in a cloud of one kind of resource."""

TAG_KEY, TAG_VALUE = "managed-by", "namespace-broker"
"""On every provider, role and pool that we make: it marks what `setup remove` may delete."""

StepKind = Literal["create", "change", "keep", "remove"]


class Placeholder(Enum):
    """A text that only AWS can say, and only once the resource exists; see `resolve`."""

    ISSUER = "<issuer of the account>"
    POOL_ID = "<id of the pool>"
    POOL_GUID = "<guid of the pool>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """What AWS says once a resource exists; None until then. ``pool_id`` is ``region:guid``."""

    issuer: str | None = None
    pool_id: str | None = None

    def updated(self, newer: Outputs) -> Outputs:
        return Outputs(issuer=newer.issuer or self.issuer, pool_id=newer.pool_id or self.pool_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudAccess:
    """What resources are read and changed through.

    ``admits`` tries to exchange a token under a trust; it is called where the trust itself
    cannot be read.
    """

    aws: AwsApi
    clock: Clock
    namespace: NamespaceTrust | None = None
    admits: Callable[[Resource[Any]], Awaitable[bool]] | None = None

    @property
    def workspace(self) -> NamespaceTrust:
        assert self.namespace is not None, "only setup to-namespace has resources at Namespace"
        return self.namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One resource, and what happens to it.

    ``title`` is the resource as a person knows it ("role deploy"); ``diff`` are lines that begin
    with ``+``, ``-`` or a blank; ``note`` says in one line what else is worth knowing.
    """

    kind: StepKind
    resource: Resource[Any]
    title: str
    diff: tuple[str, ...] = ()
    note: str = ""

    @property
    def changes_something(self) -> bool:
        return self.kind != "keep"


class Resource(ABC, Generic[A]):
    """A desired resource: its fields say how it should be, its methods bring it there.

    *actual* is what `read` found, None where there is nothing. Every method that calls a cloud
    raises `SourceError`, with one line that says what to do next. A subclass overrides only the
    operations that its kind has.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def title(self) -> str:
        """The resource as a person knows it."""

    @abstractmethod
    async def read(self, clouds: CloudAccess, *, deep: bool = False) -> A | None:
        """Return what exists. *deep*: also what a removal has to know, such as other users."""

    @abstractmethod
    def diff(self, actual: A | None) -> Step:
        """Return the step that makes *actual* do for what is desired. Pure."""

    @abstractmethod
    def removal(self, actual: A | None, others: Sequence[ResourceState[Any]]) -> Step:
        """Return the step that removes what we made; *others* are removed with it. Pure."""

    def outputs(self, actual: A) -> Outputs:
        """Return what later resources have to know of this one."""
        return Outputs()

    @abstractmethod
    async def create(self, clouds: CloudAccess) -> Outputs:
        """Make it. That it exists by now is no error."""

    async def update(self, clouds: CloudAccess, actual: A) -> None:
        """Change what exists so that it does for what is desired."""

    async def delete(self, clouds: CloudAccess, actual: A) -> None:
        """Delete it. That it is gone by now is no error."""

    async def revert(self, clouds: CloudAccess, actual: A) -> None:
        """Take our part out of what exists, where the rest is not ours to delete."""

    def step(
        self, kind: StepKind, *notes: str, diff: Iterable[str] = (), title: str | None = None
    ) -> Step:
        return Step(
            kind=kind,
            resource=self,
            title=title or self.title,
            diff=tuple(diff),
            note="; ".join(filter(None, notes)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceState(Generic[A]):
    """A desired resource, and what exists in its place."""

    desired: Resource[A]
    actual: A | None


AnyResource = Resource[Any]


def resolve(value: T, outputs: Outputs) -> T:
    """Return *value* (a resource, or anything in one) with known outputs for placeholders."""
    known = {
        Placeholder.ISSUER.value: outputs.issuer,
        Placeholder.POOL_ID.value: outputs.pool_id,
        Placeholder.POOL_GUID.value: (outputs.pool_id or "").partition(":")[2],
    }
    resolved: T = _resolved(value, {name: text for name, text in known.items() if text})
    return resolved


def _resolved(value: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for placeholder, text in texts.items():
            value = value.replace(placeholder, text)
        return value
    if isinstance(value, Mapping):
        return {key: _resolved(one, texts) for key, one in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_resolved(one, texts) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in fields(value)]
        return replace(value, **{name: _resolved(getattr(value, name), texts) for name in names})
    return value
