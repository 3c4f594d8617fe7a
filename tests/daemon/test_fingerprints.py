"""A lease has a fingerprint of how it is obtained.

It is another one for every difference, the same for none, in every process.
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from broker.config import (
    AutoIdentityConfig,
    IdentityConfig,
    IdTokenConfig,
    RoleConfig,
    StsIdentityConfig,
    TokenFileIdentityConfig,
    Upstream,
)
from broker.credentials import Role
from broker.daemon import fingerprints

UPSTREAM = Upstream(iam_endpoint="https://iam.example")
ROLE = RoleConfig(
    role=Role(name="deploy", arn="arn:aws:iam::123456789012:role/deploy", region="eu-central-1"),
    identity="default",
    audience="sts.amazonaws.com",
)


def of(identity: IdentityConfig, environ: Mapping[str, str] | None = None) -> str:
    return fingerprints.of_identity(identity, upstream=UPSTREAM, environ=environ or {})


@pytest.mark.parametrize(
    "other",
    [
        {"arn": "arn:aws:iam::123456789012:role/other"},
        {"region": "eu-west-1"},
        {"duration_s": None},
        {"session_name": "x"},
        {"policy": "{}"},
        {"policy_arns": ("arn:aws:iam::aws:policy/ReadOnlyAccess",)},
    ],
    ids=str,
)
def test_every_parameter_of_the_call_makes_it_another_lease(other: Mapping[str, object]) -> None:
    changed = replace(ROLE, role=replace(ROLE.role, **other))  # type: ignore[arg-type]

    assert fingerprints.of_role(changed, bearer="b") != fingerprints.of_role(ROLE, bearer="b")


def test_who_it_is_bought_with_and_for_whom_count_and_what_it_is_called_does_not() -> None:
    made_of = fingerprints.of_role(ROLE, bearer="b")
    named = replace(ROLE, role=replace(ROLE.role, name="release"), identity="ci")

    assert fingerprints.of_role(named, bearer="b") == made_of
    assert fingerprints.of_role(ROLE, bearer="another") != made_of
    assert fingerprints.of_role(replace(ROLE, audience="x"), bearer="b") != made_of


def test_leases_of_two_kinds_are_never_the_same() -> None:
    entry = IdTokenConfig(name="x", audience="sts.amazonaws.com", identity="default")

    assert fingerprints.of_id_token(entry, bearer="b") != fingerprints.of_role(ROLE, bearer="b")


def test_what_an_identity_is_led_by_counts_where_it_is() -> None:
    auto, file = (
        AutoIdentityConfig(name="a"),
        TokenFileIdentityConfig(name="a", path=Path("/run/token.json")),
    )
    by_aws = StsIdentityConfig(name="a", workspace="tenant_1")

    assert of(auto, {"NSC_TOKEN_FILE": "/x"}) != of(auto, {"NSC_TOKEN_FILE": "/y"})
    assert of(file, {"NSC_TOKEN_FILE": "/x"}) == of(file, {"NSC_TOKEN_FILE": "/y"})
    assert of(by_aws, {"AWS_PROFILE": "x"}) != of(by_aws, {"AWS_PROFILE": "y"})
    assert of(by_aws, {"AWS_SESSION_TOKEN": "x"}) == of(by_aws, {"AWS_SESSION_TOKEN": "y"})


def test_another_process_comes_to_the_same() -> None:
    program = """
from broker.daemon import fingerprints
from broker.config import AutoIdentityConfig, Upstream
upstream = Upstream(iam_endpoint="https://iam.example")
print(fingerprints.of_identity(AutoIdentityConfig(name="a"), upstream=upstream, environ={}))
"""
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    assert shown.stdout.decode().strip() == of(AutoIdentityConfig(name="b"))
