"""What our own commands may ask, and which caller gets what."""

import json
from typing import Any

import pytest

from broker.access.caller import Caller
from broker.access.caller_lookup import CallerLookup, HostFacts
from broker.access.process import Processes
from broker.access.rules import OwnerOnly
from broker.access.usage import Usage
from broker.access.users import UserDatabase
from broker.credentials import AwsCredentials, NamespaceToken
from broker.http.message import Request
from broker.keeper import Keeper
from broker.lease import Refused
from broker.surfaces.control import BrokerEndpoints, Control, NamespaceExports
from broker.surfaces.namespace import TokenSpecSigner
from tests.support.fakes import FakeClock, holding, lease_of, some_credentials

OWNER = Caller(uid=1000)
STRANGER = Caller(uid=1001)
UNKNOWN = Caller()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def control_of(
    clock: FakeClock,
    *,
    is_open: bool = True,
    hands_on: bool = False,
    files_written: bool = True,
    bearer: str = "nsct_secret",
) -> Control:
    token = NamespaceToken(bearer=bearer, tenant_id="ws_1")
    identities = {
        "default": await holding("identity/default", lease_of(token, clock, hours=1), clock)
    }
    roles: dict[str, Keeper[AwsCredentials]] = {
        "deploy": await holding("role/deploy", lease_of(some_credentials(), clock, hours=1), clock),
        "other": await holding("role/other", Refused("role other does not trust us"), clock),
    }
    return Control(
        keepers=roles.values(),
        roles=roles,
        leases=roles,
        callers=CallerLookup(HostFacts(users=UserDatabase(), processes=Processes())),
        usage=Usage(),
        identities=identities,
        id_tokens={},
        rules=OwnerOnly(
            owner_uid=1000,
            roles=roles,
            default_role="deploy",
            namespace_tokens=["default"] if hands_on else [],
        ),
        exports=NamespaceExports(
            files={"default": "/run/nsc/token.json"},
            http=identities,
            token_spec_signer=TokenSpecSigner(b"m" * 32),
        ),
        owner_uid=1000,
        container_token=lambda: "t" * 43,
        problems={"audit": "/var/log/audit.jsonl: No space left on device"},
        endpoints=BrokerEndpoints(
            imds=(),
            container=("http://127.0.0.1:8170",),
            ops=(),
            imds_v1=False,
            region="eu-central-1",
        ),
        is_open=lambda: is_open,
        files_written=lambda: files_written,
    )


async def ask(
    clock: FakeClock,
    path: str,
    caller: Caller,
    *,
    query: str = "",
    method: str = "GET",
    hands_on: bool = False,
) -> tuple[int, Any]:
    control = await control_of(clock, hands_on=hands_on)
    request = Request(method=method, path=path, query=query)
    answer = control.answer(request, caller, now=clock.now())
    return answer.status, json.loads(answer.body) if answer.body else None


async def test_the_owner_and_root_get_credentials(clock: FakeClock) -> None:
    for caller in (OWNER, Caller(uid=0)):
        status, document = await ask(clock, "/v1/credentials", caller)

        assert status == 200
        assert document["AccessKeyId"] == some_credentials().access_key_id


@pytest.mark.parametrize("caller", [STRANGER, UNKNOWN])
@pytest.mark.parametrize(
    "path",
    ["/v1/credentials", "/v1/client", "/v1/status", "/v1/namespace-token", "/v1/id-token"],
)
async def test_nobody_else_gets_anything(clock: FakeClock, path: str, caller: Caller) -> None:
    status, document = await ask(clock, path, caller)

    assert status == 403
    assert set(document) == {"code", "message"}


async def test_the_namespace_token_itself_is_served_only_where_configured(
    clock: FakeClock,
) -> None:
    _, facts = await ask(clock, "/v1/namespace-token", OWNER)
    _, document = await ask(clock, "/v1/namespace-token", OWNER, hands_on=True)

    assert (facts["identity"], facts["tenant_id"], facts["kind"]) == ("default", "ws_1", "nsct")
    assert facts["token"] is None
    assert document["token"] == "nsct_secret"


