"""Audit entries, and the JSON lines that they become."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, NamedTuple

from broker.access.caller import Caller
from broker.clock import rfc3339
from broker.http.message import Answer, Exchange, Kind

MAX_CHARACTERS = 200
"""Of a value; the rest is cut off."""

KEYS = (
    *("time", "outcome", "kind", "surface", "role", "rule"),
    *("uid", "gid", "user", "pid", "exe", "unit", "user_unit", "container"),
    *("caller_token", "address", "user_agent", "key_id_last4", "expires_at", "reason"),
)
"""Of every line, in this order: the interface's, and ``user_unit``, a name that the caller's user
chose."""

_REST = ", ".join(f'"{key}": %s' for key in KEYS[1:])

KIND_BY_ROUTE: Mapping[str, Kind] = MappingProxyType(
    {
        "credentials": "aws",
        "role-list": "aws",
        "container": "aws",
        "client": "aws",
        "token-spec": "namespace-token",
        "namespace-token": "namespace-token",
        "id-token": "id-token",
    }
)
"""Credential kind of a refused request, by route."""


class Entry(NamedTuple):
    """A credential or token that was served or refused; None is not known or not applicable.

    ``folded`` is the number of refusals of one caller that the entry stands for.
    """

    at: datetime
    outcome: Literal["served", "refused"]
    kind: Kind
    surface: str
    role: str | None = None
    rule: str | None = None
    caller: Caller = Caller()
    caller_token: str | None = None
    user_agent: str | None = None
    key_id_last4: str | None = None
    expires_at: datetime | None = None
    reason: str | None = None
    folded: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Stands for entries that are missing from the log, from before ``at``."""

    at: datetime
    dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerDetails:
    """A caller's user and process, where they could be looked up."""

    user: str | None = None
    pid: int | None = None
    exe: str | None = None


UNKNOWN = CallerDetails()


def entry_of(exchange: Exchange) -> Entry | None:
    """Return the entry for *exchange*, None when nothing was served or refused.

    That is so for session tokens, metadata, leases that are not ready, and HEAD requests.
    """
    answer, request = exchange.answer, exchange.request
    outcome, kind = _outcome(answer, is_head=request.method == "HEAD")
    if outcome is None or kind is None:
        return None
    issued = answer.issued
    agent = request.header("user-agent")
    return Entry(
        at=exchange.at,
        outcome=outcome,
        kind=kind,
        surface=exchange.surface,
        role=None if answer.role == "none" else answer.role,
        rule=answer.rule,
        caller=exchange.caller,
        caller_token=answer.caller_token,
        user_agent=None if agent is None else agent[:MAX_CHARACTERS],
        key_id_last4=issued.key_id_last4 if issued else None,
        expires_at=issued.expires_at if issued else None,
        reason=answer.refusal,
    )


def _outcome(
    answer: Answer, *, is_head: bool
) -> tuple[Literal["served", "refused"] | None, Kind | None]:
    if answer.refusal is not None:
        kind = answer.issued.kind if answer.issued else KIND_BY_ROUTE.get(answer.route)
        return "refused", kind
    if answer.issued is None or is_head:
        return None, None
    return "served", answer.issued.kind


def line_of(entry: Entry, *, details: CallerDetails = UNKNOWN) -> bytes:
    """Return *entry* as one line of JSON, with all `KEYS`.

    ASCII, control characters escaped, values cut at 200 characters, times as RFC 3339.

    Source: interface, "Audit line".
    """
    return line_with(entry.at, rest_of_line(entry, details))


def line_with(at: datetime, rest: str) -> bytes:
    return f'{{"time": "{_time(at)}", {rest}'.encode("ascii")


def rest_of_line(entry: Entry, details: CallerDetails) -> str:
    """Return the line without its time: on a kept connection it is often that of the last one."""
    caller = entry.caller
    values = (
        _text(entry.outcome),
        _text(entry.kind),
        _text(entry.surface),
        _text(entry.role),
        _text(entry.rule),
        _number(caller.uid),
        _number(caller.gid),
        _text(details.user),
        _number(details.pid if caller.pid is None else caller.pid),
        _text(details.exe),
        _text(caller.unit),
        _text(caller.user_unit),
        _text(caller.container),
        _text(entry.caller_token),
        _text(caller.address),
        _text(entry.user_agent),
        _text(None if entry.key_id_last4 is None else entry.key_id_last4[-4:]),
        _instant(entry.expires_at),
        _text(entry.reason),
    )
    folded = "" if entry.folded is None else f', "folded": {entry.folded}'
    return f"{_REST % values}{folded}}}\n"


def line_of_gap(gap: Gap) -> bytes:
    """Return the line for missing entries: all `KEYS`, and ``dropped``, their number."""
    known = {"time": _time(gap.at), "reason": "audit-dropped", "dropped": gap.dropped}
    return json.dumps({**dict.fromkeys(KEYS), **known}).encode("ascii") + b"\n"


# Most values of a line were in the one before it too.
@lru_cache(maxsize=512)
def _text(value: str | None) -> str:
    """Return a value as JSON, cut."""
    cut = None if value is None else value[:MAX_CHARACTERS]
    # The one control character that JSON leaves as it is.
    return json.dumps(cut).replace("\x7f", "\\u007f")


def _number(value: int | None) -> str:
    return "null" if value is None else str(value)


@lru_cache(maxsize=64)
def _instant(at: datetime | None) -> str:
    return "null" if at is None else f'"{rfc3339(at)}"'


def _time(at: datetime) -> str:
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds")[:-6] + "Z"
