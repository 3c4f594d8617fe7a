"""Whatever exists in an account, the plan makes it as desired and harms nothing else.

Then there is nothing left to do.
"""

import asyncio
import copy
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from broker.policy import role_admits_web_identity
from broker.setup import to_aws
from broker.setup.documents import Document, statements_of
from broker.setup.plan import Plan, apply, plan_changes, plan_removal, read_states, revert
from broker.setup.resources.oidc_provider import ActualProvider
from broker.setup.resources.role import ActualRole
from broker.setup.to_aws import ToAwsRequest
from tests.support.setup import FOREIGN, HOST, PLACE, PROVIDER, READ_ONLY, Account, statement

OTHER = "arn:aws:iam::123456789012:policy/theirs"
DOCUMENT: Document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*"}]}
THEIRS: Document = {"Statement": [FOREIGN]}
BOTH: Document = {"Id": "x", "Statement": [FOREIGN, {"Effect": "Allow", "Action": "s3:*"}]}
BARE: Document = {"Version": "2008-10-17", "Statement": FOREIGN}

statements = st.sampled_from(
    [
        FOREIGN,
        statement(),
        statement(Sid="ByHand"),
        statement(sub="ws_2/*"),
        statement(sub="ws_1/i-abc"),
        statement(sub="*"),
        statement(operator="StringEquals"),
    ]
)
trusts = st.lists(statements, min_size=1, max_size=4).map(
    lambda listed: {"Version": "2012-10-17", "Statement": listed}
)
roles = st.builds(
    ActualRole,
    arn=st.just(PLACE.role_arn("deploy")),
    trust_policy=trusts,
    max_session_duration_s=st.sampled_from([3600, 7200, 43200]),
    is_ours=st.booleans(),
)
providers = st.builds(
    ActualProvider,
    audiences=st.sampled_from([(), ("other",), ("sts.amazonaws.com",), ("a", "sts.amazonaws.com")]),
    is_ours=st.booleans(),
)
arns = st.sets(st.sampled_from([READ_ONLY, OTHER]))
documents: st.SearchStrategy[dict[str, Document]] = st.dictionaries(
    st.sampled_from(["mine", "theirs"]), st.sampled_from([DOCUMENT, THEIRS, BOTH, BARE])
)


@st.composite
def accounts(draw: st.DrawFn) -> Account:
    account = Account(provider=draw(st.none() | providers))
    if draw(st.booleans()):
        account.roles["deploy"] = draw(roles)
        account.attached["deploy"] = draw(arns)
        account.inline["deploy"] = draw(documents)
    if draw(st.booleans()):
        account.roles["another"] = draw(roles)
    return account


asked = st.builds(
    ToAwsRequest,
    role_name=st.just("deploy"),
    subject=st.sampled_from([None, "ws_1/i-abc", "ws_1/*"]),
    policy_arns=st.sampled_from([(), (READ_ONLY,)]),
    policies=st.sampled_from([{}, {"mine": DOCUMENT}]),
    max_session_duration_s=st.sampled_from([None, 3600, 43200]),
)


def planned(account: Account, wanted: ToAwsRequest) -> Plan:
    states = read_states(account.access(), to_aws.desired_resources(wanted, PLACE))
    return plan_changes(asyncio.run(states))


def made(account: Account, wanted: ToAwsRequest) -> None:
    async def make_it() -> None:
        cloud = account.access()
        states = await read_states(cloud, to_aws.desired_resources(wanted, PLACE))
        await apply(plan_changes(states), states, cloud, lambda _: None)

    asyncio.run(make_it())


def unmade(account: Account, wanted: ToAwsRequest) -> None:
    async def unmake_it() -> None:
        cloud = account.access()
        states = await read_states(cloud, to_aws.desired_resources(wanted, PLACE), deep=True)
        await revert(plan_removal(states), states, cloud, lambda _: None)

    asyncio.run(unmake_it())


def admits(account: Account, subject: str) -> bool:
    claims = {"iss": f"https://{HOST}", "sub": subject, "aud": "sts.amazonaws.com"}
    policy = account.roles["deploy"].trust_policy
    return bool(role_admits_web_identity(policy, provider_arn=PROVIDER, claims=claims))


def is_in_order(part: Sequence[object], whole: Sequence[object]) -> bool:
    rest = iter(whole)
    return all(any(one == other for other in rest) for one in part)


@given(account=accounts(), wanted=asked)
def test_what_is_made_is_as_it_is_wanted_and_planned_again_is_empty(
    account: Account, wanted: ToAwsRequest
) -> None:
    made(account, wanted)

    assert planned(account, wanted).pending == ()
    assert account.provider is not None
    assert "sts.amazonaws.com" in account.provider.audiences
    assert admits(account, "ws_1/i-abc")
    assert set(wanted.policy_arns) <= account.attached.get("deploy", set())
    for name, document in wanted.policies.items():
        stands = statements_of(account.inline["deploy"][name])
        assert all(one in stands for one in statements_of(document))


@given(account=accounts(), wanted=asked)
def test_what_stood_in_a_trust_policy_stands_there_still_and_in_order(
    account: Account, wanted: ToAwsRequest
) -> None:
    before = copy.deepcopy(account)

    made(account, wanted)

    for name, role in before.roles.items():
        after = account.roles[name]
        assert is_in_order(
            statements_of(role.trust_policy), list(statements_of(after.trust_policy))
        )
        if not role.is_ours:
            assert after.max_session_duration_s == role.max_session_duration_s
    for name, document in before.inline.get("deploy", {}).items():
        after_us = statements_of(account.inline["deploy"][name])
        assert is_in_order(statements_of(document), after_us)
    assert before.roles.get("another") == account.roles.get("another")
    if before.provider is not None and account.provider is not None:
        assert set(before.provider.audiences) <= set(account.provider.audiences)


@given(account=accounts(), wanted=asked)
def test_taking_back_takes_nothing_of_others_and_taken_back_again_nothing_at_all(
    account: Account, wanted: ToAwsRequest
) -> None:
    made(account, wanted)
    stood = copy.deepcopy(account)

    unmade(account, wanted)
    once = copy.deepcopy(account)
    unmade(account, wanted)

    assert account == once
    assert stood.roles.get("another") == account.roles.get("another")
    ours = to_aws.trust_statement(wanted, PLACE)
    for name, role in stood.roles.items():
        foreign = [one for one in statements_of(role.trust_policy) if one != ours]
        after = account.roles.get(name)
        assert after is not None or (role.is_ours and not foreign)
        if after is not None:
            assert is_in_order(foreign, list(statements_of(after.trust_policy)))
    for name, document in stood.inline.get("deploy", {}).items():
        own = statements_of(wanted.policies.get(name, {}))
        theirs = [one for one in statements_of(document) if one not in own]
        assert statements_of(account.inline.get("deploy", {}).get(name, {})) == theirs
    if account.provider is None:
        assert stood.provider is not None
        assert stood.provider.is_ours


@given(wanted=asked)
def test_what_was_made_in_an_empty_account_is_removed_to_an_empty_one(
    wanted: ToAwsRequest,
) -> None:
    account = Account()

    made(account, wanted)
    unmade(account, wanted)

    assert (account.provider, account.roles) == (None, {})
    assert not any(account.attached.values())
    assert not any(account.inline.values())
