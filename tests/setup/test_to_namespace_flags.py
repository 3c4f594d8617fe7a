"""The flags of `setup to-namespace`, and what is refused before any cloud is asked."""

from typing import Any

import pytest

from broker.config.errors import ConfigError
from broker.setup.arguments import ToNamespaceFlags, cognito_request, region_in, sts_request

GUID = "6f0a1b2c-1111-2222-3333-444455556666"


def by_sts(**said: Any) -> Any:
    return sts_request(ToNamespaceFlags(**({"role_name": "builder"} | said)))


def by_cognito(*, found: str | None = "eu-central-1", **said: Any) -> Any:
    flags = ToNamespaceFlags(**({"role_name": "builder"} | said))
    return cognito_request(flags, region=found)


def test_what_is_not_said_is_the_guides() -> None:
    asked = by_sts()

    assert asked.audience == "https://federation.namespaceapis.com"
    assert (asked.algorithm, asked.duration_s, asked.unconditional) == ("ES384", 300, False)
    assert (asked.grants, asked.token_duration_s, asked.subject_match) == ((), None, None)


@pytest.mark.parametrize(("said", "seconds"), [("300", 300), ("90s", 90), ("5m", 300)])
def test_a_duration_is_taken_in_seconds_and_with_a_unit(said: str, seconds: int) -> None:
    assert by_sts(duration=said).duration_s == seconds


@pytest.mark.parametrize(("said", "seconds"), [("1800s", 1800), ("30m", 1800), ("1d", 86400)])
def test_a_token_duration_is_taken_with_its_unit(said: str, seconds: int) -> None:
    assert by_sts(token_duration=said).token_duration_s == seconds


def test_a_grant_is_one_json_object() -> None:
    text = '{"resource_type": "instance", "resource_id": "*", "actions": ["create", "get"]}'

    (grant,) = by_sts(grants=(text,)).grants

    assert grant["actions"] == ["create", "get"]


@pytest.mark.parametrize("pool", [GUID, f"eu-central-1:{GUID}"])
def test_a_pool_is_taken_bare_and_with_its_region(pool: str) -> None:
    assert by_cognito(identity_pool=pool).pool_id == f"eu-central-1:{GUID}"


def test_a_pools_own_region_stands_over_the_one_for_everything() -> None:
    assert by_cognito(identity_pool=f"us-west-2:{GUID}").pool_id == f"us-west-2:{GUID}"
    assert region_in(f"us-west-2:{GUID}") == "us-west-2"


PROVIDER = "arn:aws:iam::123456789012:oidc-provider/federation.namespaceapis.com"

REFUSED_BY_STS = [
    ({"role_name": None}, "--role-name: is not given"),
    ({"role_name": "no such/name"}, "--role-name: is"),
    ({"role_name": "a" * 65}, "1 to 64"),
    ({"role_name": PROVIDER}, "com is an identity provider, not a role"),
    ({"role_name": "arn:aws:iam::123456789012:role/ci/builder"}, "give builder"),
    ({"subject_match": PROVIDER}, "com is an identity provider, not a role"),
    ({"subject_match": "arn:aws:sts::123456789012:assumed-role/builder/x"}, "a session of a role"),
    ({"subject_match": "*"}, "role/\\* for any role"),
    ({"subject_match": "arn:aws:iam::*:role/builder"}, "--subject-match"),
    ({"audience": "two words"}, "--audience"),
    ({"algorithm": "HS256"}, "--algorithm: is 'HS256'; give ES384 or RS256"),
    ({"duration": "soon"}, "--duration: is 'soon'; give seconds"),
    ({"duration": "59"}, "60 to 3600"),
    ({"duration": "2h"}, "60 to 3600"),
    ({"token_duration": "1800"}, "--token-duration: is '1800'; give it like 1800s"),
    ({"token_duration": "0s"}, "--token-duration"),
    ({"token_duration": "1h30m"}, "--token-duration"),
    ({"grants": ("full",)}, "--grant: is 'full', which is not JSON"),
    ({"grants": ('["create"]',)}, "not a JSON object"),
    ({"grants": ('{"actions": ["get"]}',)}, "without a resource_type"),
    ({"grants": ('{"resource_type": "tenant"}',)}, "without a list of actions"),
    ({"grants": ('{"resource_type": "tenant", "actions": []}',)}, "without a list of actions"),
    (
        {"grants": ('{"resourceType": "tenant", "actions": ["get"]}',)},
        "has the unknown member 'resourceType'",
    ),
    ({"issuer": "https://3d1b.tokens.sts.global.api.aws/"}, "not even a slash"),
    ({"issuer": "https://3d1b.tokens.sts.global.api.aws:443"}, "no port"),
    ({"issuer": "http://3d1b.tokens.sts.global.api.aws"}, "not an issuer's URL"),
    ({"identity_pool": GUID}, "--identity-pool: has no meaning with --via sts"),
    ({"pool_name": "mine"}, "--pool-name: has no meaning with --via sts"),
]


@pytest.mark.parametrize(("said", "told"), REFUSED_BY_STS)
def test_what_is_no_good_by_sts_is_named_with_its_flag(said: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        by_sts(**said)


REFUSED_BY_COGNITO = [
    ({"identity_pool": "not a pool"}, "--identity-pool"),
    ({"identity_pool": f"nowhere:{GUID}"}, "--identity-pool"),
    ({"identity_pool": f"eu-west-1:{GUID}", "region": "eu-central-1"}, "--region: is eu-central-1"),
    ({"identity_pool": GUID, "pool_name": "x"}, "give one of them"),
    ({"pool_name": "no/slash"}, "--pool-name"),
    ({"pool_name": "n" * 129}, "--pool-name"),
    ({"grants": ("{}",)}, "--grant: has no meaning with --via cognito"),
    ({"subject_match": "x"}, "--subject-match: has no meaning with --via cognito"),
    ({"unconditional": True}, "--unconditional: has no meaning with --via cognito"),
    ({"token_duration": "1800s"}, "--token-duration: has no meaning with --via cognito"),
]


@pytest.mark.parametrize(("said", "told"), REFUSED_BY_COGNITO)
def test_what_is_no_good_by_cognito_is_named_with_its_flag(said: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        by_cognito(**said)


def test_a_bare_pool_without_any_region_is_nowhere() -> None:
    with pytest.raises(ConfigError, match=f"give REGION:{GUID}, or --region"):
        by_cognito(found=None, identity_pool=GUID)
