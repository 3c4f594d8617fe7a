"""The state of the AWS accounts: providers, roles, users, policies, keys."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import RLock
from typing import Generic, TypeVar

from broker.sandbox.aws.iam_records import Policies, Policy, ProviderRecord, RoleRecord, UserRecord

V = TypeVar("V")

_KEY_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

ADMINISTRATOR = "AdministratorAccess"
_ALL: Policy = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}
_READ_S3: Policy = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}],
}
AWS_MANAGED: Policies = {ADMINISTRATOR: _ALL, "AmazonS3ReadOnlyAccess": _READ_S3}
"""AWS's own managed policies that this sandbox has, simplified."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKeys:
    """Issued keys; a user's long-lived ones have no session token and no end."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(repr=False)
    expires_at: datetime | None
    arn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The principal of a set of keys. ``names`` are all its ARNs: a session's and its role's."""

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


@dataclass(frozen=True, slots=True)
class _Version(Generic[V]):
    value: V | None
    seen_at: datetime


class EventuallyConsistentMap(Generic[V]):
    """A map with simulated eventual consistency, in the order of the first writes.

    IAM itself reads the newest value, STS the one that has spread: written ``delay_s`` seconds ago
    or more. Source: aws-api.md 6.5.
    """

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self.delay_s = 0.0
        self._now = now
        self._written: dict[str, list[_Version[V]]] = {}

    def write(self, key: str, value: V | None) -> None:
        """Set the value of *key*; None deletes it."""
        now = self._now()
        spread = [one for one in self._written.get(key, []) if one.seen_at <= now][-1:]
        waiting = [one for one in self._written.get(key, []) if one.seen_at > now]
        version = _Version(value, now + timedelta(seconds=self.delay_s))
        self._written[key] = [*spread, *waiting, version]

    def newest(self, key: str) -> V | None:
        versions = self._written.get(key)
        return versions[-1].value if versions else None

    def seen(self, key: str) -> V | None:
        now = self._now()
        spread = [one.value for one in self._written.get(key, []) if one.seen_at <= now]
        return spread[-1] if spread else None

    def all(self) -> tuple[V, ...]:
        newest = (versions[-1].value for versions in list(self._written.values()))
        return tuple(value for value in newest if value is not None)


