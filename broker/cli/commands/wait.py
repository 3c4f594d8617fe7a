"""`wait`: wait until the running broker is ready."""

from __future__ import annotations

import sys
import time

from broker.cli import control_client
from broker.cli.control_client import unknown_role
from broker.cli.errors import Failure
from broker.cli.parser import RUNTIME_DIR, SECONDS, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from broker.cli.control_client import Reply
    from broker.cli.parser import Options

DESCRIPTION = """Wait until the running broker has every configured lease.

Exit code 0 once it is ready, 1 after the time limit, 2 for an unknown role. For scripts that start
the broker, and, with --timeout 0, for health checks.

    namespace-broker run --role-arn arn:aws:iam::123456789012:role/deploy &
    namespace-broker wait && eval "$(namespace-broker env)"
"""

FLAGS = (
    Flag(
        "timeout",
        "Give up after this long; 0 asks once.",
        kind=SECONDS,
        metavar="SECONDS",
        default=60.0,
    ),
    Flag("role", "Wait for this role only.", metavar="NAME"),
    RUNTIME_DIR,
)

PAUSE_S = 0.1
PROGRESS_AFTER_S = 2.0
SHORTEST_ASK_S = 2.0


def run(options: Options) -> int:
    timeout_s = options.seconds("timeout") or 0.0
    deadline = time.monotonic() + timeout_s
    progress = Progress()
    while True:
        left_s = deadline - time.monotonic()
        reason = unready(
            options, limit_s=min(control_client.ASK_LIMIT_S, max(left_s, SHORTEST_ASK_S))
        )
        if reason is None:
            return 0
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise reason
        progress.waits_for(str(reason).removeprefix("--timeout: "))
        time.sleep(min(PAUSE_S, left_s))


class Progress:
    """Print what is waited for, after two seconds and when it changes."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._printed = ""

    def waits_for(self, reason: str) -> None:
        if time.monotonic() - self._begun < PROGRESS_AFTER_S or reason == self._printed:
            return
        self._printed = reason
        text = "".join(c if c.isprintable() else " " for c in reason)
        print(f"namespace-broker: waiting: {text}", file=sys.stderr, flush=True)


def unready(options: Options, *, limit_s: float) -> Failure | None:
    """Return why the broker is not ready, or None where it is.

    Raises:
        Misuse: It has no such role.
    """
    role = options.text("role")
    try:
        reply = control_client.ask(
            "/v1/ready", options.text("runtime-dir"), {"role": role}, limit_s=limit_s
        )
    except Failure as failure:
        return failure
    if reply.status == 200:
        return None
    if reply.status == 404 and role is not None:
        raise unknown_role(role, reply)
    return Failure(
        "--timeout", f"the broker is not ready: {waiting_for(reply)}", "see namespace-broker status"
    )


def waiting_for(reply: Reply) -> str:
    """Return the missing leases, by name and state."""
    leases = reply.document.get("leases")
    if not isinstance(leases, list):
        return reply.message
    absent = [
        f"{lease.get('name')} is {lease.get('state')}"
        for lease in leases
        if lease.get("state") not in ("live", "unavailable")
    ]
    return ", ".join(absent) or "it has not started serving yet"
