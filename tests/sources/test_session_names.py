"""Role session names: the vendor's convention, AWS's alphabet, never more than 64 characters."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as some

from broker.credentials import legal_session_name, session_name_for


@pytest.mark.parametrize(
    ("instance_id", "tenant_id", "name"),
    [
        ("ui3e3e3g7cfrg", "ws_1", "nsc.instance=ui3e3e3g7cfrg"),
        (None, "ws_1", "nsc.tenant=ws_1"),
        ("", "ws_1", "nsc.tenant=ws_1"),
        (None, None, "namespace-broker"),
    ],
)
def test_the_instance_names_the_session_else_the_workspace(
    instance_id: str | None, tenant_id: str | None, name: str
) -> None:
    assert session_name_for(instance_id=instance_id, tenant_id=tenant_id) == name


def test_an_id_that_just_fits_stays_whole() -> None:
    assert session_name_for(instance_id="i" * 51, tenant_id=None) == "nsc.instance=" + "i" * 51


def test_two_long_ids_that_begin_alike_stay_two() -> None:
    names = {session_name_for(instance_id="i" * 60 + end, tenant_id=None) for end in "ab"}

    assert len(names) == 2
    assert all(len(name) == 64 for name in names)


@pytest.mark.parametrize(
    ("wanted", "name"), [("a/b c", "a-b-c"), ("é", "--"), ("", "--"), ("x", "x-")]
)
def test_what_aws_does_not_take_becomes_a_dash(wanted: str, name: str) -> None:
    assert legal_session_name(wanted) == name


@given(some.text(max_size=200))
def test_every_name_is_legal(wanted: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_+=,.@-]{2,64}", legal_session_name(wanted))
