"""OIDC providers by IAM's API, and what STS makes of what stands there."""

from typing import Any

import pytest

from broker.sandbox import Sandbox
from tests.support.fakes import FakeClock
from tests.support.sandbox_clients import assume, refusal
from tests.support.sandbox_iam import ISSUER, PROVIDER_ARN, THUMBPRINT, iam_of


@pytest.fixture
async def empty() -> Any:
    async with Sandbox(empty=True) as sandbox:
        yield sandbox


async def test_an_empty_account_has_neither_provider_nor_role(empty: Sandbox) -> None:
    async with iam_of(empty) as iam:
        providers = await iam.list_open_id_connect_providers()
        roles = await iam.list_roles()
        missing = await refusal(
            iam.get_open_id_connect_provider(OpenIDConnectProviderArn=empty.provider_arn)
        )

    assert (providers["OpenIDConnectProviderList"], roles["Roles"]) == ([], [])
    assert (missing.status, missing.kind) == (404, "NoSuchEntityException")
    assert empty.namespace.trust_relationships() == ()


async def test_a_provider_that_the_api_made_and_a_role_that_names_it_admit(empty: Sandbox) -> None:
    async with iam_of(empty) as iam:
        made = await iam.create_open_id_connect_provider(
            Url=ISSUER, ClientIDList=["sts.amazonaws.com"], ThumbprintList=[THUMBPRINT]
        )
    empty.aws.add_role("deploy", trust_policy=empty.guide_trust())

    answer = await assume(empty)

    assert made["OpenIDConnectProviderArn"] == empty.provider_arn == PROVIDER_ARN
    assert answer.code is None


async def test_a_provider_is_told_with_its_url_without_scheme(empty: Sandbox) -> None:
    async with iam_of(empty) as iam:
        made = await iam.create_open_id_connect_provider(
            Url=ISSUER,
            ClientIDList=["sts.amazonaws.com"],
            ThumbprintList=[THUMBPRINT],
            Tags=[{"Key": "made-by", "Value": "us"}],
        )
        told = await iam.get_open_id_connect_provider(OpenIDConnectProviderArn=PROVIDER_ARN)
        listed = await iam.list_open_id_connect_providers()

    assert made["Tags"] == told["Tags"] == [{"Key": "made-by", "Value": "us"}]
    assert told["Url"] == "federation.namespaceapis.com"
    assert told["ClientIDList"] == ["sts.amazonaws.com"]
    assert told["ThumbprintList"] == [THUMBPRINT]
    assert told["CreateDate"].tzinfo is not None
    assert listed["OpenIDConnectProviderList"] == [{"Arn": PROVIDER_ARN}]


@pytest.mark.parametrize(
    ("params", "status", "code"),
    [
        ({"Url": "http://federation.namespaceapis.com"}, 400, "ValidationError"),
        ({"Url": "federation.namespaceapis.com"}, 400, "ValidationError"),
        ({"Url": "https://federation.namespaceapis.com:8443"}, 400, "ValidationError"),
        ({"Url": "https://federation.namespaceapis.com?a=b"}, 400, "ValidationError"),
        ({"Url": "https://" + "a" * 250}, 400, "ValidationError"),
        ({"Url": ""}, 400, "ValidationError"),
        ({"ThumbprintList": ["abc"]}, 400, "ValidationError"),
        ({"ThumbprintList": ["z" * 40]}, 400, "InvalidInput"),
        ({"ThumbprintList": [THUMBPRINT] * 6}, 400, "InvalidInput"),
        ({"ClientIDList": ["a" * 256]}, 400, "ValidationError"),
        ({"ClientIDList": [f"a{n}" for n in range(101)]}, 409, "LimitExceeded"),
        ({"Tags": [{"Key": "", "Value": ""}]}, 400, "ValidationError"),
        ({"Url": "https://nobody.example", "ThumbprintList": []}, 400, "OpenIdIdpCommunicationErr"),
    ],
)
async def test_a_provider_is_not_made_of(
    empty: Sandbox, params: dict[str, Any], status: int, code: str
) -> None:
    good: dict[str, Any] = {"Url": ISSUER, "ThumbprintList": [THUMBPRINT]}

    async with iam_of(empty) as iam:
        told = await refusal(iam.create_open_id_connect_provider(**(good | params)))

    assert (told.status, told.code[:25]) == (status, code)
    assert empty.aws.providers() == ()


