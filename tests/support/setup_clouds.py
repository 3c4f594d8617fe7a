"""Both clouds in memory, as `setup to-namespace` calls them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from broker.credentials import NamespaceToken
from broker.lease import Lease, Refused, SourceError, Stale
from broker.setup.aws import AwsApi, sorted_setup_fault
from broker.setup.documents import Document
from broker.setup.namespace import NamespaceTrust
from broker.setup.resource import CloudAccess, Resource
from broker.setup.resources import PoolTrust
from broker.sources.aws.errors import AwsError
from broker.sources.namespace.api import NamespaceIam, Tenant
from tests.support.fakes import START
from tests.support.setup import PLACE, Impatient

ISSUER = "https://3d1b.tokens.sts.global.api.aws"
CHANGING = ("Enable", "Put", "Delete", "Create", "Update", "Trust")

Relationship = Mapping[str, object]


@dataclass(kw_only=True)
class BothClouds:
    """An account and a workspace.

    The account has *policies* by role and name, and *pools* as Cognito describes them. The changing
    call number *lost*, from 0, fails: before anything is done, or where *unheard* after it was.
    """

    federation: bool = False
    policies: dict[str, dict[str, Document]] = field(default_factory=dict)
    pools: list[dict[str, Any]] = field(default_factory=list)
    relationships: list[Relationship] = field(default_factory=list)
    trusted_pools: set[str] = field(default_factory=set)
    generation: int = 0
    lost: int | None = None
    unheard: bool = False
    calls: list[str] = field(default_factory=list)

    def access(self) -> CloudAccess:
        clock = Impatient()
        trust = NamespaceTrust(
            cast(NamespaceIam, InMemoryNamespace(self)),
            identity=_Identity(),
            workspace=PLACE.workspace,
            clock=clock,
        )
        aws = cast(AwsApi, InMemoryAws(self))
        return CloudAccess(aws=aws, clock=clock, namespace=trust, admits=self._admits)

    async def _admits(self, trust: Resource[Any]) -> bool:
        return isinstance(trust, PoolTrust) and trust.pool_id in self.trusted_pools

    def state(self) -> object:
        """Return everything that stands."""
        policies = {role: of_it for role, of_it in self.policies.items() if of_it}
        stands = (self.federation, policies, self.pools, self.relationships)
        return copy.deepcopy((*stands, sorted(self.trusted_pools)))

    def called(self, operation: str, act: Callable[[], Any], failure: SourceError) -> Any:
        """Return what *act* does, unless this is the call that fails."""
        changing = operation.startswith(CHANGING)
        at = len([one for one in self.calls if one.startswith(CHANGING)])
        self.calls.append(operation)
        if not changing or at != self.lost:
            return act()
        if self.unheard:
            act()
        raise failure


class InMemoryAws:
    """AWS's answers, of the operations that this direction calls."""

    def __init__(self, clouds: BothClouds) -> None:
        self._clouds = clouds

    async def call(
        self, service: str, operation: str, *, attempts: int = 1, **parameters: Any
    ) -> Mapping[str, Any]:
        answer = self._clouds.called(
            operation,
            lambda: getattr(self, f"_{operation}")(parameters),
            refusal(f"{service}:{operation}", "AccessDenied"),
        )
        return copy.deepcopy(answer or {})

    def _GetOutboundWebIdentityFederationInfo(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self._clouds.federation:
            raise refusal("iam:GetOutboundWebIdentityFederationInfo", "FeatureDisabled")
        return {"IssuerIdentifier": ISSUER, "JwtVendingEnabled": True}

    def _EnableOutboundWebIdentityFederation(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._clouds.federation:
            raise refusal("iam:EnableOutboundWebIdentityFederation", "FeatureEnabled")
        self._clouds.federation = True
        return {"IssuerIdentifier": ISSUER}

    def _policies(self, said: Mapping[str, Any]) -> dict[str, Document]:
        return self._clouds.policies.setdefault(said["RoleName"], {})

    def _GetRolePolicy(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        document = self._policies(said).get(said["PolicyName"])
        if document is None:
            raise refusal("iam:GetRolePolicy", "NoSuchEntity")
        return {"PolicyDocument": document}

    def _PutRolePolicy(self, said: Mapping[str, Any]) -> None:
        self._policies(said)[said["PolicyName"]] = json.loads(said["PolicyDocument"])

    def _DeleteRolePolicy(self, said: Mapping[str, Any]) -> None:
        del self._policies(said)[said["PolicyName"]]

    def _ListRoles(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"Roles": [{"RoleName": name} for name in self._clouds.policies]}

    def _ListIdentityPools(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        names = ("IdentityPoolId", "IdentityPoolName")
        return {
            "IdentityPools": [{name: one[name] for name in names} for one in self._clouds.pools]
        }

    def _DescribeIdentityPool(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        for pool in self._clouds.pools:
            if pool["IdentityPoolId"] == said["IdentityPoolId"]:
                return pool
        raise refusal("cognito-identity:DescribeIdentityPool", "ResourceNotFound")

    def _CreateIdentityPool(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        pool_id = f"{PLACE.region}:{len(self._clouds.calls):08d}-0000-0000-0000-000000000000"
        self._clouds.pools.append({"IdentityPoolId": pool_id, **said})
        return self._clouds.pools[-1]

    def _DeleteIdentityPool(self, said: Mapping[str, Any]) -> None:
        self._clouds.pools = [
            one for one in self._clouds.pools if one["IdentityPoolId"] != said["IdentityPoolId"]
        ]


class InMemoryNamespace:
    """Namespace's answers. A list goes whole, under its generation."""

    def __init__(self, clouds: BothClouds) -> None:
        self._clouds = clouds

    async def get_tenant(self, bearer: str) -> Tenant:
        return Tenant(tenant_id=PLACE.workspace, name="Acme")

    async def list_trust_relationships(self, bearer: str) -> Mapping[str, object]:
        listed = copy.deepcopy(self._clouds.relationships)
        generation = {"generation": str(self._clouds.generation)} if listed else {}
        return {**generation, "trust_relationships": listed}

    async def update_trust_relationships(
        self, bearer: str, *, generation: str, relationships: Sequence[Relationship]
    ) -> None:
        def replaced() -> None:
            clouds = self._clouds
            if generation != (str(clouds.generation) if clouds.relationships else ""):
                raise Refused("generation is stale", word="conflict")
            clouds.generation += 1
            clouds.relationships = [
                {**one, "id": one.get("id", f"tr_{clouds.generation}")}
                for one in copy.deepcopy(relationships)
            ]

        self._clouds.called("UpdateTrustRelationships", replaced, _DENIED)

    async def trust_aws_cognito_identity_pool(
        self, bearer: str, *, pool_id: str, provider: str
    ) -> None:
        add = self._clouds.trusted_pools.add
        self._clouds.called("TrustAWSCognitoIdentityPool", lambda: add(pool_id), _DENIED)


class _Identity:
    """A token of the workspace's."""

    async def fetch(self) -> Lease[NamespaceToken]:
        token = NamespaceToken(bearer="nsct_x", tenant_id=PLACE.workspace)
        return Lease(value=token, issued_at=START, expires_at=None)


_DENIED = Refused("permission denied", word="access-denied")


def refusal(action: str, code: str) -> SourceError:
    fault = AwsError(code=code, message="as the test has it", status=400)
    error = sorted_setup_fault(fault, "AWS", action=action, endpoint_named_by="AWS_ENDPOINT_URL")
    assert not isinstance(error, Stale)
    return error
