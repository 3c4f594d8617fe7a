"""What programs on Namespace need to use AWS: as it was asked for, as what is to stand, and what
the broker is then told. Pure.

Source: guide-flows.md, third table; aws-api 6.2, 6.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from broker.config.file import below
from broker.credentials import IdToken
from broker.setup import documents
from broker.setup.wanted import (
    AttachedPolicy,
    Document,
    InlinePolicy,
    OidcProvider,
    Place,
    Role,
    Wanted,
)

ISSUER = "https://federation.namespaceapis.com"
AUDIENCE = "sts.amazonaws.com"
THUMBPRINT = "a053375bfe84e8b748782c7cee15827a6af5a405"
"""The guide's. AWS does not need it for an issuer whose certificate it can verify."""
DESCRIPTION = "For programs on Namespace"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToAws:
    """What was asked for. ``subject`` None is every identity of the workspace."""

    role_name: str
    issuer: str = ISSUER
    subject: str | None = None
    policy_arns: tuple[str, ...] = ()
    policies: Mapping[str, Document] = field(default_factory=dict)
    max_session_duration_s: int | None = None


def wanted_of(asked: ToAws, place: Place) -> tuple[Wanted, ...]:
    """Return what is to stand, in the order in which it is made."""
    provider = OidcProvider(
        arn=place.provider_arn(asked.issuer),
        url=asked.issuer,
        audiences=(AUDIENCE,),
        thumbprints=(THUMBPRINT,),
    )
    role = Role(
        arn=place.role_arn(asked.role_name),
        name=asked.role_name,
        trust_statement=trust_statement(asked, place),
        max_session_duration_s=asked.max_session_duration_s,
        description=DESCRIPTION,
    )
    attached = [AttachedPolicy(role=role.name, arn=arn) for arn in asked.policy_arns]
    inline = [
        InlinePolicy(role=role.name, name=name, document=document)
        for name, document in asked.policies.items()
    ]
    return (provider, role, *attached, *inline)


def trust_statement(asked: ToAws, place: Place) -> Document:
    """Return the guide's statement, word for word."""
    host = asked.issuer.removeprefix("https://")
    return {
        "Effect": "Allow",
        "Principal": {"Federated": place.provider_arn(asked.issuer)},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {
            "StringLike": {
                f"{host}:aud": AUDIENCE,
                f"{host}:sub": asked.subject or f"{place.workspace}/*",
            }
        },
    }


def is_meant_for(asked: ToAws, place: Place, token: IdToken) -> bool:
    """Is the identity of *token* one of those that are to be admitted?"""
    pattern = asked.subject or f"{place.workspace}/*"
    return token.issuer == asked.issuer and documents.contains(pattern, token.subject)


def subject_in(role: Role) -> str:
    """Return the pattern in a role's trust statement."""
    conditions = role.trust_statement["Condition"]
    assert isinstance(conditions, dict)
    return next(
        str(value) for key, value in conditions["StringLike"].items() if key.endswith(":sub")
    )


# What the broker is told.


def role_key(name: str) -> str:
    """Return what the configuration calls the role: its own name, where that is long enough."""
    return name if len(name) > 1 else f"role-{name}"


def snippet(asked: ToAws, place: Place, *, role_arn: str) -> str:
    """Return the lines for the configuration file."""
    lines = [f"[{below('roles', role_key(asked.role_name))}]", f'arn = "{role_arn}"']
    if asked.max_session_duration_s is not None:
        lines.append(f"duration_s = {asked.max_session_duration_s}")
    return "\n".join([f'region = "{place.region}"', "", *lines, ""])