async def test_an_issuer_has_one_provider_in_an_account(sandbox: Sandbox) -> None:
    async with iam_of(sandbox) as iam:
        told = await refusal(iam.create_open_id_connect_provider(Url=ISSUER))

    assert (told.status, told.kind) == (409, "EntityAlreadyExistsException")


async def test_an_account_has_a_hundred_providers_at_most(sandbox: Sandbox) -> None:
    for number in range(99):
        sandbox.aws.add_provider(f"https://issuer{number}.example", client_ids=("a",))

    async with iam_of(sandbox) as iam:
        told = await refusal(
            iam.create_open_id_connect_provider(
                Url="https://one-more.example", ThumbprintList=[THUMBPRINT]
            )
        )

    assert (told.status, told.kind) == (409, "LimitExceededException")


async def test_audiences_are_added_and_removed_however_often(sandbox: Sandbox) -> None:
    arn = {"OpenIDConnectProviderArn": sandbox.provider_arn}

    async with iam_of(sandbox) as iam:
        for _ in range(2):
            await iam.add_client_id_to_open_id_connect_provider(**arn, ClientID="other")
        added = await iam.get_open_id_connect_provider(**arn)
        for _ in range(2):
            await iam.remove_client_id_from_open_id_connect_provider(
                **arn, ClientID="sts.amazonaws.com"
            )
        removed = await iam.get_open_id_connect_provider(**arn)

    assert added["ClientIDList"] == ["sts.amazonaws.com", "other"]
    assert removed["ClientIDList"] == ["other"]
    assert "Incorrect token audience" in ((await assume(sandbox)).message or "")


async def test_a_provider_lists_a_hundred_audiences_at_most(sandbox: Sandbox) -> None:
    arn = sandbox.aws.add_provider(
        "https://many.example", client_ids=tuple(f"a{n}" for n in range(100))
    )

    async with iam_of(sandbox) as iam:
        told = await refusal(
            iam.add_client_id_to_open_id_connect_provider(
                OpenIDConnectProviderArn=arn, ClientID="more"
            )
        )

    assert (told.status, told.kind) == (409, "LimitExceededException")


async def test_tags_are_added_changed_removed_and_listed_in_pages(sandbox: Sandbox) -> None:
    arn = {"OpenIDConnectProviderArn": sandbox.provider_arn}
    tags = [{"Key": key, "Value": "1"} for key in "abc"]

    async with iam_of(sandbox) as iam:
        await iam.tag_open_id_connect_provider(**arn, Tags=tags)
        await iam.tag_open_id_connect_provider(**arn, Tags=[{"Key": "b", "Value": "2"}])
        await iam.untag_open_id_connect_provider(**arn, TagKeys=["a", "unknown"])
        first = await iam.list_open_id_connect_provider_tags(**arn, MaxItems=1)
        second = await iam.list_open_id_connect_provider_tags(**arn, Marker=first["Marker"])

    assert (first["IsTruncated"], first["Tags"]) == (True, [{"Key": "b", "Value": "2"}])
    assert (second["IsTruncated"], second["Tags"]) == (False, [{"Key": "c", "Value": "1"}])


