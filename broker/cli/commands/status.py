"""`status`: show the running broker's leases, for a person or a program."""

import json
import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from broker.cli import control_client
from broker.cli.control_client import Reply, denied, unknown_role
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
    Flag("role", "Show only this role, by its name, and its lease.", metavar="NAME"),
    Flag("watch", "Refresh every 2 seconds until Ctrl-C.", kind=SWITCH),
    JSON,
    RUNTIME_DIR,
)

PAUSE_S = 2.0
WIDTH = 100
"""Of what is printed to no terminal."""
# A screen of its own, as pagers have: what is on the terminal stays.
SCREEN, NO_SCREEN, TO_THE_TOP = "\x1b[?1049h", "\x1b[?1049l", "\x1b[H\x1b[J"
COLOURS = {"live": 32, "starting": 36, "unavailable": 33, "refused": 31, "expired": 31}


def run(options: Options) -> int:
    if not options.switch("watch"):
        sys.stdout.write(drawn(options))
        return 0
    on_terminal = sys.stdout.isatty()
    try:
        sys.stdout.write(SCREEN if on_terminal else "")
        watch(options, clear=TO_THE_TOP if on_terminal else "")
    except KeyboardInterrupt:
        return 0
    finally:
        sys.stdout.write(NO_SCREEN if on_terminal else "")
    raise AssertionError("watching ends only by Ctrl-C")


def watch(options: Options, *, clear: str) -> None:
    """Draw again and again, also while the broker is away: it may come back."""
    text = drawn(options)
    while True:
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
    status = reply.document
    if (role := options.text("role")) is not None:
        status = only(status, role, reply)
    if options.switch("json"):
        return json.dumps(status, indent=None if options.switch("watch") else 2) + "\n"
    return table(status, now=datetime.now(UTC), paint=painter())


def only(status: Mapping[str, Any], role: str, reply: Reply) -> dict[str, Any]:
    """Return the part of the status that is about one role.

    Raises:
        Misuse: There is no such role.
    """
    leases = [lease for lease in status.get("leases", []) if lease.get("name") == f"role/{role}"]
    if not leases:
        raise unknown_role(role, reply)
    last_used = status.get("last_used")
    uses = None if last_used is None else {role: last_used.get(role)}
    return {**status, "leases": leases, "roles": [role], "last_used": uses}


def painter() -> Callable[[str, str], str]:
    """Return what colours a text by a state: on a terminal, unless ``NO_COLOR`` is set."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return lambda text, state: text
    return lambda text, state: f"\x1b[{COLOURS.get(state, 0)}m{text}\x1b[0m"


def table(status: Mapping[str, Any], *, now: datetime, paint: Callable[[str, str], str]) -> str:
    """Return the status as text: the broker, its leases, reasons, roles and rules."""
    ready = "ready" if status.get("ready") else "not ready"
    region = status.get("region") or "no region"
    head = f"namespace-broker {status.get('version')} (pid {status.get('pid')}): {ready}, {region}"
    problems = [
        printable(f"problem: {problem.get('name')}: {problem.get('reason')}") + "\n"
        for problem in status.get("problems") or []
    ]
    tables = [lease_table(status, now=now, paint=paint)]
    if reasons := reason_lines(status):
        tables.append("".join(f"{line}\n" for line in reasons))
    if uses := used_rows(status, now=now):
        tables.append(columns(["ROLE", "LAST USED", "BY", "RULE"], uses))
    if rules := rule_rows(status, now=now):
        tables.append(columns(["RULE", "MATCHED", "LAST"], rules))
    return f"{printable(head)}\n{''.join(problems)}\n" + "\n".join(tables)


def lease_table(
    status: Mapping[str, Any], *, now: datetime, paint: Callable[[str, str], str]
) -> str:
    leases = status.get("leases", [])
    rows = [
        [
            marked(lease, default_role=status.get("default_role")),
            str(lease.get("state")),
            until(lease.get("expires_at"), now=now),
            until(lease.get("renews_at"), now=now),
        ]
        for lease in leases
    ]
    header, *lines = columns(["LEASE", "STATE", "EXPIRES IN", "RENEWS IN"], rows).splitlines()
    # Painted when aligned: a colour has no width.
    painted = [
        line.replace(f"  {row[1]}", f"  {paint(row[1], row[1])}", 1)
        for line, row in zip(lines, rows, strict=True)
    ]
    return "".join(f"{line}\n" for line in (header, *painted))


def reason_lines(status: Mapping[str, Any]) -> list[str]:
    """Return why leases are not live, wrapped to the terminal's width."""
    leases = status.get("leases", [])
    reasons = without_repeats(
        (str(lease.get("name")), str(lease.get("reason") or lease.get("error") or ""))
        for lease in leases
    )
    width = shutil.get_terminal_size((WIDTH, 24)).columns
    return [
        line
        for lease, reason in zip(leases, reasons, strict=True)
        if reason
        for line in textwrap.wrap(
            printable(f"{lease.get('name')}: {reason}"),
            width,
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def used_rows(status: Mapping[str, Any], *, now: datetime) -> list[list[str]]:
    """Return a row for each role: who used it last; none where the broker does not say."""
    last_used = status.get("last_used")
    if last_used is None:
        return []
    leases = [str(lease.get("name")) for lease in status.get("leases", [])]
    ordered = [name.removeprefix("role/") for name in leases if name.startswith("role/")]
    known = {*status.get("roles", []), *last_used}
    roles = dict.fromkeys([*(role for role in ordered if role in known), *sorted(known)])
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