async def test_each_caller_granted_the_token_gets_its_own_spec(clock: FakeClock) -> None:
    _, without = await ask(clock, "/v1/client", OWNER)
    _, owners = await ask(clock, "/v1/client", OWNER, hands_on=True)
    _, roots = await ask(clock, "/v1/client", Caller(uid=0), hands_on=True)

    assert without["namespace"]["token_spec"] is None
    assert owners["namespace"]["token_spec"] != roots["namespace"]["token_spec"]


async def test_a_revocable_token_has_no_spec_which_nsc_would_refuse(clock: FakeClock) -> None:
    control = await control_of(clock, hands_on=True, bearer="nsrt_secret")

    answer = control.answer(Request(method="GET", path="/v1/client"), OWNER, now=clock.now())

    assert json.loads(answer.body)["namespace"] == {
        "token_file": "/run/nsc/token.json",
        "token_spec": None,
    }


async def test_a_broker_is_not_ready_while_a_token_file_is_not_written(clock: FakeClock) -> None:
    control = await control_of(clock, files_written=False)

    answers = [
        control.answer(Request(method="GET", path="/v1/ready", query=query), OWNER, now=clock.now())
        for query in ("", "role=deploy")
    ]

    assert [answer.status for answer in answers] == [503, 200]


async def test_readiness_is_answered_to_everybody(clock: FakeClock) -> None:
    assert (await ask(clock, "/v1/ready", STRANGER))[0] == 503
    assert (await ask(clock, "/v1/ready", STRANGER, query="role=deploy"))[0] == 200
    assert (await ask(clock, "/v1/ready", STRANGER, query="role=nobody"))[0] == 404


async def test_it_is_not_ready_before_the_surfaces_answer(
    clock: FakeClock,
) -> None:
    control = await control_of(clock, is_open=False)
    request = Request(method="GET", path="/v1/ready", query="role=deploy")

    answer = control.answer(request, OWNER, now=clock.now())

    assert answer.status == 503
    assert json.loads(answer.body)["ready"] is False


async def test_a_caller_granted_a_role_learns_why_it_is_unavailable(clock: FakeClock) -> None:
    status, document = await ask(clock, "/v1/credentials", OWNER, query="role=other")

    assert status == 404
    assert "does not trust us" in document["message"]


async def test_a_role_that_does_not_exist_is_as_one_that_is_not_granted(clock: FakeClock) -> None:
    assert (await ask(clock, "/v1/credentials", OWNER, query="role=nobody"))[0] == 403


async def test_status_tells_each_lease_with_its_reason(clock: FakeClock) -> None:
    _, document = await ask(clock, "/v1/status", OWNER)
    (problem,) = document["problems"]
    assert problem == {
        "name": "audit",
        "reason": "/var/log/audit.jsonl: No space left on device",
    }

    assert [lease["name"] for lease in document["leases"]] == ["role/deploy", "role/other"]
    assert "does not trust us" in document["leases"][1]["reason"]
    assert document["ready"] is False


async def test_a_client_gets_the_addresses_and_the_token(clock: FakeClock) -> None:
    _, document = await ask(clock, "/v1/client", OWNER)

    assert document["container"] == ["http://127.0.0.1:8170"]
    assert document["container_token"] == "t" * 43
    assert document["roles"] == ["deploy", "other"]


@pytest.mark.parametrize(("method", "path", "expected"), [
    ("POST", "/v1/ready", 405),
    ("GET", "/", 404),
    ("GET", "/v1/credentials/", 404),
])  # fmt: skip
async def test_anything_else_is_a_plain_no(
    clock: FakeClock, method: str, path: str, expected: int
) -> None:
    assert (await ask(clock, path, OWNER, method=method))[0] == expected


async def test_only_owners_may_ask_what_another_would_get(clock: FakeClock) -> None:
    status, document = await ask(clock, "/v1/who", OWNER, query="uid=1001")

    assert status == 200
    assert document["rule"] is None
    assert document["roles"] == []
    assert document["rules"][0]["because"] == "uid is 1001, not 0 or 1000"
    assert (await ask(clock, "/v1/who", STRANGER, query="uid=1001"))[0] == 403
    assert (await ask(clock, "/v1/who", OWNER, query="pid=4194304000"))[0] == 404
