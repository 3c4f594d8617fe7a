"""What each workspace trusts, and the RPCs that list and change it.

Source: namespace-api.md 6.6 and 6.7.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from broker.sandbox.namespace.methods import (
    TENANT_TOKENS,
    TENANTS,
    Choices,
    Document,
    Method,
    Params,
    optional_text,
    text,
)
from broker.sandbox.namespace.relationships import RelationshipList, StaleGeneration
from broker.sandbox.namespace.rpc_errors import RpcError
from broker.sandbox.namespace.tokens import Bearer

_POOL_ID = re.compile(r"[\w-]+:[0-9a-f-]+", re.ASCII)
_MANAGE = ("federation", "manage")  # the real name is not public


@dataclass(frozen=True, slots=True)
class Trusted:
    """What one workspace trusts; each pool is its id and its developer provider."""

    relationships: RelationshipList
    pools: set[tuple[str, str]] = field(default_factory=set)


class Federation:
    """The trust of every workspace."""

    def __init__(self, *, choices: Choices, now: Callable[[], datetime]) -> None:
        self._choices = choices
        self._now = now
        self._by_workspace: dict[str, Trusted] = {}
        methods = {
            "ListTrustRelationships": self._list,
            "UpdateTrustRelationships": self._update,
            "TrustAWSCognitoIdentityPool": self._trust_pool,
        }
        self.methods: Mapping[str, Method] = {
            f"{TENANTS}/{name}": Method(kinds=TENANT_TOKENS, permission=_MANAGE, answer=answer)
            for name, answer in methods.items()
        }

    def of(self, workspace: str) -> Trusted:
        return self._by_workspace.setdefault(workspace, Trusted(RelationshipList(now=self._now)))

    def workspaces(self) -> tuple[str, ...]:
        """Return the known workspaces: an exchange for any other is refused."""
        return tuple(self._by_workspace)

    async def _list(self, _: Params, bearer: Bearer) -> Document:
        """List them as protobuf's JSON does: empty members are left out."""
        relationships = self.of(bearer.workspace).relationships
        members = {
            "generation": relationships.generation,
            "trust_relationships": list(relationships.snapshot()),
        }
        return {name: value for name, value in members.items() if value}

    async def _update(self, params: Params, bearer: Bearer) -> Document:
        desired = params.get("trust_relationships", [])
        if not isinstance(desired, list):
            raise RpcError("INVALID_ARGUMENT", "trust_relationships must be a list")
        generation = optional_text(params, "generation")
        relationships = self.of(bearer.workspace).relationships
        try:
            relationships.replace(desired, generation=generation, creator=bearer.actor_id)
        except StaleGeneration:
            raise RpcError(self._choices.stale_generation_code, "stale generation") from None
        return {}

    async def _trust_pool(self, params: Params, bearer: Bearer) -> Document:
        pool_id = text(params, "aws_cognito_identity_pool")
        if not _POOL_ID.fullmatch(pool_id):
            raise RpcError("INVALID_ARGUMENT", "aws_cognito_identity_pool must be region:guid")
        self.of(bearer.workspace).pools.add((pool_id, text(params, "identity_provider")))
        return {}
