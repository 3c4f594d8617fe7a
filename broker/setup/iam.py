"""Read, make, change and take away what trust needs in IAM. Compares nothing: the pure modules do.

Source: aws-api 6.2 to 6.4.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from broker.clock import Clock
from broker.lease import Refused, Unavailable
from broker.setup import policies, providers, roles
from broker.setup.aws_api import AwsApi
from broker.setup.aws_errors import AwsRefused
from broker.setup.cloud import Cloud
from broker.setup.documents import policy_of
from broker.setup.policies import FoundAttached, FoundInline
from broker.setup.providers import FoundProvider
from broker.setup.roles import FoundRole
from broker.setup.wanted import (
    GUID_OF_THE_POOL,
    TAG_KEY,
    TAG_VALUE,
    AttachedPolicy,
    Document,
    InlinePolicy,
    Known,
    OidcProvider,
    Role,
)

TAGS = ({"Key": TAG_KEY, "Value": TAG_VALUE},)
GONE = "NoSuchEntity"

SETTLING_PAUSES_S = (5.0, 10.0, 20.0)
"""Between attempts to name what was just made: IAM may not know it everywhere yet."""


def iam_hands(api: AwsApi, *, clock: Clock) -> Cloud:
    """Return what handles each kind of thing in IAM."""
    return {
        OidcProvider: Providers(api),
        Role: Roles(api, clock=clock),
        AttachedPolicy: AttachedPolicies(api, clock=clock),
        InlinePolicy: InlinePolicies(api, clock=clock),
    }


class Providers:
    """OIDC providers."""

    def __init__(self, api: AwsApi) -> None:
        self._api = api

    async def read(self, wanted: OidcProvider, *, deeply: bool) -> FoundProvider | None:
        told = await _told(
            self._api, "GetOpenIDConnectProvider", OpenIDConnectProviderArn=wanted.arn
        )
        if told is None:
            return None
        return FoundProvider(
            audiences=tuple(told.get("ClientIDList", ())),
            is_ours=_is_tagged(told),
            trusted_by=await self._trusting(wanted.arn) if deeply else None,
        )

    async def _trusting(self, arn: str) -> Mapping[str, Document]:
        """Return the trust policies that name the provider, by role."""
        trusting = {}
        async for role in _listed(self._api, "ListRoles", "Roles"):
            policy = _policy_in(role.get("AssumeRolePolicyDocument"))
            if providers.names(policy, arn):
                trusting[str(role.get("RoleName"))] = policy
        return trusting

    async def create(self, wanted: OidcProvider) -> Known:
        try:
            await self._api.call(
                "iam",
                "CreateOpenIDConnectProvider",
                Url=wanted.url,
                ClientIDList=list(wanted.audiences),
                ThumbprintList=list(wanted.thumbprints),
                Tags=list(TAGS),
            )
        except AwsRefused as error:
            # Made by an attempt whose answer was lost, or by somebody else: read back by who asked.
            if error.code != "EntityAlreadyExists":
                raise
            found = await self.read(wanted, deeply=False)
            if found is None:
                raise
            await self.change(wanted, found)
        return Known()

    async def change(self, wanted: OidcProvider, found: FoundProvider) -> None:
        for audience in providers.audiences_lacking(wanted, found):
            await self._api.call(
                "iam",
                "AddClientIDToOpenIDConnectProvider",
                OpenIDConnectProviderArn=wanted.arn,
                ClientID=audience,
            )

    async def remove(self, wanted: OidcProvider, found: FoundProvider) -> None:
        await _told(self._api, "DeleteOpenIDConnectProvider", OpenIDConnectProviderArn=wanted.arn)

    async def take_back(self, wanted: OidcProvider, found: FoundProvider) -> None:
        """Nothing: a provider goes whole, or stays as it is."""


class Roles:
    """Roles and their trust policies."""

    def __init__(self, api: AwsApi, *, clock: Clock) -> None:
        self._api = api
        self._clock = clock

    async def read(self, wanted: Role, *, deeply: bool) -> FoundRole | None:
        told = await _told(self._api, "GetRole", RoleName=wanted.name)
        if told is None:
            return None
        role = told.get("Role", {})
        return FoundRole(
            arn=str(role.get("Arn", "")),
            trust_policy=_policy_in(role.get("AssumeRolePolicyDocument")),
            max_session_duration_s=int(role.get("MaxSessionDuration", 3600)),
            is_ours=_is_tagged(role),
            attached=await self._attached(wanted) if deeply else None,
            inline=await self._inline(wanted) if deeply else None,
        )

    async def _attached(self, wanted: Role) -> tuple[str, ...]:
        return await _attached(self._api, wanted.name)

    async def _inline(self, wanted: Role) -> tuple[str, ...]:
        names = _listed(self._api, "ListRolePolicies", "PolicyNames", RoleName=wanted.name)
        return tuple([str(name) async for name in names])

    async def create(self, wanted: Role) -> Known:
        said: dict[str, Any] = {
            "RoleName": wanted.name,
            "AssumeRolePolicyDocument": _text(policy_of(wanted.trust_statement)),
            "Tags": list(TAGS),
        }
        if wanted.max_session_duration_s is not None:
            said["MaxSessionDuration"] = wanted.max_session_duration_s
        if wanted.description:
            said["Description"] = wanted.description
        try:
            await self._with_trust("CreateRole", **said)
        except AwsRefused as error:
            if error.code != "EntityAlreadyExists":
                raise
            await self._made_already(wanted, error)
        return Known()

    async def _made_already(self, wanted: Role, error: AwsRefused) -> None:
        """Accept a role that was made by an attempt whose answer was lost.

        Raises:
            Refused: It is another one.
        """
        found = await self.read(wanted, deeply=False)
        if found is None:
            raise Refused(
                f"the account has a role {wanted.name} in other upper and lower case, which AWS "
                "takes for the same name; give --role-name as it is spelled there "
                "(`aws iam list-roles`), or another",
                word="conflict",
            ) from error
        if not found.is_ours or roles.trust_wanted(wanted, found) is not None:
            raise error

    async def change(self, wanted: Role, found: FoundRole) -> None:
        policy = roles.trust_wanted(wanted, found)
        if policy is not None:
            await self._put_trust(wanted, policy)
        duration_s = roles.duration_wanted(wanted, found)
        if duration_s is not None:
            await self._api.call(
                "iam", "UpdateRole", RoleName=wanted.name, MaxSessionDuration=duration_s
            )

    async def remove(self, wanted: Role, found: FoundRole) -> None:
        await _told(self._api, "DeleteRole", RoleName=wanted.name)

    async def take_back(self, wanted: Role, found: FoundRole) -> None:
        await self._put_trust(wanted, roles.trust_without_us(wanted, found))

    async def _put_trust(self, wanted: Role, policy: Document) -> None:
        await self._with_trust(
            "UpdateAssumeRolePolicy", RoleName=wanted.name, PolicyDocument=_text(policy)
        )

    async def _with_trust(self, operation: str, **said: Any) -> None:
        await _settled(
            lambda: self._api.call("iam", operation, **said),
            is_early=lambda error: (
                error.code == "MalformedPolicyDocument" and ":oidc-provider/" in error.words
            ),
            clock=self._clock,
        )


class AttachedPolicies:
    """Managed policies on a role."""

    def __init__(self, api: AwsApi, *, clock: Clock) -> None:
        self._api = api
        self._clock = clock

    async def read(self, wanted: AttachedPolicy, *, deeply: bool) -> FoundAttached | None:
        attached = await _attached(self._api, wanted.role)
        return FoundAttached() if wanted.arn in attached else None

    async def create(self, wanted: AttachedPolicy) -> Known:
        try:
            await _settled(
                lambda: self._api.call(
                    "iam", "AttachRolePolicy", RoleName=wanted.role, PolicyArn=wanted.arn
                ),
                is_early=_misses_the_role,
                clock=self._clock,
            )
        except AwsRefused as error:
            if error.code != GONE or _misses_the_role(error):
                raise
            raise Refused(
                f"there is no policy {wanted.arn} to attach (IAM: {error.words.rstrip('.')}); "
                "correct --policy-arn",
                word="not-found",
            ) from error
        return Known()

    async def change(self, wanted: AttachedPolicy, found: FoundAttached) -> None:
        """Nothing: it is attached or not."""

    async def remove(self, wanted: AttachedPolicy, found: FoundAttached) -> None:
        await _told(self._api, "DetachRolePolicy", RoleName=wanted.role, PolicyArn=wanted.arn)

    async def take_back(self, wanted: AttachedPolicy, found: FoundAttached) -> None:
        """Nothing: see `change`."""


class InlinePolicies:
    """A role's own policies."""

    def __init__(self, api: AwsApi, *, clock: Clock) -> None:
        self._api = api
        self._clock = clock

    async def read(self, wanted: InlinePolicy, *, deeply: bool) -> FoundInline | None:
        if GUID_OF_THE_POOL in wanted.name:
            return None  # the pool that it is named after does not stand yet
        told = await _told(self._api, "GetRolePolicy", RoleName=wanted.role, PolicyName=wanted.name)
        if told is None:
            return None
        return FoundInline(document=_policy_in(told.get("PolicyDocument")))

    async def create(self, wanted: InlinePolicy) -> Known:
        await self._put(wanted, wanted.document)
        return Known()

    async def change(self, wanted: InlinePolicy, found: FoundInline) -> None:
        await self._put(wanted, policies.merged_with(wanted, found))

    async def remove(self, wanted: InlinePolicy, found: FoundInline) -> None:
        await _told(self._api, "DeleteRolePolicy", RoleName=wanted.role, PolicyName=wanted.name)

    async def take_back(self, wanted: InlinePolicy, found: FoundInline) -> None:
        await self._put(wanted, policies.document_without_us(wanted, found))

    async def _put(self, wanted: InlinePolicy, document: Document) -> None:
        await _settled(
            lambda: self._api.call(
                "iam",
                "PutRolePolicy",
                RoleName=wanted.role,
                PolicyName=wanted.name,
                PolicyDocument=_text(document),
            ),
            is_early=_misses_the_role,
            clock=self._clock,
        )


