"""One workspace's trust relationships: a list that is replaced whole, guarded by a generation.

Source: namespace-api.md 6.7.
"""

from __future__ import annotations

import copy
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime
from threading import Lock

from broker import policy
from broker.sandbox.keys import compact_json
from broker.sandbox.namespace.methods import optional_text, text
from broker.sandbox.namespace.rpc_errors import RpcError

Relationship = Mapping[str, object]

_DURATION = re.compile(r"\d{1,9}(?:\.\d{1,9})?s", re.ASCII)
_SET_BY_THE_SERVER = ("id", "creator_json", "created_at")


class StaleGeneration(Exception):
    """The list has changed since it was read."""


class RelationshipList:
    """The list and its ``generation``: a counter as text, empty until the first write."""

    def __init__(self, *, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = Lock()
        self._count = 0
        self._list: tuple[Relationship, ...] = ()

    @property
    def generation(self) -> str:
        return str(self._count) if self._count else ""

    def snapshot(self) -> tuple[Relationship, ...]:
        return copy.deepcopy(self._list)

    def add(self, entry: Relationship) -> str:
        """Append *entry* and return its id."""
        with self._lock:
            made = self._made(entry, creator="sandbox")
            self._write((*self._list, made))
        return str(made["id"])

    def remove(self, relationship_id: str) -> None:
        with self._lock:
            self._write(tuple(one for one in self._list if one["id"] != relationship_id))

    def replace(self, desired: list[object], *, generation: str, creator: str) -> None:
        """Replace the list by *desired*; unknown members are kept as they came.

        Raises:
            StaleGeneration: *generation* is not the current one.
            RpcError: An entry is not valid.
        """
        with self._lock:
            if generation != self.generation:
                raise StaleGeneration
            existing = {one["id"]: one for one in self._list}
            written = tuple(self._entry(one, existing, creator) for one in desired)
            if len({one["id"] for one in written}) != len(written):
                raise RpcError("INVALID_ARGUMENT", "trust_relationships: an id occurs twice")
            self._write(written)

    def admitting(self, claims: Mapping[str, object]) -> Relationship | None:
        """Return the first relationship that admits *claims*."""
        admitting = (one for one in self._list if policy.relationship_admits(one, claims=claims))
        return next(admitting, None)

    def has_issuer(self, issuer: str) -> bool:
        return any(one["issuer"] == issuer for one in self._list)

    def _entry(
        self, entry: object, existing: Mapping[object, Relationship], creator: str
    ) -> Relationship:
        if not isinstance(entry, dict):
            raise RpcError("INVALID_ARGUMENT", "trust_relationships: an entry is not an object")
        known_id = optional_text(entry, "id")
        if not known_id:
            return self._made(entry, creator=creator)
        if known_id not in existing:
            raise RpcError("INVALID_ARGUMENT", f"there is no trust relationship {known_id}")
        _check(entry)
        own = {name: existing[known_id][name] for name in _SET_BY_THE_SERVER}
        return copy.deepcopy(entry) | own

    def _made(self, entry: Relationship, *, creator: str) -> Relationship:
        _check(entry)
        own = {
            "id": f"tr_{secrets.token_hex(6)}",
            "creator_json": compact_json({"actor": creator}),
            "created_at": f"{self._now():%Y-%m-%dT%H:%M:%S.%fZ}",
        }
        return copy.deepcopy(dict(entry)) | own

    def _write(self, written: tuple[Relationship, ...]) -> None:
        self._list = written
        self._count += 1


def lifetime_s(relationship: Relationship) -> float | None:
    """Return the life of tokens that this relationship admits; None if it sets none."""
    duration = optional_text(relationship, "default_token_duration")
    return float(duration.removesuffix("s")) if duration else None


def permissions(relationship: Relationship) -> tuple[str, ...] | None:
    """Return the permissions of an admitted token, such as ``tenant/get``; None is full access.

    Grants on single resources are ignored.
    """
    granted = relationship.get("default_permissions")
    if granted is None:
        return None
    assert isinstance(granted, list)
    return tuple(
        f"{one['resource_type']}/{action}"
        for one in granted
        for action in one["actions"]
        if one.get("resource_id", "*") == "*"
    )


def _check(entry: Relationship) -> None:
    for name in ("issuer", "subject_match"):
        text(entry, name)
    optional_text(entry, "audience")
    duration = optional_text(entry, "default_token_duration")
    if duration and not _DURATION.fullmatch(duration):
        raise RpcError("INVALID_ARGUMENT", "default_token_duration must be such as 3600s")
    granted = entry.get("default_permissions")
    if granted is None:
        return
    if not isinstance(granted, list) or not all(_is_permission(one) for one in granted):
        raise RpcError("INVALID_ARGUMENT", "default_permissions: an entry is not a permission")


def _is_permission(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("resource_type"), str)
        and isinstance(value.get("actions"), list)
    )
