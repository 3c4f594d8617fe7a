"""`token`: show the Namespace token's details, the token itself, or an ID token."""

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

DESCRIPTION = """Show the workspace, kind and expiry of the running broker's Namespace token.

Where no broker runs, one is obtained once, as the broker would.

    namespace-broker token
    curl -H "Authorization: Bearer $(namespace-broker token --show)" ...

With --audience, print an ID token of Namespace for services that trust those:

    namespace-broker token --audience sts.amazonaws.com
"""

FLAGS = (
    Flag("show", "Print the token itself.", kind=SWITCH),
    Flag("audience", "Print an ID token for this audience.", metavar="AUDIENCE"),
    Flag(
        "identity",
        "The identity, by its name. Default: the first whose token is exported.",
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
    if facts["tenant_id"] is None and token.get("token"):
        from broker.cli.offline import workspace_of

        facts["tenant_id"] = workspace_of(str(token["token"]))
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
                "--identity", "has no effect on the running broker's ID tokens", "leave it out"
            )
    except NotRunning:
        from broker.cli.offline import id_token_once

        token = id_token_once(options)
    if options.switch("json"):
        print(json.dumps({name: token.get(name) for name in ("token", "expires_at")}, indent=2))
    else:
        print(token["token"])
    return 0


def held(options: Options, path: str, **query: str | None) -> Mapping[str, Any]:
    """Return the running broker's answer.

    Raises:
        NotRunning, Failure: None runs; or it has no such token, or none for this caller.
    """
    reply = control_client.ask(path, options.text("runtime-dir"), query)
    if reply.status != 200:
        raise denied(reply, **query)
    return reply.document


def denied(reply: Reply, **query: str | None) -> Failure:
    flag = next((f"--{name}" for name, text in query.items() if text is not None), "token")
    if reply.status == 404:
        return Failure(flag, reply.message, "see namespace-broker status")
    if "audience" in query:
        return Failure(flag, reply.message, "name it under id_tokens in the broker's configuration")
    return control_client.no_access(" to the Namespace token")


def shown(token: Mapping[str, Any]) -> str:
    if not token.get("token"):
        raise Failure(
            "--show",
            f"the broker does not export the token of {token.get('identity')}",
            "name it under namespace_tokens in the broker's configuration",
        )
    return str(token["token"])


def described(facts: Mapping[str, Any], *, now: datetime) -> str:
    """Return the facts as text, one line each."""
    ends = facts["expires_at"]
    rows = {
        "identity": facts["identity"],
        "kind": facts["kind"],
        "workspace": facts["tenant_id"] or "unknown",
        "instance": facts["instance_id"] or "none",
        "expires": f"{ends} (in {until(ends, now=now)})" if ends else "by revocation",
    }
    return "".join(f"{name:<11}{printable(str(value))}\n" for name, value in rows.items())
