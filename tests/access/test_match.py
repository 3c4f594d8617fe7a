"""What an operator writes becomes a matcher, or an error that says what to write."""

import grp
import os
import pwd
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access.match import KEYS, READERS, Account, InvalidWho, Who, who_of

ROOT = pwd.getpwuid(0)
ROOTS = grp.getgrgid(ROOT.pw_gid)
ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("written", "who"),
    [
        ({"user": ROOT.pw_name}, Who(user=Account(ROOT.pw_name, ROOT.pw_uid))),
        ({"uid": 4242}, Who(uid=4242)),
        ({"group": ROOTS.gr_name}, Who(group=Account(ROOTS.gr_name, ROOTS.gr_gid))),
        ({"group": "4242"}, Who(group=Account("4242", 4242))),
        ({"unit": "ci@7.service"}, Who(unit="ci@7.service")),
        ({"user_unit": "mine.scope", "uid": 1000}, Who(user_unit="mine.scope", uid=1000)),
        ({"container": ID[:12]}, Who(container=ID[:12])),
        ({"cidr": "172.17.0.0/16"}, Who(cidr=ip_network("172.17.0.0/16"))),
        ({"cidr": "172.17.0.2"}, Who(cidr=ip_network("172.17.0.2/32"))),
        ({"cidr": "fd00::/8"}, Who(cidr=ip_network("fd00::/8"))),
        ({"token": "ci"}, Who(token="ci")),
        ({"any_local": True, "uid": None}, Who(any_local=True)),
    ],
)
def test_names_become_numbers(written: dict[str, Any], who: Who) -> None:
    assert who_of(written) == who


def test_a_program_is_known_by_what_its_links_lead_to(tmp_path: Path) -> None:
    program, link = tmp_path / "aws-2", tmp_path / "aws"
    link.symlink_to(program)

    assert who_of({"exe": str(link), "uid": 0}).exe == os.path.realpath(program)


@pytest.mark.parametrize(
    ("written", "key", "reason"),
    [
        ({}, None, "is empty; name somebody, or any_local = true"),
        ({"user": "no-such-user"}, "user", "there is no user 'no-such-user' here; create it"),
        ({"user": "a\0b"}, "user", "there is no user"),
        ({"group": "no-such-group"}, "group", "there is no group 'no-such-group' here"),
        ({"uid": -1}, "uid", "-1 is not a uid"),
        ({"uid": 1 << 32}, "uid", "is not a uid; uids go from 0 to 4294967294"),
        ({"uid": 65534}, "uid", "every user not mapped here"),
        ({"unit": "ci"}, "unit", "write it as systemctl does, with its suffix (.service"),
        ({"unit": "system.slice"}, "unit", "not a unit with processes"),
        ({"user_unit": "mine.service"}, "user_unit", "add user or uid"),
        ({"container": ID[:11]}, "container", "12 or more of its digits"),
        ({"container": "web"}, "container", "is not a container id"),
        ({"exe": "aws", "uid": 0}, "exe", "write one such as /usr/bin/aws"),
        ({"exe": "/usr/bin/aws"}, "exe", "cannot stand alone"),
        ({"cidr": "somewhere"}, "cidr", "write one such as 172.17.0.0/16"),
        ({"cidr": "172.17.0.2/16"}, "cidr", "did you mean 172.17.0.0/16?"),
        ({"cidr": "::ffff:10.0.0.0/104"}, "cidr", "stands for IPv4 addresses"),
        ({"token": "default"}, "token", "admits but names nobody"),
        ({"any_local": False}, "any_local", "remove the key"),
    ],
)
def test_an_impossible_condition_is_refused_at_its_key(
    written: dict[str, Any], key: str | None, reason: str
) -> None:
    with pytest.raises(InvalidWho) as refused:
        who_of(written)

    assert refused.value.key == key
    assert reason in str(refused.value)


@given(st.sampled_from(["user", "group", "unit", "container", "exe", "cidr", "token"]), st.text())
def test_any_text_is_taken_or_refused(key: str, text: str) -> None:
    written = {key: text} if key == "cidr" else {key: text, "uid": 0}

    with suppress(InvalidWho):
        assert key in who_of(written).keys


def test_every_key_can_be_written() -> None:
    assert READERS.keys() == KEYS.keys()
