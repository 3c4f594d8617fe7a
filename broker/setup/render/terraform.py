"""Render the plan as a Terraform configuration."""

from __future__ import annotations

from collections.abc import Mapping

from broker.setup.documents import policy_of
from broker.setup.render import hcl
from broker.setup.render.draft import (
    TAGS,
    Draft,
    cannot_keep,
    commands_left,
    comment,
    head,
    shell_line,
)
from broker.setup.render.hcl import Expression
from broker.setup.resource import Placeholder
from broker.setup.resources import AttachedPolicy, IamRole, IdentityPool, InlinePolicy, OidcProvider

POOL = "aws_cognito_identity_pool.namespace"
ROLE = "aws_iam_role.namespace"
PROVIDER = "aws_iam_openid_connect_provider.namespace"

_REQUIRED = """\
terraform {{
  required_providers {{
    aws = {{
      source  = "hashicorp/aws"
      version = ">= {version}"
    }}
  }}
}}
"""

_FILLS = {Placeholder.POOL_ID: f"{POOL}.id", Placeholder.POOL_GUID: "local.pool_guid"}
_WHY_BY_HAND = (
    "Terraform has aws_iam_outbound_web_identity_federation for it, which is not used: to create",
    "it fails where federation is on, and to destroy it switches that off for everybody.",
)


def rendered(draft: Draft) -> str:
    """Return the configuration, comments around it."""
    parts = [
        comment([*head(draft), *cannot_keep(draft)]),
        *_settings(draft),
        *_resources(draft),
        *_outputs(draft),
        comment(commands_left(draft, _WHY_BY_HAND)),
    ]
    return "\n".join(parts)


def _settings(draft: Draft) -> list[str]:
    target = draft.target
    # Terraform stops where the identity at hand is another account's.
    provider = {
        "region": target.region,
        "profile": draft.profile,
        "allowed_account_ids": [target.account],
    }
    have_thumbprints = all(one.thumbprints for one in draft.all_of(OidcProvider))
    # Before, a provider without thumbprints was refused.
    version = "5.0" if have_thumbprints else "5.82"
    return [_REQUIRED.format(version=version), hcl.block(("provider", "aws"), provider, {})]


def _resources(draft: Draft) -> list[str]:
    blocks = [
        _resource("aws_iam_openid_connect_provider", "namespace", _provider(one), draft)
        for one in draft.all_of(OidcProvider)
    ]
    blocks += [
        _resource("aws_iam_role", "namespace", _role(one, draft), draft)
        for one in draft.all_of(IamRole)
    ]
    for number, attached in enumerate(draft.all_of(AttachedPolicy), start=1):
        on_role = {"role": _role_of(attached, draft), "policy_arn": attached.arn}
        kind = "aws_iam_role_policy_attachment"
        blocks.append(_resource(kind, f"namespace_{number}", on_role, draft))
    if draft.makes_pool:
        blocks += [
            _resource("aws_cognito_identity_pool", "namespace", _pool(one), draft)
            for one in draft.all_of(IdentityPool)
        ]
        guid = Expression(f'split(":", {POOL}.id)[1]')
        blocks.append(hcl.block(("locals",), {"pool_guid": guid}, {}))
    for number, policy in enumerate(draft.all_of(InlinePolicy), start=1):
        arguments = _policy(policy, draft)
        blocks.append(_resource("aws_iam_role_policy", f"namespace_{number}", arguments, draft))
    return blocks


def _resource(kind: str, name: str, arguments: Mapping[str, object], draft: Draft) -> str:
    return hcl.block(("resource", kind, name), arguments, _fills(draft))


def _fills(draft: Draft) -> hcl.Fills:
    return {
        placeholder: _FILLS[placeholder]
        for placeholder in draft.placeholders
        if placeholder in _FILLS
    }


def _provider(provider: OidcProvider) -> dict[str, object]:
    return {
        "url": provider.url,
        "client_id_list": provider.audiences,
        "thumbprint_list": provider.thumbprints or None,
        "tags": TAGS,
    }


def _role(role: IamRole, draft: Draft) -> dict[str, object]:
    has_provider = draft.one_of(OidcProvider) is not None
    return {
        "name": role.name,
        "description": role.description or None,
        "assume_role_policy": hcl.document(policy_of(role.trust_statement), {}),
        "max_session_duration": role.max_session_duration_s,
        "tags": TAGS,
        "depends_on": Expression(f"[{PROVIDER}]") if has_provider else None,
    }


def _pool(pool: IdentityPool) -> dict[str, object]:
    return {
        "identity_pool_name": pool.name,
        "allow_unauthenticated_identities": False,
        "developer_provider_name": pool.developer_provider,
        "tags": TAGS,
    }


def _policy(policy: InlinePolicy, draft: Draft) -> dict[str, object]:
    return {
        "name": policy.name,
        "role": _role_of(policy, draft),
        "policy": hcl.document(policy.document, _fills(draft)),
    }


def _role_of(policy: AttachedPolicy | InlinePolicy, draft: Draft) -> str:
    made_here = policy.role in {role.name for role in draft.all_of(IamRole)}
    return Expression(f"{ROLE}.name") if made_here else policy.role


def _outputs(draft: Draft) -> list[str]:
    outputs: dict[str, str] = {}
    if draft.one_of(IamRole) is not None:
        outputs["role_arn"] = Expression(f"{ROLE}.arn")
    if draft.makes_pool:
        as_they_are = {placeholder: placeholder.value for placeholder in draft.placeholders}
        outputs["identity_pool_id"] = Expression(f"{POOL}.id")
        outputs["namespace_command"] = shell_line(draft.namespace_command or (), as_they_are)
        outputs["next_command"] = shell_line(draft.next_command, as_they_are)
    return [
        hcl.block(("output", name), {"value": value}, _fills(draft))
        for name, value in outputs.items()
    ]