async def test_a_provider_is_deleted_however_often_and_roles_keep_naming_it(
    sandbox: Sandbox,
) -> None:
    arn = {"OpenIDConnectProviderArn": sandbox.provider_arn}

    async with iam_of(sandbox) as iam:
        for _ in range(2):
            await iam.delete_open_id_connect_provider(**arn)

    assert sandbox.aws.providers() == ()
    assert sandbox.aws.trust_of(sandbox.role_arn) == sandbox.guide_trust()
    assert "No OpenIDConnect provider" in ((await assume(sandbox)).message or "")


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("GetOpenIDConnectProvider", {}),
        ("AddClientIDToOpenIDConnectProvider", {"ClientID": "a"}),
        ("RemoveClientIDFromOpenIDConnectProvider", {"ClientID": "a"}),
        ("UpdateOpenIDConnectProviderThumbprint", {"ThumbprintList": [THUMBPRINT]}),
        ("TagOpenIDConnectProvider", {"Tags": [{"Key": "a", "Value": "b"}]}),
        ("UntagOpenIDConnectProvider", {"TagKeys": ["a"]}),
        ("ListOpenIDConnectProviderTags", {}),
    ],
)
@pytest.mark.parametrize(
    ("arn", "status", "code"),
    [
        ("arn:aws:iam::123456789012:oidc-provider/else.example", 404, "NoSuchEntity"),
        ("arn:aws:iam::210987654321:oidc-provider/theirs.example", 404, "NoSuchEntity"),
        ("arn:aws:iam::123456789012:role/deploy", 400, "InvalidInput"),
        ("short", 400, "ValidationError"),
    ],
)
async def test_a_provider_that_is_not_the_accounts_is_not_found(
    sandbox: Sandbox, operation: str, params: dict[str, Any], arn: str, status: int, code: str
) -> None:
    sandbox.aws.add_provider("https://theirs.example", client_ids=(), account="210987654321")

    async with iam_of(sandbox) as iam:
        told = await refusal(
            iam._make_api_call(operation, {"OpenIDConnectProviderArn": arn, **params})
        )

    # A stranger's ARN is refused before it is looked for: no policy here is for it.
    assert (told.status, told.code) in {(status, code), (403, "AccessDenied")}


# Thumbprints, and when STS sees it all.


@pytest.mark.parametrize("thumbprint", ["b" * 40, THUMBPRINT])
async def test_a_thumbprint_does_not_matter_where_the_certificate_is_a_public_authoritys(
    sandbox: Sandbox, thumbprint: str
) -> None:
    async with iam_of(sandbox) as iam:
        await iam.update_open_id_connect_provider_thumbprint(
            OpenIDConnectProviderArn=sandbox.provider_arn, ThumbprintList=[thumbprint]
        )

    assert (await assume(sandbox)).code is None


async def test_a_thumbprint_has_to_be_right_where_the_certificate_is_the_issuers_own(
    sandbox: Sandbox,
) -> None:
    sandbox.aws.add_issuer(ISSUER, resolve_at=sandbox.namespace.url, thumbprint="b" * 40)
    arn = {"OpenIDConnectProviderArn": sandbox.provider_arn}

    wrong = await assume(sandbox)
    async with iam_of(sandbox) as iam:
        await iam.update_open_id_connect_provider_thumbprint(**arn, ThumbprintList=["B" * 40])
    right = await assume(sandbox)

    assert (wrong.status, wrong.code) == (400, "InvalidIdentityToken")
    assert "doesn't match configured thumbprint" in (wrong.message or "")
    assert right.code is None


async def test_the_keys_of_an_issuer_that_nobody_finds_cannot_be_read(sandbox: Sandbox) -> None:
    sandbox.aws.add_provider("https://lost.example", client_ids=("sts.amazonaws.com",))
    token = sandbox.namespace.id_token(iss="https://lost.example")

    answer = await assume(sandbox, WebIdentityToken=token)

    assert "retrieve verification key" in (answer.message or "")


async def test_sts_sees_a_new_provider_only_when_it_has_spread(
    timed: Sandbox, clock: FakeClock
) -> None:
    timed.aws.remove_provider(timed.provider_arn)
    timed.aws.propagation_s = 20

    async with iam_of(timed) as iam:
        await iam.create_open_id_connect_provider(Url=ISSUER, ClientIDList=["sts.amazonaws.com"])
        told = await iam.list_open_id_connect_providers()
        await clock.advance(seconds=19)
        early = await assume(timed)
        await clock.advance(seconds=1)
        late = await assume(timed)

    assert len(told["OpenIDConnectProviderList"]) == 1
    assert "No OpenIDConnect provider found" in (early.message or "")
    assert late.code is None
