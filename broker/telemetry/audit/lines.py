"""Audit entries, and the JSON lines that they become."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Literal

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A credential or token that was served or refused; None is not known or not applicable.

    ``folded`` is the number of refusals of one caller that the entry stands for.
    """

    at: datetime
    outcome: Literal["served", "refused"]
    kind: Kind
    surface: str
    role: str | None = None
    rule: str | None = None
    caller: Caller = field(default_factory=Caller)
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


def entry_of(exchange: Exchange, *, at: datetime) -> Entry | None:
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
        at=at,
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
    caller = entry.caller
    return _json_line(
        {
            "time": _time(entry.at),
            "outcome": entry.outcome,
            "kind": entry.kind,
            "surface": entry.surface,
            "role": _cut(entry.role),
            "rule": _cut(entry.rule),
            "uid": caller.uid,
            "gid": caller.gid,
            "user": _cut(details.user),
            "pid": details.pid if caller.pid is None else caller.pid,
            "exe": _cut(details.exe),
            "unit": _cut(caller.unit),
            "user_unit": _cut(caller.user_unit),
            "container": _cut(caller.container),
            "caller_token": _cut(entry.caller_token),
            "address": _cut(caller.address),
            "user_agent": _cut(entry.user_agent),
            "key_id_last4": None if entry.key_id_last4 is None else entry.key_id_last4[-4:],
            "expires_at": None if entry.expires_at is None else rfc3339(entry.expires_at),
            "reason": _cut(entry.reason),
            **({} if entry.folded is None else {"folded": entry.folded}),
        }
    )


def line_of_gap(gap: Gap) -> bytes:
    """Return the line for missing entries: all `KEYS`, and ``dropped``, their number."""
    known = {"time": _time(gap.at), "reason": "audit-dropped", "dropped": gap.dropped}
    return _json_line({**dict.fromkeys(KEYS), **known})


def _json_line(members: Mapping[str, object]) -> bytes:
    # The one control character that JSON leaves as it is.
    text = json.dumps(members).replace("\x7f", "\\u007f")
    return text.encode("ascii") + b"\n"


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= MAX_CHARACTERS:
        return text
    return text[:MAX_CHARACTERS]


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
