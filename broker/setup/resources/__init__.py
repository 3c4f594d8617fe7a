"""The kinds of resources that trust consists of, one module each."""

from broker.setup.resources.federation import OutboundFederation
from broker.setup.resources.identity_pool import IdentityPool
from broker.setup.resources.oidc_provider import OidcProvider
from broker.setup.resources.policies import AttachedPolicy, InlinePolicy
from broker.setup.resources.pool_trust import PoolTrust
from broker.setup.resources.role import IamRole
from broker.setup.resources.trust_relationship import TrustRelationship

DesiredResource = (
    OidcProvider
    | IamRole
    | AttachedPolicy
    | InlinePolicy
    | OutboundFederation
    | IdentityPool
    | TrustRelationship
    | PoolTrust
)

__all__ = [
    "AttachedPolicy",
    "DesiredResource",
    "IamRole",
    "IdentityPool",
    "InlinePolicy",
    "OidcProvider",
    "OutboundFederation",
    "PoolTrust",
    "TrustRelationship",
]
