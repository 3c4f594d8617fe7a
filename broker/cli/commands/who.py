"""`who`: show what a caller would get from the running broker, and by which rule."""

import json
import sys
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from broker.cli import control_client
from broker.cli.control_client import Reply
from broker.cli.errors import Failure, Misuse
from broker.cli.output import columns, printable
from broker.cli.parser import JSON, RUNTIME_DIR, Flag, Options

DESCRIPTION = """Show what a caller would get from the running broker, and by which rule.

Of a process, user, groups, unit, container and program are known, as when it asks. Of a user, only
the groups are known, and of an address nothing else, so rules that need more do not match.

For root and the user who runs the broker.

    namespace-broker who --pid 4711
    namespace-broker who --uid 1000 --json | jq -r .rule
    namespace-broker who --addr 172.17.0.2
"""

FLAGS = (
    Flag("pid", "A process, by its id.", metavar="N"),
    Flag("uid", "A user, by number.", metavar="N"),
    Flag("addr", "A caller at this address outside the host.", metavar="ADDRESS"),
    JSON,
    RUNTIME_DIR,
)

FORMS = {
    "pid": "the number of a process",
    "uid": "the number of a user, as in: id -u NAME",
    "addr": "an IP address",
}


def run(options: Options) -> int:
    name, text = subject(options)
    reply = control_client.ask("/v1/who", options.text("runtime-dir"), {name: text})
    if reply.status != 200:
        raise denied(reply, name)
    if options.switch("json"):
        print(json.dumps(reply.document, indent=2))
    else:
        sys.stdout.write(described(reply.document))
    return 0


def subject(options: Options) -> tuple[str, str]:
    """Return the flag that names the caller, and its value.

    Raises:
        Misuse: There is none, more than one, or the value is invalid.
    """
    given = [(name, text) for name in FORMS if (text := options.text(name)) is not None]
    if len(given) != 1:
        what = "no caller is named" if not given else "more than one caller is named"
        raise Misuse("who", what, "give one of --pid, --uid, --addr")
    name, text = given[0]
    if not can_be(name, text):
        raise Misuse(f"--{name}", f"is {text!a}", f"give {FORMS[name]}")
    return name, text


def can_be(name: str, text: str) -> bool:
    if name != "addr":
        return text.isascii() and text.isdecimal() and len(text) <= 10
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def denied(reply: Reply, name: str) -> Failure:
    if reply.status == 403:
        return Failure("who", reply.message, "ask as root, or as the user who runs the broker")
    return Failure(f"--{name}", reply.message, "see namespace-broker status")


def described(answer: Mapping[str, Any]) -> str:
    """Return the answer as text: the caller, its grant, and each rule with its reason."""
    caller = [(name, value) for name, value in answer["caller"].items() if is_known(value)]
    default = answer.get("default_role")
    # The default first: IMDS lists only that one.
    roles = sorted(answer.get("roles", []), key=lambda role: (role != default, role))
    grant = [
        ("rule", answer.get("rule") or "none: it gets nothing"),
        ("roles", [f"{role} (default)" if role == default else role for role in roles]),
        ("Namespace tokens", answer.get("namespace_tokens")),
        ("ID tokens for", answer.get("id_token_audiences")),
    ]
    rows = [
        [rule["name"], "yes" if rule["matches"] else "no", rule.get("because") or ""]
        for rule in answer.get("rules", [])
    ]
    tables = [paragraph(caller), paragraph(grant)]
    if rows:
        tables.append(columns(["RULE", "MATCHES", "BECAUSE"], rows))
    tables += [f"warning: {printable(warning)}\n" for warning in answer.get("warnings", [])]
    return "\n".join(tables)


def is_known(value: object) -> bool:
    return value is not None and value is not False


def paragraph(facts: Iterable[tuple[str, object]]) -> str:
    return "".join(f"{name:<18}{printable(in_words(value))}\n" for name, value in facts)


def in_words(value: object) -> str:
    if value is True:
        return "yes"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
