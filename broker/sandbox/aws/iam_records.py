"""IAM's records: OIDC providers, roles, users."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

Policy = Mapping[str, object]
Policies = Mapping[str, Policy]
"""Inline policies by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRecord:
    """One OIDC provider.

    Its issuer's discovery document is read below *resolve_at*, or at the issuer's known location
    when that is None.
    """

    arn: str
    issuer: str
    account: str
    client_ids: tuple[str, ...]
    created_at: datetime
    thumbprints: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    resolve_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRecord:
    """One role. ``attached`` are ARNs of managed policies."""

    arn: str
    role_id: str
    name: str
    path: str
    account: str
    created_at: datetime
    trust_policy: Policy
    max_session_duration_s: int = 3600
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    policies: Policies = field(default_factory=dict)
    attached: tuple[str, ...] = ()

    @property
    def is_service_linked(self) -> bool:
        """Return whether it is AWS's own, which nobody else changes."""
        return self.path.startswith("/aws-service-role/")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRecord:
    """One user, as far as policies are attached to it."""

    arn: str
    policies: Policies = field(default_factory=dict)
    attached: tuple[str, ...] = ()
