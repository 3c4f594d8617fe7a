"""Requests and answers as the surfaces see them, without HTTP library or socket."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Literal, Protocol

from broker.access.caller import Caller

NO_HEADERS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    Header names are lower case, in the order of arrival, repeated ones too; ``path`` is
    percent-decoded and without query; ``query`` is the raw text after ``?``.
    """

    method: str
    path: str
    query: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    http_version: tuple[int, int] = (1, 1)
    authority: str | None = None

    def header(self, name: str) -> str | None:
        """Return the first header of that lower-case name."""
        return next((value for key, value in self.headers if key == name), None)

    def all(self, name: str) -> tuple[str, ...]:
        """Return every header of that lower-case name, for those that must come once."""
        return tuple(value for key, value in self.headers if key == name)


Kind = Literal["aws", "namespace-token", "id-token"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """What an answer hands out, without the thing itself; of an answer that refuses, its kind."""

    kind: Kind
    key_id_last4: str | None = None
    expires_at: datetime | None = None


Attempt = Callable[[], Awaitable[None]]
"""Waits for the end of one attempt to obtain a lease."""


@dataclass(frozen=True, slots=True)
class Pending:
    """An attempt to obtain the lease that an answer lacks, and how long a client may wait for it.

    SDKs that get a refusal do not ask again for minutes, so none is sent that the attempt may make
    untrue.
    """

    attempt: Attempt
    within_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer.

    ``route``, ``role``, ``refusal``, ``issued``, ``rule`` and ``caller_token`` are for our own
    channels (metrics, log, audit) and never on the wire: the route's fixed label, the role's
    configured name or ``none``, a fixed word for why the caller was refused, what the body holds,
    the rule that decided and the name of the token that was presented.
    """

    status: int
    body: bytes = field(default=b"", repr=False)
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
    route: str = "other"
    role: str = "none"
    refusal: str | None = None
    issued: Issued | None = None
    rule: str | None = None
    caller_token: str | None = None
    close: bool = False
    """Close the connection without a byte instead of answering."""
    pending: Pending | None = None
    """Wait for this, then ask the surface once more."""
    unchanged_until: datetime | None = None
    """Until when the same request of the same caller gets this very answer, as long as leases,
    rules and tokens stay as they are; None where that cannot be said."""


class Surface(Protocol):
    """A way out, as a function of what is asked and who asks. Answers from memory."""

    name: str

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer: ...

    def nothing_to_serve(self) -> Answer:
        """Return "nothing to serve" in the surface's form, for when `answer` fails (C-11, C-71)."""

    def bad_request(self) -> Answer:
        """Return the answer to what is not HTTP."""

    def head_too_long(self) -> Answer:
        """Return the answer to a request whose head is longer than the limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request and its answer, for log, metrics and audit."""

    surface: str
    request: Request
    caller: Caller
    answer: Answer
    at: datetime
    took_s: float
