"""How desired providers and permission policies compare with what exists."""

from broker.setup.documents import VERSION
from broker.setup.resource import ResourceState
from broker.setup.resources import AttachedPolicy, InlinePolicy
from broker.setup.resources.oidc_provider import ActualProvider, names
from broker.setup.resources.policies import ActualAttachment, ActualInlinePolicy, RequiredPermission
from tests.support.setup import (
    FOREIGN,
    PROVIDER,
    READ_ONLY,
    actual_role,
    desired_provider,
    desired_role,
    statement,
)

TRUSTS = {"Statement": [statement()]}


def test_a_provider_is_made_with_the_guides_audience_and_thumbprint() -> None:
    step = desired_provider().diff(None)

    assert step.kind == "create"
    assert step.diff == (
        "+ audience sts.amazonaws.com",
        "+ thumbprint a053375bfe84e8b748782c7cee15827a6af5a405",
    )


def test_a_provider_that_stands_is_kept_whatever_its_thumbprints() -> None:
    found = ActualProvider(audiences=("other", "sts.amazonaws.com"))

    assert desired_provider().diff(found).kind == "keep"


def test_a_provider_gets_the_audience_that_it_lacks_and_keeps_its_own() -> None:
    step = desired_provider().diff(ActualProvider(audiences=("other",)))

    assert (step.kind, step.diff) == ("change", ("+ audience sts.amazonaws.com",))


def test_a_provider_of_ours_that_nobody_trusts_goes() -> None:
    found = ActualProvider(audiences=("sts.amazonaws.com",), is_ours=True, trusted_by={})

    assert desired_provider().removal(found, ()).kind == "remove"


def test_a_provider_without_our_tag_stays() -> None:
    found = ActualProvider(audiences=("sts.amazonaws.com",), trusted_by={})

    step = desired_provider().removal(found, ())

    assert (step.kind, step.note) == ("keep", "it does not have our tag: not ours")


def test_a_provider_that_another_role_trusts_stays() -> None:
    found = ActualProvider(audiences=(), is_ours=True, trusted_by={"theirs": TRUSTS})

    step = desired_provider().removal(found, ())

    assert (step.kind, step.note) == ("keep", "trusted by theirs")


def test_a_provider_that_only_our_role_trusts_goes_with_that() -> None:
    found = ActualProvider(audiences=(), is_ours=True, trusted_by={"deploy": TRUSTS})
    role = actual_role(statement(), is_ours=True, attached=(), inline=())

    step = desired_provider().removal(found, [ResourceState(desired=desired_role(), actual=role)])

    assert step.kind == "remove"


def test_a_provider_that_our_role_goes_on_trusting_for_others_stays() -> None:
    theirs = statement(sub="ws_2/*")
    found = ActualProvider(
        audiences=(), is_ours=True, trusted_by={"deploy": {"Statement": [statement(), theirs]}}
    )
    role = actual_role(statement(), theirs, is_ours=True, attached=(), inline=())

    step = desired_provider().removal(found, [ResourceState(desired=desired_role(), actual=role)])

    assert (step.kind, step.note) == ("keep", "trusted by deploy")


def test_a_managed_policy_is_attached_once_and_detached_by_its_exact_arn() -> None:
    wanted = AttachedPolicy(role="deploy", arn=READ_ONLY)

    assert wanted.diff(None).kind == "create"
    assert wanted.diff(ActualAttachment()).kind == "keep"
    assert wanted.removal(ActualAttachment(), ()).kind == "remove"
    assert wanted.removal(None, ()).kind == "keep"


READING = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
WRITING = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"}


def mine(*statements: object) -> InlinePolicy:
    return InlinePolicy(
        role="deploy", name="mine", document={"Version": VERSION, "Statement": list(statements)}
    )


def stands(*statements: object, **more: object) -> ActualInlinePolicy:
    return ActualInlinePolicy(document={"Version": VERSION, **more, "Statement": list(statements)})


def test_an_inline_policy_that_is_not_there_is_put_there_and_an_equal_one_kept() -> None:
    assert mine(READING).diff(None).kind == "create"
    assert mine(READING).diff(stands(READING)).kind == "keep"


def test_an_inline_policy_of_others_gets_what_it_lacks_and_keeps_the_rest_as_it_is() -> None:
    found = stands(FOREIGN, READING, Id="theirs")

    step = mine(READING, WRITING).diff(found)
    merged = mine(READING, WRITING).merged_with(found)

    assert (step.kind, step.note) == (
        "change",
        "it also has a statement that is not ours, which stays",
    )
    assert not any(line.startswith("-") and "}" not in line for line in step.diff)
    assert merged == {"Version": VERSION, "Id": "theirs", "Statement": [FOREIGN, READING, WRITING]}
    assert mine(READING, WRITING).diff(ActualInlinePolicy(document=merged)).kind == "keep"


def test_what_a_policy_file_said_earlier_is_not_taken_away_but_told() -> None:
    step = mine(READING).diff(stands(WRITING, FOREIGN, READING))

    assert (step.kind, step.note) == (
        "keep",
        "it also has 2 statements that are not ours, which stay",
    )


def test_a_single_statement_that_stands_without_a_list_is_kept_in_one() -> None:
    found = ActualInlinePolicy(document={"Version": VERSION, "Statement": FOREIGN})

    assert mine(READING).merged_with(found)["Statement"] == [FOREIGN, READING]


def test_of_an_inline_policy_our_statements_go_and_the_policy_where_it_has_no_others() -> None:
    wanted, both = mine(READING, WRITING), stands(READING, FOREIGN, WRITING)

    assert wanted.removal(stands(READING, WRITING), ()).kind == "remove"
    assert wanted.removal(both, ()).kind == "change"
    assert wanted.document_without_us(both)["Statement"] == [FOREIGN]
    assert wanted.removal(stands(FOREIGN), ()).kind == "keep"
    assert wanted.removal(stands(), ()).kind == "keep"
    assert wanted.removal(None, ()).kind == "keep"


def test_an_inline_policy_that_differs_and_allows_what_is_needed_is_kept() -> None:
    wanted = InlinePolicy(
        role="builder",
        name="mine",
        document={"Statement": [{"Effect": "Allow", "Action": "sts:GetWebIdentityToken"}]},
        required=(RequiredPermission(action="sts:GetWebIdentityToken"),),
    )
    wide = {"Statement": [{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}]}
    narrow = {"Statement": [{"Effect": "Allow", "Action": "sts:TagSession", "Resource": "*"}]}

    assert wanted.diff(ActualInlinePolicy(document=wide)).kind == "keep"
    assert wanted.diff(ActualInlinePolicy(document=narrow)).kind == "change"


def test_a_trust_policy_that_names_the_provider_in_no_statement_does_not_trust_it() -> None:
    assert names(TRUSTS, PROVIDER)
    assert not names({"Statement": FOREIGN}, PROVIDER)
    assert not names({"Statement": ["?"]}, PROVIDER)
