"""What is wanted as one JSON object, for programs."""

from __future__ import annotations

import json
import shlex

from broker.setup.documents import policy_of
from broker.setup.render.draft import ENABLING, TAGS, Draft, shell_line
from broker.setup.to_namespace_relationships import as_entry
from broker.setup.wanted import (
    AttachedPolicy,
    CognitoTrust,
    IdentityPool,
    InlinePolicy,
    OidcProvider,
    OutboundFederation,
    Role,
    StsTrust,
    Wanted,
)


def rendered(draft: Draft) -> str:
    """Return the object. Texts named by ``unknown`` stand for what only AWS can say."""
    place = draft.place
    commands = [] if draft.one_of(OutboundFederation) is None else [shlex.join(ENABLING)]
    if draft.namespace_command is not None:
        commands.append(shell_line(draft.namespace_command, {}))
    document = {
        "title": draft.title,
        "made_by": shlex.join(draft.command),
        "account": place.account,
        "partition": place.partition,
        "region": place.region,
        "workspace": place.workspace,
        "resources": [resource(wanted) for wanted in draft.wanted],
        "unknown": sorted(blank.value for blank in draft.blanks),
        "commands": commands,
        "next_command": shlex.join(draft.next_command),
    }
    return json.dumps(document, indent=2) + "\n"


def resource(wanted: Wanted) -> dict[str, object]:
    """Return one thing: what it is, and its properties. What was not said is null."""
    match wanted:
        case OidcProvider():
            return {
                "kind": "oidc-provider",
                "arn": wanted.arn,
                "url": wanted.url,
                "audiences": wanted.audiences,
                "thumbprints": wanted.thumbprints,
                "tags": TAGS,
            }
        case Role():
            return {
                "kind": "role",
                "arn": wanted.arn,
                "name": wanted.name,
                "description": wanted.description,
                "trust_policy": policy_of(wanted.trust_statement),
                "max_session_duration_s": wanted.max_session_duration_s,
                "tags": TAGS,
            }
        case AttachedPolicy():
            return {"kind": "attached-policy", "role": wanted.role, "arn": wanted.arn}
        case InlinePolicy():
            return {
                "kind": "inline-policy",
                "role": wanted.role,
                "name": wanted.name,
                "document": wanted.document,
            }
        case OutboundFederation():
            return {"kind": "outbound-web-identity-federation", "account": wanted.account}
        case IdentityPool():
            return {
                "kind": "identity-pool",
                "id": wanted.pool_id,
                "name": wanted.name if wanted.pool_id is None else None,
                "region": wanted.region,
                "developer_provider": wanted.developer_provider,
                "allows_unauthenticated": False,
                "tags": TAGS,
            }
        case StsTrust():
            return {
                "kind": "trust-relationship",
                "workspace": wanted.workspace,
                "entry": as_entry(wanted),
            }
        case CognitoTrust():
            return {
                "kind": "trusted-identity-pool",
                "workspace": wanted.workspace,
                "id": f"{wanted.region}:{wanted.guid}",
            }
