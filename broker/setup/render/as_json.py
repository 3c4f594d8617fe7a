"""Render the plan as one JSON object, for programs."""

from __future__ import annotations

import json
import shlex

from broker.setup.documents import policy_of
from broker.setup.render.draft import ENABLING, TAGS, Draft, shell_line
from broker.setup.resources import (
    AttachedPolicy,
    DesiredResource,
    IamRole,
    IdentityPool,
    InlinePolicy,
    OidcProvider,
    OutboundFederation,
    PoolTrust,
    TrustRelationship,
)


def rendered(draft: Draft) -> str:
    """Return the object. Texts listed in ``unknown`` are placeholders for what AWS will say."""
    target = draft.target
    commands = [] if draft.one_of(OutboundFederation) is None else [shlex.join(ENABLING)]
    if draft.namespace_command is not None:
        commands.append(shell_line(draft.namespace_command, {}))
    document = {
        "title": draft.title,
        "made_by": shlex.join(draft.command),
        "account": target.account,
        "partition": target.partition,
        "region": target.region,
        "workspace": target.workspace or None,
        "resources": [resource(desired) for desired in draft.desired],
        "unknown": sorted(placeholder.value for placeholder in draft.placeholders),
        "commands": commands,
        "next_command": shlex.join(draft.next_command),
    }
    return json.dumps(document, indent=2) + "\n"


def resource(desired: DesiredResource) -> dict[str, object]:
    """Return one resource with its properties; one that was not given is null."""
    match desired:
        case OidcProvider():
            return {
                "kind": "oidc-provider",
                "arn": desired.arn,
                "url": desired.url,
                "audiences": desired.audiences,
                "thumbprints": desired.thumbprints,
                "tags": TAGS,
            }
        case IamRole():
            return {
                "kind": "role",
                "arn": desired.arn,
                "name": desired.name,
                "description": desired.description,
                "trust_policy": policy_of(desired.trust_statement),
                "max_session_duration_s": desired.max_session_duration_s,
                "tags": TAGS,
            }
        case AttachedPolicy():
            return {"kind": "attached-policy", "role": desired.role, "arn": desired.arn}
        case InlinePolicy():
            return {
                "kind": "inline-policy",
                "role": desired.role,
                "name": desired.name,
                "document": desired.document,
            }
        case OutboundFederation():
            return {"kind": "outbound-web-identity-federation", "account": desired.account}
        case IdentityPool():
            return {
                "kind": "identity-pool",
                "id": desired.pool_id,
                "name": desired.name if desired.pool_id is None else None,
                "region": desired.region,
                "developer_provider": desired.developer_provider,
                "allows_unauthenticated": False,
                "tags": TAGS,
            }
        case TrustRelationship():
            return {
                "kind": "trust-relationship",
                "workspace": desired.workspace,
                "entry": desired.as_entry(),
            }
        case PoolTrust():
            return {
                "kind": "trusted-identity-pool",
                "workspace": desired.workspace,
                "id": f"{desired.region}:{desired.guid}",
            }