async def _settled(
    call: Callable[[], Awaitable[object]],
    *,
    is_early: Callable[[AwsRefused], bool],
    clock: Clock,
) -> None:
    """Make *call*, again after a pause where it was refused for coming too early."""
    for pause_s in SETTLING_PAUSES_S:
        try:
            await call()
        except AwsRefused as error:
            if not is_early(error):
                raise
            await clock.sleep(pause_s)
        else:
            return
    await call()


def _misses_the_role(error: AwsRefused) -> bool:
    return error.code == GONE and "role with name" in error.words.lower()


async def _told(api: AwsApi, operation: str, **said: Any) -> Mapping[str, Any] | None:
    """Call *operation*; None where what it is about is not there."""
    try:
        return await api.call("iam", operation, **said)
    except AwsRefused as error:
        if error.code != GONE:
            raise
        return None


async def _attached(api: AwsApi, role: str) -> tuple[str, ...]:
    """Return the ARNs of the managed policies on *role*; none where it is not there."""
    listed = _listed(api, "ListAttachedRolePolicies", "AttachedPolicies", RoleName=role)
    return tuple([str(one.get("PolicyArn")) async for one in listed])


async def _listed(api: AwsApi, operation: str, member: str, **said: Any) -> AsyncIterator[Any]:
    """Yield what every page of a list has; nothing where what it is about is not there."""
    marker: dict[str, Any] = {}
    while True:
        told = await _told(api, operation, **said, **marker)
        for one in (told or {}).get(member, ()):
            yield one
        if not told or not told.get("IsTruncated") or not told.get("Marker"):
            return
        marker = {"Marker": told["Marker"]}


def _is_tagged(told: Mapping[str, Any]) -> bool:
    return any(
        tag.get("Key") == TAG_KEY and tag.get("Value") == TAG_VALUE
        for tag in told.get("Tags") or ()
    )


def _policy_in(document: object) -> Document:
    """Return a policy as botocore has parsed it.

    Raises:
        Unavailable: It is none: what cannot be read must not be written over.
    """
    if not isinstance(document, dict):
        raise Unavailable("IAM told a policy that is no JSON object", word="bad-answer")
    return document


def _text(document: Document) -> str:
    return json.dumps(document, separators=(",", ":"))
