"""`token`: facts about the Namespace token, the token itself, or an ID token."""

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from broker.cli import control_client
from broker.cli.commands.status import until
from broker.cli.control_client import Reply
from broker.cli.errors import Failure, Misuse, NotRunning
from broker.cli.output import printable
from broker.cli.parser import CONFIG, JSON, RUNTIME_DIR, SWITCH, Flag, Options

DESCRIPTION = """Tell about the Namespace token that the running broker holds: whose it is, and
until when. Where no broker runs, one is obtained once, from where the broker would have it.

    namespace-broker token
    curl -H "Authorization: Bearer $(namespace-broker token --show)" ...

With --audience, an ID token of Namespace is printed, for whoever trusts those:

    namespace-broker token --audience sts.amazonaws.com
"""

FLAGS = (
    Flag("show", "Print the token itself.", kind=SWITCH),
    Flag("audience", "Print an ID token for this audience.", metavar="AUDIENCE"),
    Flag(
        "identity",
        "Whose, by its name. Default: the first that is handed on.",
        metavar="NAME",
    ),
    JSON,
    CONFIG,
    RUNTIME_DIR,
)

KINDS = {"nsct": "tenant", "nscw": "workload", "nsrt": "revocable"}
FACTS = ("identity", "kind", "tenant_id", "instance_id", "expires_at")


def run(options: Options) -> int:
    if options.text("audience") is not None:
        return show_id_token(options)
    try:
        token = held(options, "/v1/namespace-token", identity=options.text("identity"))
    except NotRunning:
        from broker.cli.offline import namespace_token_once

        token = namespace_token_once(options)
    facts = {name: token.get(name) for name in FACTS}
    facts["kind"] = KINDS.get(str(facts["kind"]), facts["kind"])
    if options.switch("show"):
        facts["token"] = shown(token)
    if options.switch("json"):
        print(json.dumps(facts, indent=2))
    elif options.switch("show"):
        print(facts["token"])
    else:
        sys.stdout.write(described(facts, now=datetime.now(UTC)))
    return 0


def show_id_token(options: Options) -> int:
    audience = options.text("audience")
    try:
        token = held(options, "/v1/id-token", audience=audience)
        if options.text("identity") is not None:
            raise Misuse(
                "--identity", "the running broker says whose its ID tokens are", "leave it out"
            )
    except NotRunning:
        from broker.cli.offline import id_token_once

        token = id_token_once(options)
    if options.switch("json"):
        print(json.dumps({name: token.get(name) for name in ("token", "expires_at")}, indent=2))
    else:
        print(token["token"])
    return 0


def held(options: Options, path: str, **wanted: str | None) -> Mapping[str, Any]:
    """Return what the running broker answers.

    Raises:
        NotRunning, Failure: None runs; or it has none, or none for us.
    """
    reply = control_client.ask(path, options.text("runtime-dir"), wanted)
    if reply.status != 200:
        raise denied(reply, **wanted)
    return reply.document


def denied(reply: Reply, **wanted: str | None) -> Failure:
    flag = next((f"--{name}" for name, text in wanted.items() if text is not None), "token")
    if reply.status == 404:
        return Failure(flag, reply.message, "see namespace-broker status")
    if "audience" in wanted:
        return Failure(flag, reply.message, "the broker's configuration may name it in id_tokens")
    return Failure(flag, reply.message, "the owner of the broker may grant it")


def shown(token: Mapping[str, Any]) -> str:
    if not token.get("token"):
        raise Failure(
            "--show",
            f"the broker does not hand on the token of {token.get('identity')}",
            "its configuration may, by namespace_tokens",
        )
    return str(token["token"])


def described(facts: Mapping[str, Any], *, now: datetime) -> str:
    """Return the facts as lines of a name and a value."""
    ends = facts["expires_at"]
    rows = {
        "identity": facts["identity"],
        "kind": facts["kind"],
        "workspace": facts["tenant_id"] or "unknown",
        "instance": facts["instance_id"] or "none",
        "expires": f"{ends} (in {until(ends, now=now)})" if ends else "by revocation",
    }
    return "".join(f"{name:<11}{printable(str(value))}\n" for name, value in rows.items())
