"""A user that a rule refuses gets nothing by the uids of a user namespace of its own."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from broker.access.caller import Caller
from broker.access.caller_lookup import HostFacts
from broker.access.match import Who
from broker.access.process import Processes
from broker.access.rules import FirstMatch, Rule, limited
from broker.access.users import UserDatabase
from tests.root.becoming import SUBORDINATES
from tests.root.stage import caller_seen

MALLORY = 4303

REFUSED_BEFORE_ALL = (Rule(number=1, who=Who(uid=MALLORY)),)
FOR_ALL = (Rule(number=2, who=Who(any_local=True), roles=("audit",)),)


@pytest.fixture
def subuid(tmp_path: Path) -> Path:
    path = tmp_path / "subuid"
    path.write_text(f"{MALLORY}:{SUBORDINATES.start}:{len(SUBORDINATES)}\n")
    return path


def seen_as(inner_uid: int, subuid: Path, address: str = "127.0.0.1") -> Caller:
    """Return how a process of mallory's with that uid in a user namespace of its own shows."""
    seen: dict[str, Any] = caller_seen(
        probe=(f"--subuid={subuid}",),
        client=(f"--uid={MALLORY}", f"--inner-uid={inner_uid}"),
        address=address,
    )
    seen.pop("behind")
    return Caller(**{**seen, "delegated_by": tuple(seen["delegated_by"])})


def rules(*several: Rule) -> FirstMatch:
    return FirstMatch(several, facts=HostFacts(users=UserDatabase(), processes=Processes()))


@pytest.mark.parametrize("inner_uid", [0, 1, 5, 1000])
def test_the_refused_user_is_known_behind_every_uid(inner_uid: int, subuid: Path) -> None:
    caller = seen_as(inner_uid, subuid)

    outside = MALLORY if inner_uid == 0 else SUBORDINATES.start + inner_uid - 1
    assert caller.uid == outside
    assert rules(*REFUSED_BEFORE_ALL, *FOR_ALL).grant_for(caller).rule == "rules[1]"


def test_the_control_socket_knows_it_too(subuid: Path) -> None:
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        caller = seen_as(5, subuid, address=f"{directory}/sock")

    assert (caller.uid, caller.delegated_by) == (SUBORDINATES.start + 4, (MALLORY,))


def test_any_local_is_no_uid_without_a_name(subuid: Path) -> None:
    assert not rules(*FOR_ALL).grant_for(seen_as(5, subuid)).any


def test_a_thousand_uids_of_one_user_share_its_limits(subuid: Path) -> None:
    callers = [seen_as(inner_uid, subuid) for inner_uid in (0, 1, 1000)]
    by_uid = rules(Rule(number=1, who=Who(uid=MALLORY), roles=("audit",)))

    assert {limited(each, by_uid).limit_key for each in callers} == {f"uid={MALLORY}"}
    assert {limited(each, rules(*FOR_ALL)).limit_key for each in callers} == {"ungranted"}
