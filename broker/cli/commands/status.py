"""`status`: show the running broker's leases, for a person or a program."""

import json
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from broker.cli import control_client
from broker.cli.control_client import denied
from broker.cli.errors import Failure
from broker.cli.output import columns, printable, span, without_repeats
from broker.cli.parser import JSON, RUNTIME_DIR, SWITCH, Flag, Options

DESCRIPTION = """Show the running broker's leases with state and expiry, who last used each role,
and how often each rule matched since the start.

States: live; unavailable (renewal fails, the old lease is still valid); refused (something must be
changed: the reason says what); starting; expired.

    namespace-broker status --watch
    namespace-broker status --json | jq -r '.leases[].state'
"""

FLAGS = (
    Flag("watch", "Refresh every 2 seconds until Ctrl-C.", kind=SWITCH),
    JSON,
    RUNTIME_DIR,
)

PAUSE_S = 2.0
TO_THE_TOP_AND_CLEAR = "\x1b[H\x1b[2J\x1b[3J"


def run(options: Options) -> int:
    if not options.switch("watch"):
        sys.stdout.write(drawn(options))
        return 0
    try:
        watch(options)
    except KeyboardInterrupt:
        return 0
    raise AssertionError("watching ends only by Ctrl-C")


def watch(options: Options) -> None:
    """Draw again and again, also while the broker is away: it may come back."""
    text = drawn(options)
    while True:
        clear = TO_THE_TOP_AND_CLEAR if sys.stdout.isatty() else ""
        sys.stdout.write(clear + text)
        sys.stdout.flush()
        time.sleep(PAUSE_S)
        try:
            text = drawn(options)
        except Failure as failure:
            text = f"{failure.line}\n"


def drawn(options: Options) -> str:
    reply = control_client.ask("/v1/status", options.text("runtime-dir"), {})
    if reply.status != 200:
        raise denied(reply, None)
    if options.switch("json"):
        return json.dumps(reply.document, indent=None if options.switch("watch") else 2) + "\n"
    return table(reply.document, now=datetime.now(UTC))


def table(status: Mapping[str, Any], *, now: datetime) -> str:
    """Return the status as text: a line for the broker, then one for each lease, role and rule."""
    ready = "ready" if status.get("ready") else "not ready"
    region = status.get("region") or "no region"
    head = f"namespace-broker {status.get('version')} (pid {status.get('pid')}): {ready}, {region}"
    problems = [
        printable(f"problem: {problem.get('name')}: {problem.get('reason')}") + "\n"
        for problem in status.get("problems") or []
    ]
    leases = status.get("leases", [])
    reasons = without_repeats(
        (str(lease.get("name")), str(lease.get("reason") or lease.get("error") or ""))
        for lease in leases
    )
    rows = [
        [
            marked(lease, default_role=status.get("default_role")),
            str(lease.get("state")),
            until(lease.get("expires_at"), now=now),
            until(lease.get("renews_at"), now=now),
            reason,
        ]
        for lease, reason in zip(leases, reasons, strict=True)
    ]
    tables = [columns(["LEASE", "STATE", "EXPIRES IN", "RENEWS IN", "REASON"], rows)]
    if uses := used_rows(status, now=now):
        tables.append(columns(["ROLE", "LAST USED", "BY", "RULE"], uses))
    if rules := rule_rows(status, now=now):
        tables.append(columns(["RULE", "MATCHED", "LAST"], rules))
    return f"{printable(head)}\n{''.join(problems)}\n" + "\n".join(tables)


def used_rows(status: Mapping[str, Any], *, now: datetime) -> list[list[str]]:
    """Return a row for each role: who used it last; none where the broker does not say."""
    last_used = status.get("last_used")
    if last_used is None:
        return []
    roles = dict.fromkeys([*status.get("roles", []), *last_used])
    return [used_row(role, last_used.get(role), now=now) for role in roles]


def used_row(role: str, use: Mapping[str, Any] | None, *, now: datetime) -> list[str]:
    if use is None:
        return [role, "never", "-", "-"]
    return [role, since(use.get("at"), now=now), user_of(use), str(use.get("rule") or "-")]


def user_of(use: Mapping[str, Any]) -> str:
    """Return the user and where it ran, or the address of a caller from elsewhere."""
    uid, user = use.get("uid"), use.get("user")
    if uid is None:
        return str(use.get("address") or "unknown")
    name = f"uid {uid}" if user is None else f"{user} (uid {uid})"
    container = use.get("container")
    places = (container and f"container {str(container)[:12]}", use.get("unit"))
    return ", ".join([name, *(str(place) for place in places if place)])


def rule_rows(status: Mapping[str, Any], *, now: datetime) -> list[list[str]]:
    return [
        [
            str(rule.get("name")),
            str(rule.get("matched") or "never"),
            since(rule.get("last_matched_at"), now=now),
        ]
        for rule in status.get("rules") or []
    ]


def marked(lease: Mapping[str, Any], *, default_role: object) -> str:
    name = str(lease.get("name"))
    return f"{name} (default)" if name == f"role/{default_role}" else name


def until(at: object, *, now: datetime) -> str:
    """Return the time until an RFC 3339 instant; a dash where there is none."""
    instant = instant_of(at)
    if instant is None:
        return "-"
    left_s = (instant - now).total_seconds()
    return span(left_s) if left_s > 0 else "now"


def since(at: object, *, now: datetime) -> str:
    """Return the time since an RFC 3339 instant; a dash where there is none."""
    instant = instant_of(at)
    return "-" if instant is None else f"{span(max(0.0, (now - instant).total_seconds()))} ago"


def instant_of(at: object) -> datetime | None:
    try:
        instant = datetime.fromisoformat(str(at))
    except ValueError:
        return None
    return None if instant.tzinfo is None else instant
