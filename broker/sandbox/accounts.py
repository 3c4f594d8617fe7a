"""What stands in the AWS accounts: providers, roles, users, policies, keys. Knows no protocol."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Lock

Policies = Mapping[str, Mapping[str, object]]
"""Inline policies by name."""

_KEY_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One OIDC provider; its discovery document is read at *resolve_at*, over HTTP."""

    arn: str
    issuer: str
    client_ids: tuple[str, ...]
    resolve_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRecord:
    """One role as IAM keeps it."""

    arn: str
    role_id: str
    name: str
    account: str
    trust_policy: Mapping[str, object]
    max_session_duration_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKeys:
    """Keys that were given out; a user's long-lived ones have no session token and no end."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    expires_at: datetime | None
    arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a set of keys speaks for. ``names`` are all its ARNs: a session's and its role's."""

    keys: IssuedKeys
    account: str
    user_id: str
    names: tuple[str, ...]
    is_role_session: bool
    source_identity: str | None = None
    transitive_tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def arn(self) -> str:
        return self.keys.arn

    @property
    def principal_arn(self) -> str:
        """The user or role that policies are attached to; a role's ARN with its path."""
        return self.names[-1]


class Accounts:
    """All accounts of the sandbox; safe to change from another thread."""

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = Lock()
        self._providers: dict[str, Provider] = {}
        self._roles: dict[str, RoleRecord] = {}
        self._identities: dict[str, Identity] = {}
        self._policies: dict[str, dict[str, Mapping[str, object]]] = {}

    # Providers and roles.

    def add_provider(
        self, issuer: str, *, client_ids: tuple[str, ...], resolve_at: str, account: str
    ) -> str:
        arn = _provider_arn(issuer, account)
        provider = Provider(arn=arn, issuer=issuer, client_ids=client_ids, resolve_at=resolve_at)
        with self._lock:
            self._providers[arn] = provider
        return arn

    def remove_provider(self, arn: str) -> None:
        with self._lock:
            del self._providers[arn]

    def provider(self, issuer: str, *, account: str) -> Provider | None:
        return self._providers.get(_provider_arn(issuer, account))

    def add_role(
        self,
        name: str,
        *,
        trust_policy: Mapping[str, object],
        max_session_duration: int,
        account: str,
        path: str,
        policies: Policies,
    ) -> str:
        arn = f"arn:aws:iam::{account}:role{path}{name}"
        role = RoleRecord(
            arn=arn,
            role_id=f"AROA{_random_id(17)}",
            name=name,
            account=account,
            trust_policy=trust_policy,
            max_session_duration_s=max_session_duration,
        )
        with self._lock:
            self._roles[arn] = role
            self._policies[arn] = dict(policies)
        return arn

    def remove_role(self, arn: str) -> None:
        with self._lock:
            del self._roles[arn]
            del self._policies[arn]

    def change_role(
        self,
        arn: str,
        *,
        trust_policy: Mapping[str, object] | None = None,
        max_session_duration: int | None = None,
    ) -> None:
        with self._lock:
            role = self._roles[arn]
            if trust_policy is not None:
                role = replace(role, trust_policy=trust_policy)
            if max_session_duration is not None:
                role = replace(role, max_session_duration_s=max_session_duration)
            self._roles[arn] = role

    def role(self, arn: str) -> RoleRecord | None:
        return self._roles.get(arn)

    # Inline policies, of roles and of users.

    def put_policy(
        self, principal_arn: str, name: str, document: Mapping[str, object] | None
    ) -> None:
        """Add, replace or (None) remove. Raises:
        KeyError: There is no such principal.
        """
        with self._lock:
            policies = self._policies[principal_arn]
            if document is None:
                del policies[name]
            else:
                policies[name] = document

    def policies_of(self, principal_arn: str) -> Policies:
        """Return the policies that stand; none for a principal that is gone."""
        with self._lock:
            return dict(self._policies.get(principal_arn, {}))

    # Keys.

    def add_user(self, name: str, *, account: str, policies: Policies) -> IssuedKeys:
        arn = f"arn:aws:iam::{account}:user/{name}"
        with self._lock:
            self._policies[arn] = dict(policies)
        keys = _new_keys("AKIA", arn=arn, session_token=None, expires_at=None)
        self._keep(
            Identity(
                keys=keys,
                account=account,
                user_id=f"AIDA{_random_id(17)}",
                names=(arn,),
                is_role_session=False,
            )
        )
        return keys

    def open_session(
        self,
        role: RoleRecord,
        *,
        session_name: str,
        lifetime_s: float,
        source_identity: str | None = None,
        transitive_tags: Mapping[str, str] | None = None,
    ) -> Identity:
        """Issue temporary credentials of *role*, good for *lifetime_s* seconds from now."""
        arn = f"arn:aws:sts::{role.account}:assumed-role/{role.name}/{session_name}"
        ends_at = (self._now() + timedelta(seconds=lifetime_s)).replace(microsecond=0)
        keys = _new_keys("ASIA", arn=arn, session_token=_session_token(), expires_at=ends_at)
        return self._keep(
            Identity(
                keys=keys,
                account=role.account,
                user_id=f"{role.role_id}:{session_name}",
                names=(arn, role.arn),
                is_role_session=True,
                source_identity=source_identity,
                transitive_tags=transitive_tags or {},
            )
        )

    def identity(self, access_key_id: str) -> Identity | None:
        return self._identities.get(access_key_id)

    def issued(self) -> tuple[IssuedKeys, ...]:
        """Return every temporary credential given out so far, oldest first."""
        with self._lock:
            everything = [identity.keys for identity in self._identities.values()]
        return tuple(keys for keys in everything if keys.session_token is not None)

    def _keep(self, identity: Identity) -> Identity:
        with self._lock:
            self._identities[identity.keys.access_key_id] = identity
        return identity


def _provider_arn(issuer: str, account: str) -> str:
    return f"arn:aws:iam::{account}:oidc-provider/{re.sub('^https?://', '', issuer)}"


def _new_keys(
    prefix: str, *, arn: str, session_token: str | None, expires_at: datetime | None
) -> IssuedKeys:
    return IssuedKeys(
        access_key_id=prefix + _random_id(16),
        secret_access_key=base64.b64encode(secrets.token_bytes(30)).decode(),
        session_token=session_token,
        expires_at=expires_at,
        arn=arn,
    )


def _session_token() -> str:
    """Make one with the length and alphabet of real ones (``/``, ``+`` and ``=`` occur)."""
    return "FwoGZXIvYXdzE" + base64.b64encode(secrets.token_bytes(301)).decode()


def _random_id(length: int) -> str:
    return "".join(secrets.choice(_KEY_ALPHABET) for _ in range(length))
