"""How providers and permission policies that are wanted compare with what stands."""

from broker.setup import policies, providers
from broker.setup.documents import VERSION
from broker.setup.policies import FoundAttached, FoundInline
from broker.setup.providers import FoundProvider
from broker.setup.steps import Standing
from broker.setup.wanted import Allowance, AttachedPolicy, InlinePolicy
from tests.support.setup import (
    FOREIGN,
    PROVIDER,
    READ_ONLY,
    found_role,
    statement,
    wanted_provider,
    wanted_role,
)

TRUSTS = {"Statement": [statement()]}


def test_a_provider_is_made_with_the_guides_audience_and_thumbprint() -> None:
    step = providers.step(wanted_provider(), None)

    assert step.kind == "create"
    assert step.diff == (
        "+ audience sts.amazonaws.com",
        "+ thumbprint a053375bfe84e8b748782c7cee15827a6af5a405",
    )


def test_a_provider_that_stands_is_kept_whatever_its_thumbprints() -> None:
    found = FoundProvider(audiences=("other", "sts.amazonaws.com"))

    assert providers.step(wanted_provider(), found).kind == "keep"


def test_a_provider_gets_the_audience_that_it_lacks_and_keeps_its_own() -> None:
    step = providers.step(wanted_provider(), FoundProvider(audiences=("other",)))

    assert (step.kind, step.diff) == ("change", ("+ audience sts.amazonaws.com",))


def test_a_provider_of_ours_that_nobody_trusts_goes() -> None:
    found = FoundProvider(audiences=("sts.amazonaws.com",), is_ours=True, trusted_by={})

    assert providers.removal(wanted_provider(), found, ()).kind == "remove"


def test_a_provider_without_our_tag_stays() -> None:
    found = FoundProvider(audiences=("sts.amazonaws.com",), trusted_by={})

    step = providers.removal(wanted_provider(), found, ())

    assert (step.kind, step.note) == ("keep", "it does not carry our tag: not ours")


def test_a_provider_that_another_role_trusts_stays() -> None:
    found = FoundProvider(audiences=(), is_ours=True, trusted_by={"theirs": TRUSTS})

    step = providers.removal(wanted_provider(), found, ())

    assert (step.kind, step.note) == ("keep", "trusted by theirs")


def test_a_provider_that_only_our_role_trusts_goes_with_that() -> None:
    found = FoundProvider(audiences=(), is_ours=True, trusted_by={"deploy": TRUSTS})
    role = found_role(statement(), is_ours=True, attached=(), inline=())

    step = providers.removal(wanted_provider(), found, [Standing(wanted=wanted_role(), found=role)])

    assert step.kind == "remove"


def test_a_provider_that_our_role_goes_on_trusting_for_others_stays() -> None:
    theirs = statement(sub="ws_2/*")
    found = FoundProvider(
        audiences=(), is_ours=True, trusted_by={"deploy": {"Statement": [statement(), theirs]}}
    )
    role = found_role(statement(), theirs, is_ours=True, attached=(), inline=())

    step = providers.removal(wanted_provider(), found, [Standing(wanted=wanted_role(), found=role)])

    assert (step.kind, step.note) == ("keep", "trusted by deploy")


def test_a_managed_policy_is_attached_once_and_detached_by_its_exact_arn() -> None:
    wanted = AttachedPolicy(role="deploy", arn=READ_ONLY)

    assert policies.attached_step(wanted, None).kind == "create"
    assert policies.attached_step(wanted, FoundAttached()).kind == "keep"
    assert policies.attached_removal(wanted, FoundAttached(), ()).kind == "remove"
    assert policies.attached_removal(wanted, None, ()).kind == "keep"


READING = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}
WRITING = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"}


def mine(*statements: object) -> InlinePolicy:
    return InlinePolicy(
        role="deploy", name="mine", document={"Version": VERSION, "Statement": list(statements)}
    )


def stands(*statements: object, **more: object) -> FoundInline:
    return FoundInline(document={"Version": VERSION, **more, "Statement": list(statements)})


def test_an_inline_policy_that_is_not_there_is_put_there_and_an_equal_one_kept() -> None:
    assert policies.inline_step(mine(READING), None).kind == "create"
    assert policies.inline_step(mine(READING), stands(READING)).kind == "keep"


def test_an_inline_policy_of_others_gets_what_it_lacks_and_keeps_the_rest_as_it_is() -> None:
    found = stands(FOREIGN, READING, Id="theirs")

    step = policies.inline_step(mine(READING, WRITING), found)
    merged = policies.merged_with(mine(READING, WRITING), found)

    assert (step.kind, step.note) == (
        "change",
        "it also has a statement that is not ours, which stays",
    )
    assert not any(line.startswith("-") and "}" not in line for line in step.diff)
    assert merged == {"Version": VERSION, "Id": "theirs", "Statement": [FOREIGN, READING, WRITING]}
    assert policies.inline_step(mine(READING, WRITING), FoundInline(document=merged)).kind == "keep"


def test_what_a_policy_file_said_earlier_is_not_taken_away_but_told() -> None:
    step = policies.inline_step(mine(READING), stands(WRITING, FOREIGN, READING))

    assert (step.kind, step.note) == (
        "keep",
        "it also has 2 statements that are not ours, which stay",
    )


def test_a_single_statement_that_stands_without_a_list_is_kept_in_one() -> None:
    found = FoundInline(document={"Version": VERSION, "Statement": FOREIGN})

    assert policies.merged_with(mine(READING), found)["Statement"] == [FOREIGN, READING]


def test_of_an_inline_policy_our_statements_go_and_the_policy_where_it_has_no_others() -> None:
    wanted, both = mine(READING, WRITING), stands(READING, FOREIGN, WRITING)

    assert policies.inline_removal(wanted, stands(READING, WRITING), ()).kind == "remove"
    assert policies.inline_removal(wanted, both, ()).kind == "change"
    assert policies.document_without_us(wanted, both)["Statement"] == [FOREIGN]
    assert policies.inline_removal(wanted, stands(FOREIGN), ()).kind == "keep"
    assert policies.inline_removal(wanted, stands(), ()).kind == "keep"
    assert policies.inline_removal(wanted, None, ()).kind == "keep"


def test_an_inline_policy_that_differs_and_allows_what_is_needed_is_kept() -> None:
    wanted = InlinePolicy(
        role="builder",
        name="mine",
        document={"Statement": [{"Effect": "Allow", "Action": "sts:GetWebIdentityToken"}]},
        allowances=(Allowance(action="sts:GetWebIdentityToken"),),
    )
    wide = {"Statement": [{"Effect": "Allow", "Action": "sts:*", "Resource": "*"}]}
    narrow = {"Statement": [{"Effect": "Allow", "Action": "sts:TagSession", "Resource": "*"}]}

    assert policies.inline_step(wanted, FoundInline(document=wide)).kind == "keep"
    assert policies.inline_step(wanted, FoundInline(document=narrow)).kind == "change"


def test_a_trust_policy_that_names_the_provider_in_no_statement_does_not_trust_it() -> None:
    assert providers.names(TRUSTS, PROVIDER)
    assert not providers.names({"Statement": FOREIGN}, PROVIDER)
    assert not providers.names({"Statement": ["?"]}, PROVIDER)