class Accounts:
    """All accounts of one partition; safe to change from another thread.

    Hold ``lock`` from reading to writing.
    """

    def __init__(self, *, now: Callable[[], datetime], partition: str) -> None:
        self.partition = partition
        self.lock = RLock()
        self._now = now
        self._providers: EventuallyConsistentMap[ProviderRecord] = EventuallyConsistentMap(now=now)
        self._roles: EventuallyConsistentMap[RoleRecord] = EventuallyConsistentMap(now=now)
        self._users: dict[str, UserRecord] = {}
        self._identities: dict[str, Principal] = {}
        self._managed: dict[str, Policy] = {
            f"arn:{partition}:iam::aws:policy/{name}": document
            for name, document in AWS_MANAGED.items()
        }

    @property
    def propagation_s(self) -> float:
        """Seconds after which STS sees changes of providers and roles made from now on."""
        return self._roles.delay_s

    @propagation_s.setter
    def propagation_s(self, seconds: float) -> None:
        self._providers.delay_s = self._roles.delay_s = seconds

    def provider_arn(self, issuer: str, *, account: str) -> str:
        host = re.sub("^https?://", "", issuer)
        return f"arn:{self.partition}:iam::{account}:oidc-provider/{host}"

    def put_provider(self, provider: ProviderRecord) -> None:
        with self.lock:
            self._providers.write(provider.arn, provider)

    def remove_provider(self, arn: str) -> None:
        """Remove a provider.

        Raises:
            KeyError: There is no such provider.
        """
        with self.lock:
            if self._providers.newest(arn) is None:
                raise KeyError(arn)
            self._providers.write(arn, None)

    def provider(self, arn: str) -> ProviderRecord | None:
        return self._providers.newest(arn)

    def seen_provider(self, issuer: str, *, account: str) -> ProviderRecord | None:
        """Return the provider as STS sees it."""
        return self._providers.seen(self.provider_arn(issuer, account=account))

    def providers(self, account: str) -> tuple[ProviderRecord, ...]:
        return tuple(one for one in self._providers.all() if one.account == account)

    def new_role(self, name: str, *, account: str, path: str, trust_policy: Policy) -> RoleRecord:
        """Return a role with a new id, which `put_role` adds."""
        return RoleRecord(
            arn=f"arn:{self.partition}:iam::{account}:role{path}{name}",
            role_id=f"AROA{_random_id(17)}",
            name=name,
            path=path,
            account=account,
            created_at=self._now(),
            trust_policy=trust_policy,
        )

    def put_role(self, role: RoleRecord) -> None:
        with self.lock:
            self._roles.write(role.arn, role)

    def remove_role(self, arn: str) -> None:
        """Remove a role.

        Raises:
            KeyError: There is no such role.
        """
        with self.lock:
            self.required_role(arn)
            self._roles.write(arn, None)

    def role(self, arn: str) -> RoleRecord | None:
        return self._roles.newest(arn)

    def required_role(self, arn: str) -> RoleRecord:
        """Return the role.

        Raises:
            KeyError: There is no such role.
        """
        role = self.role(arn)
        if role is None:
            raise KeyError(arn)
        return role

    def seen_role(self, arn: str) -> RoleRecord | None:
        """Return the role as STS sees it."""
        return self._roles.seen(arn)

    def roles(self, account: str) -> tuple[RoleRecord, ...]:
        return tuple(one for one in self._roles.all() if one.account == account)

    def put_policy(self, principal_arn: str, name: str, document: Policy | None) -> None:
        """Add, replace or (None) remove an inline policy.

        Raises:
            KeyError: There is no such principal, or no such policy to remove.
        """
        with self.lock:
            record = self._principal(principal_arn)
            policies = dict(record.policies)
            if document is None:
                del policies[name]
            else:
                policies[name] = document
            self._put_principal(replace(record, policies=policies))

    def attach(self, principal_arn: str, policy_arn: str) -> None:
        """Attach a managed policy.

        Raises:
            KeyError: There is no such principal.
        """
        with self.lock:
            record = self._principal(principal_arn)
            attached = (*(one for one in record.attached if one != policy_arn), policy_arn)
            self._put_principal(replace(record, attached=attached))

    def add_managed_policy(self, name: str, document: Policy, *, account: str) -> str:
        arn = f"arn:{self.partition}:iam::{account}:policy/{name}"
        with self.lock:
            self._managed[arn] = document
        return arn

    def managed_policy(self, arn: str) -> Policy | None:
        return self._managed.get(arn)

    def policies_of(self, principal_arn: str) -> Policies:
        """Return the inline policies; none for a principal that is gone."""
        record = self._roles.newest(principal_arn) or self._users.get(principal_arn)
        return dict(record.policies) if record else {}

    def policies_in_force(self, principal_arn: str) -> Policies:
        """Return every policy, inline and managed, that decides what the principal may do."""
        record = self._roles.seen(principal_arn) or self._users.get(principal_arn)
        if record is None:
            return {}
        attached = {arn: self._managed.get(arn, {}) for arn in record.attached}
        return {**attached, **record.policies}

    def has_user(self, arn: str) -> bool:
        return arn in self._users

    def _principal(self, arn: str) -> RoleRecord | UserRecord:
        record = self._roles.newest(arn) or self._users.get(arn)
        if record is None:
            raise KeyError(arn)
        return record

    def _put_principal(self, record: RoleRecord | UserRecord) -> None:
        if isinstance(record, RoleRecord):
            self._roles.write(record.arn, record)
        else:
            self._users[record.arn] = record

    def add_user(self, name: str, *, account: str, policies: Policies) -> IssuedKeys:
        arn = f"arn:{self.partition}:iam::{account}:user/{name}"
        with self.lock:
            self._users[arn] = UserRecord(arn=arn, policies=dict(policies))
        keys = _new_keys("AKIA", arn=arn, session_token=None, expires_at=None)
        self._keep(
            Principal(
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
    ) -> Principal:
        """Issue temporary credentials of *role*, good for *lifetime_s* seconds from now."""
        arn = f"arn:{self.partition}:sts::{role.account}:assumed-role/{role.name}/{session_name}"
        ends_at = (self._now() + timedelta(seconds=lifetime_s)).replace(microsecond=0)
        keys = _new_keys("ASIA", arn=arn, session_token=_session_token(), expires_at=ends_at)
        return self._keep(
            Principal(
                keys=keys,
                account=role.account,
                user_id=f"{role.role_id}:{session_name}",
                names=(arn, role.arn),
                is_role_session=True,
                source_identity=source_identity,
                transitive_tags=transitive_tags or {},
            )
        )

    def identity(self, access_key_id: str) -> Principal | None:
        return self._identities.get(access_key_id)

    def issued(self) -> tuple[IssuedKeys, ...]:
        """Return every temporary credential given out so far, oldest first."""
        with self.lock:
            everything = [identity.keys for identity in self._identities.values()]
        return tuple(keys for keys in everything if keys.session_token is not None)

    def _keep(self, identity: Principal) -> Principal:
        with self.lock:
            self._identities[identity.keys.access_key_id] = identity
        return identity


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
