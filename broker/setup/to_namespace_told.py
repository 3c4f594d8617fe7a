"""What is told once trust stands: the lines for the configuration, and the command that uses it.
Pure."""

from __future__ import annotations

import json
import shlex

from broker.setup.to_namespace import ByCognito, BySts
from broker.setup.wanted import Place
from broker.sources.aws.web_identity import ALGORITHM, AUDIENCE, DURATION_S


def snippet(asked: BySts | ByCognito, place: Place, *, pool_id: str | None = None) -> str:
    """Return the lines for the configuration file of a broker that runs as the workload.
    *pool_id* is Cognito's."""
    keys: dict[str, object] = {
        "source": "cognito" if isinstance(asked, ByCognito) else "sts",
        "workspace": place.workspace,
        "region": place.region,
    }
    if isinstance(asked, ByCognito):
        keys["region"] = (pool_id or place.region).partition(":")[0]
        keys["identity_pool"] = pool_id
    else:
        said = {
            "audience": (asked.audience, AUDIENCE),
            "algorithm": (asked.algorithm, ALGORITHM),
            "duration_s": (asked.duration_s, DURATION_S),
        }
        keys |= {name: value for name, (value, usual) in said.items() if value != usual}
    # Visible ASCII, as which all of these have been checked, is quoted alike in TOML and JSON.
    lines = [f"{name} = {json.dumps(value)}" for name, value in keys.items()]
    return "\n".join(
        ["[identities.default]", *lines, "", "[namespace_tokens.default]", "http = true", ""]
    )


def login_line(asked: BySts | ByCognito, place: Place, *, pool_id: str | None = None) -> str:
    """Return the command that signs in once, where the workload runs."""
    words = ["namespace-broker", "login", "--via"]
    if isinstance(asked, ByCognito):
        words += ["cognito", "--workspace", place.workspace, "--identity-pool", pool_id or ""]
        return shlex.join(words)
    words += ["sts", "--workspace", place.workspace, "--region", place.region]
    if asked.audience != AUDIENCE:
        words += ["--audience", asked.audience]
    if asked.algorithm != ALGORITHM:
        words += ["--algorithm", asked.algorithm]
    return shlex.join(words)
