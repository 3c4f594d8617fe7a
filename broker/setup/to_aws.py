"""What programs on Namespace need to use AWS: the request, its resources, and the configuration.

Source: guide-flows.md, third table; aws-api 6.2, 6.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.config.file import below
from broker.credentials import IdToken
from broker.setup import documents
from broker.setup.aws import Target
from broker.setup.documents import Document
from broker.setup.resources import DesiredResource
from broker.setup.resources.oidc_provider import OidcProvider
from broker.setup.resources.policies import AttachedPolicy, InlinePolicy
from broker.setup.resources.role import IamRole

ISSUER = "https://federation.namespaceapis.com"
AUDIENCE = "sts.amazonaws.com"
THUMBPRINT = "a053375bfe84e8b748782c7cee15827a6af5a405"
"""The guide's, for Namespace. AWS needs none for an issuer whose certificate it can verify."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToAwsRequest:
    """What the flags ask for.

    ``subject`` None is every identity of the workspace; another issuer's tokens are of no
    workspace, and need one.
    """

    role_name: str
    issuer: str = ISSUER
    subject: str | None = None
    policy_arns: tuple[str, ...] = ()
    policies: Mapping[str, Document] = field(default_factory=dict)
    max_session_duration_s: int | None = None

    @property
    def is_for_namespace(self) -> bool:
        return self.issuer == ISSUER

    @property
    def users(self) -> str:
        """Who is to use AWS, as a person says it."""
        return "programs on Namespace" if self.is_for_namespace else f"programs of {self.issuer}"


def desired_resources(request: ToAwsRequest, target: Target) -> tuple[DesiredResource, ...]:
    """Return the desired resources, in the order in which they are made."""
    provider = OidcProvider(
        arn=target.provider_arn(request.issuer),
        url=request.issuer,
        audiences=(AUDIENCE,),
        thumbprints=(THUMBPRINT,) if request.is_for_namespace else (),
    )
    role = IamRole(
        arn=target.role_arn(request.role_name),
        name=request.role_name,
        trust_statement=trust_statement(request, target),
        max_session_duration_s=request.max_session_duration_s,
        description=f"For {request.users}",
    )
    attached = [AttachedPolicy(role=role.name, arn=arn) for arn in request.policy_arns]
    inline = [
        InlinePolicy(role=role.name, name=name, document=document)
        for name, document in request.policies.items()
    ]
    return (provider, role, *attached, *inline)


def trust_statement(request: ToAwsRequest, target: Target) -> Document:
    """Return the guide's statement, word for word."""
    host = request.issuer.removeprefix("https://")
    return {
        "Effect": "Allow",
        "Principal": {"Federated": target.provider_arn(request.issuer)},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringLike": {
                f"{host}:aud": AUDIENCE,
                f"{host}:sub": request.subject or f"{target.workspace}/*",
            }
        },
    }


def is_meant_for(request: ToAwsRequest, target: Target, token: IdToken) -> bool:
    """Return whether the identity of *token* is one of those to admit."""
    pattern = request.subject or f"{target.workspace}/*"
    return token.issuer == request.issuer and documents.contains(pattern, token.subject)


def subject_in(role: IamRole) -> str:
    """Return the pattern in a role's trust statement."""
    conditions = role.trust_statement["Condition"]
    assert isinstance(conditions, dict)
    return next(
        str(value) for key, value in conditions["StringLike"].items() if key.endswith(":sub")
    )


def role_key(name: str) -> str:
    """Return the role's name in the configuration: its own, where that is long enough."""
    return name if len(name) > 1 else f"role-{name}"


def snippet(request: ToAwsRequest, target: Target, *, role_arn: str) -> str:
    """Return the lines for the configuration file."""
    lines = [f"[{below('roles', role_key(request.role_name))}]", f'arn = "{role_arn}"']
    if request.max_session_duration_s is not None:
        lines.append(f"duration_s = {request.max_session_duration_s}")
    return "\n".join([f'region = "{target.region}"', "", *lines, ""])
