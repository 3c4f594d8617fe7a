"""Render the plan as a CloudFormation template."""

from __future__ import annotations

from collections.abc import Mapping

from broker.setup.documents import policy_of
from broker.setup.render import yaml
from broker.setup.render.draft import (
    TAGS,
    Draft,
    cannot_keep,
    commands_left,
    comment,
    head,
    pieces,
    shell_line,
)
from broker.setup.resource import Placeholder
from broker.setup.resources import AttachedPolicy, IamRole, IdentityPool, InlinePolicy, OidcProvider

PROVIDER, ROLE, POOL = "NamespaceProvider", "NamespaceRole", "NamespacePool"
POLICY = "NamespacePolicy{number}"

_POOL_ID = {"Ref": POOL}
_GUID = {"Fn::Select": [1, {"Fn::Split": [":", _POOL_ID]}]}
_FILLS: Mapping[Placeholder, object] = {Placeholder.POOL_ID: _POOL_ID, Placeholder.POOL_GUID: _GUID}


def rendered(draft: Draft) -> str:
    """Return the template as YAML, comments around it."""
    resources = _resources(draft)
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": draft.title,
        "Resources": resources,
        "Outputs": _outputs(draft),
    }
    parts = [yaml.block({name: value}) for name, value in template.items() if value]
    return "\n".join([comment(_head(draft)), *parts, comment(commands_left(draft))])


def _head(draft: Draft) -> list[str]:
    return [
        *head(draft),
        *cannot_keep(draft),
        "",
        "To make it, in that account and region:",
        "",
        "    aws cloudformation deploy --stack-name namespace-trust --template-file FILE"
        f" --capabilities CAPABILITY_NAMED_IAM --region {draft.target.region}",
    ]


def _resources(draft: Draft) -> dict[str, object]:
    resources: dict[str, object] = {}
    for provider in draft.all_of(OidcProvider):
        resources[PROVIDER] = _resource("AWS::IAM::OIDCProvider", _provider(provider))
    for role in draft.all_of(IamRole):
        resources[ROLE] = _resource(
            "AWS::IAM::Role", _role(role, draft), after=PROVIDER if PROVIDER in resources else None
        )
    if draft.makes_pool:
        for pool in draft.all_of(IdentityPool):
            resources[POOL] = _resource("AWS::Cognito::IdentityPool", _pool(pool))
    for number, policy in enumerate(draft.all_of(InlinePolicy), start=1):
        resources[POLICY.format(number=number)] = _resource(
            "AWS::IAM::RolePolicy", _policy(policy, draft)
        )
    return resources


def _resource(
    kind: str, properties: Mapping[str, object], *, after: str | None = None
) -> dict[str, object]:
    present = {name: value for name, value in properties.items() if value not in (None, "", [], ())}
    depends = {} if after is None else {"DependsOn": after}
    return {"Type": kind, **depends, "Properties": present}


def _provider(provider: OidcProvider) -> dict[str, object]:
    return {
        "Url": provider.url,
        "ClientIdList": provider.audiences,
        "ThumbprintList": provider.thumbprints,
        "Tags": _TAGS,
    }


def _role(role: IamRole, draft: Draft) -> dict[str, object]:
    attached = [one.arn for one in draft.all_of(AttachedPolicy) if one.role == role.name]
    return {
        "RoleName": role.name,
        "Description": role.description,
        "AssumeRolePolicyDocument": policy_of(role.trust_statement),
        "MaxSessionDuration": role.max_session_duration_s,
        "ManagedPolicyArns": attached,
        "Tags": _TAGS,
    }


def _pool(pool: IdentityPool) -> dict[str, object]:
    return {
        "IdentityPoolName": pool.name,
        "AllowUnauthenticatedIdentities": False,
        "DeveloperProviderName": pool.developer_provider,
        "IdentityPoolTags": _TAGS,
    }


def _policy(policy: InlinePolicy, draft: Draft) -> dict[str, object]:
    made_here = policy.role in {role.name for role in draft.all_of(IamRole)}
    return {
        "RoleName": {"Ref": ROLE} if made_here else policy.role,
        "PolicyName": _filled(policy.name, draft),
        "PolicyDocument": _filled(policy.document, draft),
    }


_TAGS = [{"Key": key, "Value": value} for key, value in TAGS.items()]


def _outputs(draft: Draft) -> dict[str, object]:
    outputs: dict[str, object] = {}
    if draft.one_of(IamRole) is not None:
        outputs["RoleArn"] = {"Value": {"Fn::GetAtt": [ROLE, "Arn"]}}
    if draft.makes_pool:
        outputs["IdentityPoolId"] = {"Value": _POOL_ID}
        words = {
            "NamespaceCommand": draft.namespace_command or (),
            "NextCommand": draft.next_command,
        }
        as_they_are = {placeholder: placeholder.value for placeholder in draft.placeholders}
        for name, line in words.items():
            outputs[name] = {"Value": _filled(shell_line(line, as_they_are), draft)}
    return outputs


def _filled(value: object, draft: Draft) -> object:
    """Return *value* with calls of CloudFormation's own functions in the target of placeholders."""
    if isinstance(value, Mapping):
        return {key: _filled(one, draft) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_filled(one, draft) for one in value]
    if not isinstance(value, str):
        return value
    parts = [
        _FILLS[one] if isinstance(one, Placeholder) else one
        for one in pieces(value, draft.placeholders & _FILLS.keys())
    ]
    return value if all(isinstance(one, str) for one in parts) else {"Fn::Join": ["", parts]}
