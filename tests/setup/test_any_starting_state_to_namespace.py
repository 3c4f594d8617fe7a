"""Whatever exists in the two clouds, the plan makes it as desired and harms nothing else.

Then there is nothing left to do; after a failure, the same command finishes it.
"""

import asyncio
import copy
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from broker import policy
from broker.lease import Refused, SourceError
from broker.setup.documents import Document, policy_of, statements_of
from broker.setup.plan import Plan, apply, plan_changes, plan_removal, read_states, revert
from broker.setup.resources import DesiredResource
from broker.setup.resources.trust_relationship import in_our_spelling
from broker.setup.to_namespace import (
    GET_DEVELOPER_TOKEN,
    GET_WEB_IDENTITY_TOKEN,
    STS_POLICY_NAME,
    CognitoRequest,
    StsRequest,
    context_of,
    desired_by_cognito,
    desired_by_sts,
    web_identity_statement,
)
from tests.support.setup import PLACE
from tests.support.setup_clouds import ISSUER, BothClouds

ROLE = "arn:aws:iam::123456789012:role/ci/builder"
ANY_ROLE = "arn:aws:iam::123456789012:role/*"
AUDIENCE = "https://federation.namespaceapis.com"
GRANT = {"resource_type": "instance", "resource_id": "*", "actions": ["create"]}
POOL_ID = "eu-central-1:6f0a1b2c-1111-2222-3333-444455556666"
GUIDES = {"Effect": "Allow", "Action": GET_WEB_IDENTITY_TOKEN, "Resource": "*"}
TAGGING = {"Effect": "Allow", "Action": "sts:TagSession", "Resource": "*"}
NOWHERE = {**GUIDES, "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}
DENIED = {**GUIDES, "Effect": "Deny", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}

by_sts = st.builds(
    StsRequest,
    role_name=st.just("builder"),
    subject_match=st.sampled_from([None, ANY_ROLE]),
    audience=st.sampled_from([AUDIENCE, "https://example.com"]),
    duration_s=st.sampled_from([60, 300, 3600]),
    unconditional=st.booleans(),
    grants=st.sampled_from([(), (GRANT,)]),
    token_duration_s=st.sampled_from([None, 1800]),
)
by_cognito = st.builds(
    CognitoRequest,
    role_name=st.just("builder"),
    pool_name=st.sampled_from(["namespace", "another"]),
    pool_id=st.sampled_from([None, POOL_ID]),
)
asked = by_sts | by_cognito
own_statements = by_sts.map(web_identity_statement)
foreign_statements: st.SearchStrategy[Document] = st.sampled_from(
    [TAGGING, NOWHERE, {**GUIDES, "Sid": "Theirs"}]
)
statements: st.SearchStrategy[Document] = own_statements | foreign_statements | st.just(GUIDES)
documents: st.SearchStrategy[Document] = st.lists(statements, min_size=1, max_size=3).map(
    lambda listed: policy_of(*listed)
)
pools = st.fixed_dictionaries(
    {
        "IdentityPoolId": st.uuids().map(lambda guid: f"eu-central-1:{guid}") | st.just(POOL_ID),
        "IdentityPoolName": st.sampled_from(["namespace", "another", "theirs"]),
    },
    optional={
        "DeveloperProviderName": st.sampled_from(["namespace.so", "theirs.example"]),
        "IdentityPoolTags": st.sampled_from(
            [
                {"managed-by": "namespace-broker"},
                {"managed-by": "namespace-broker-2"},
                {"Managed-By": "namespace-broker"},
            ]
        ),
        "AllowUnauthenticatedIdentities": st.booleans(),
    },
)
relationships = st.fixed_dictionaries(
    {
        "id": st.uuids().map(str),
        "issuer": st.sampled_from([ISSUER, "https://other.example"]),
        "subject_match": st.sampled_from([ROLE, ANY_ROLE, "repo:x/*"]),
    },
    optional={
        "audience": st.sampled_from([AUDIENCE, "https://example.com", ""]),
        "default_permissions": st.sampled_from([[], [GRANT], [{**GRANT, "newer": [1]}]]),
        "default_token_duration": st.sampled_from(["1800s", "3600s", "1800.000s"]),
        "newer": st.just({"a": [1, None, {"b": 2.5}]}),
    },
)


@st.composite
def worlds(draw: st.DrawFn) -> BothClouds:
    world = BothClouds(federation=draw(st.booleans()), generation=17)
    named = {STS_POLICY_NAME: documents, "theirs": documents}
    world.policies["builder"] = draw(st.fixed_dictionaries({}, optional=named))
    world.policies["another"] = draw(st.fixed_dictionaries({}, optional=named))
    world.pools = draw(st.lists(pools, max_size=3, unique_by=lambda pool: pool["IdentityPoolId"]))
    world.relationships = draw(st.lists(relationships, max_size=4, unique_by=lambda one: one["id"]))
    return world


def wanted_of(wanted: StsRequest | CognitoRequest) -> tuple[DesiredResource, ...]:
    if isinstance(wanted, CognitoRequest):
        return desired_by_cognito(wanted, PLACE)
    return desired_by_sts(wanted, PLACE, role_arn=ROLE)


def planned(world: BothClouds, wanted: StsRequest | CognitoRequest) -> Plan:
    return plan_changes(asyncio.run(read_states(world.access(), wanted_of(wanted))))


def made(world: BothClouds, wanted: StsRequest | CognitoRequest) -> None:
    async def make_it() -> None:
        cloud = world.access()
        states = await read_states(cloud, wanted_of(wanted))
        await apply(plan_changes(states), states, cloud, lambda _: None)

    asyncio.run(make_it())


def is_made(world: BothClouds, wanted: StsRequest | CognitoRequest) -> bool:
    """Make it; return False where it is refused before anything is done.

    That is when the pool cannot be told, or is none of Namespace's. What exists for an issuer that
    was not known when the plan was shown is shown first: then it takes two.
    """
    before = world.state()
    try:
        made(world, wanted)
    except Refused:
        if isinstance(wanted, CognitoRequest):
            assert world.state() == before
            return False
        made(world, wanted)
    return True


def unmade(world: BothClouds, wanted: StsRequest | CognitoRequest) -> None:
    async def unmake_it() -> None:
        cloud = world.access()
        states = await read_states(cloud, wanted_of(wanted), deep=True)
        await revert(plan_removal(states), states, cloud, lambda _: None)

    asyncio.run(unmake_it())


def gets_in(world: BothClouds, wanted: StsRequest | CognitoRequest) -> bool:
    """Return whether a workload that runs as the role would be admitted, as far as can be told."""
    policies = world.policies["builder"]
    if isinstance(wanted, StsRequest):
        claims = {"iss": ISSUER, "sub": ROLE, "aud": wanted.audience}
        may = policy.identity_may(
            policies, action=GET_WEB_IDENTITY_TOKEN, context=context_of(wanted)
        )
        listed = [in_our_spelling(one) for one in world.relationships]
        return (
            world.federation
            and bool(may)
            and bool(policy.relationships_admit(listed, claims=claims))
        )
    return any(
        pool["IdentityPoolId"] in world.trusted_pools
        and pool.get("DeveloperProviderName") == "namespace.so"
        and policy.identity_may(
            policies,
            action=GET_DEVELOPER_TOKEN,
            resource=PLACE.pool_arn(pool["IdentityPoolId"]),
        )
        for pool in world.pools
    )


def is_in_order(part: Sequence[object], whole: Sequence[object]) -> bool:
    rest = iter(whole)
    return all(any(one == other for other in rest) for one in part)


@given(world=worlds(), wanted=asked)
def test_what_is_made_lets_the_workload_in_and_planned_again_is_empty(
    world: BothClouds, wanted: StsRequest | CognitoRequest
) -> None:
    assume(is_made(world, wanted))

    assert planned(world, wanted).pending == ()
    assert gets_in(world, wanted)


@given(world=worlds(), wanted=asked)
def test_what_stood_of_others_stands_there_still_as_it_was_and_in_order(
    world: BothClouds, wanted: StsRequest | CognitoRequest
) -> None:
    before = copy.deepcopy(world)
    assume(is_made(world, wanted))

    own = [TAGGING, NOWHERE, {**GUIDES, "Sid": "Theirs"}]
    for role, policies in before.policies.items():
        for name, document in policies.items():
            theirs = [one for one in statements_of(document) if one in own]
            assert is_in_order(theirs, statements_of(world.policies[role][name]))
    assert world.policies["another"] == before.policies["another"]
    assert world.pools[: len(before.pools)] == before.pools
    for old, new in zip(before.relationships, world.relationships, strict=False):
        changed = {name for name in {*old, *new} if old.get(name) != new.get(name)}
        assert changed <= {"default_permissions", "default_token_duration"}
        if changed:
            assert (old["issuer"], isinstance(wanted, StsRequest)) == (ISSUER, True)
            assert "subject_match" in old
            assert old["subject_match"] != "repo:x/*"
        else:
            assert json.dumps(old) == json.dumps(new)


@given(world=worlds(), wanted=asked)
def test_at_most_one_relationship_is_changed_or_added(
    world: BothClouds, wanted: StsRequest | CognitoRequest
) -> None:
    before = copy.deepcopy(world.relationships)
    assume(is_made(world, wanted))

    kept = [one for one in world.relationships if one in before]

    assert len(world.relationships) - len(kept) <= 1
    assert len(world.relationships) >= len(before)


@given(world=worlds(), wanted=asked, lost=st.integers(0, 2), unheard=st.booleans())
def test_whatever_call_fails_the_same_command_finishes_it(
    world: BothClouds, wanted: StsRequest | CognitoRequest, lost: int, unheard: bool
) -> None:
    whole = copy.deepcopy(world)
    assume(is_made(whole, wanted))
    world.lost, world.unheard = lost, unheard
    with suppress(SourceError):
        made(world, wanted)
    world.lost = None

    assert is_made(world, wanted)

    assert planned(world, wanted).pending == ()
    assert gets_in(world, wanted)
    assert len(world.pools) == len(whole.pools)
    assert len(world.relationships) == len(whole.relationships)


@given(world=worlds(), wanted=asked)
def test_taking_back_takes_nothing_of_others_and_taken_back_again_nothing_at_all(
    world: BothClouds, wanted: StsRequest | CognitoRequest
) -> None:
    assume(is_made(world, wanted))
    stood = copy.deepcopy(world)

    unmade(world, wanted)
    once = world.state()
    unmade(world, wanted)

    assert world.state() == once
    assert world.federation == stood.federation
    assert world.policies["another"] == stood.policies["another"]
    for pool in stood.pools:
        tags: Any = pool.get("IdentityPoolTags", {})
        if tags.get("managed-by") != "namespace-broker":
            assert pool in world.pools
    assert len(stood.pools) - len(world.pools) <= 1
    assert is_in_order(world.relationships, stood.relationships)


@given(wanted=asked)
def test_what_was_made_in_two_empty_clouds_is_removed_to_empty_ones(
    wanted: StsRequest | CognitoRequest,
) -> None:
    world = BothClouds()
    assume(is_made(world, wanted))

    unmade(world, wanted)

    assert (world.pools, world.relationships) == ([], [])
    assert not any(world.policies.values())
