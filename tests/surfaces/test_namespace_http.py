"""Namespace and ID tokens over HTTP: as a function, over raw sockets, and read by nsc."""

import asyncio
import http.client
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from broker.access.caller import Caller, Grant
from broker.access.rules import OwnerOnly, Rules
from broker.credentials import IdToken, NamespaceToken
from broker.http.guard import Guard
from broker.http.message import Answer, Exchange
from broker.keeper import Keeper
from broker.lease import Lease, NotReady
from broker.surfaces.container_tokens import ContainerTokens
from broker.surfaces.documents import LeaseHolder
from broker.surfaces.namespace import (
    ContainerRouter,
    NamespaceTokens,
    TokenSpecSigner,
    token_spec,
)
from tests.support.fakes import START, FakeClock, ScriptedSource, holding, running
from tests.support.namespace_tokens import id_token_lease, token_lease
from tests.support.nsc import Nsc
from tests.support.sdk import get_container, raw
from tests.support.surfaces import (
    ALICE,
    BOB,
    NOBODY,
    SECRET,
    Rule,
    a_container,
    request,
)
from tests.support.wire import Served, served, wire_to

T = TypeVar("T")

AUDIENCE = "sts.amazonaws.com"
TOKEN = token_lease(START, prefix="nscw_", instance_id="ui3e3e3g7cfrg")
ID_TOKEN = id_token_lease(START)
SIGNER = TokenSpecSigner(b"m" * 32)
OURS = SIGNER.segment_for(1000)  # ALICE's
BOTH = Rule(
    Grant(namespace_tokens=frozenset({"default"}), id_token_audiences=frozenset({AUDIENCE}))
)
MALFORMED = ["", "x", "x" * 43, "..", OURS + "=", OURS[:-1], OURS.lower(), "%00", "\u00ff"]


@dataclass
class Held(Generic[T]):
    """A keeper as the surface sees it: holds this lease, or nothing."""

    lease: Lease[T] | None = None

    def current(self, *, now: datetime | None = None) -> Lease[T]:
        if self.lease is None or not self.lease.is_live(now=now or START):
            raise NotReady("no answer")
        return self.lease

    def attempt(self, *, now: datetime) -> None:
        """Say that none is under way."""


def tokens_surface(
    tokens: Mapping[str, LeaseHolder[NamespaceToken]] | None = None,
    *,
    rules: Rules = BOTH,
    id_tokens: Mapping[str, LeaseHolder[IdToken]] | None = None,
) -> NamespaceTokens:
    return NamespaceTokens(
        {"default": Held(TOKEN)} if tokens is None else tokens,
        id_tokens={AUDIENCE: Held(ID_TOKEN)} if id_tokens is None else id_tokens,
        rules=rules,
        guard=Guard(),
        container_tokens=ContainerTokens({"default": (SECRET,)}),
        token_spec_signer=SIGNER,
    )


def routed(namespace: NamespaceTokens | None = None) -> ContainerRouter:
    return ContainerRouter(namespace=namespace or tokens_surface(), container=a_container())


def ask(
    surface: NamespaceTokens | ContainerRouter,
    path: str,
    *headers: tuple[str, str],
    query: str = "",
    method: str = "GET",
    caller: Caller = ALICE,
    now: datetime = START,
) -> Answer:
    asked = replace(request(method, path, *headers), query=query)
    return surface.answer(asked, caller, now=now)


def as_nsc(
    surface: NamespaceTokens | ContainerRouter, key: str = "workload_token", **known: object
) -> Answer:
    """Ask as nsc does: no header, the secret in the path."""
    return ask(surface, f"/nsc/v1/{OURS}/{key}", **known)  # type: ignore[arg-type]


def with_token(surface: NamespaceTokens, path: str, **known: object) -> Answer:
    return ask(surface, path, ("authorization", SECRET), **known)  # type: ignore[arg-type]


def test_nsc_gets_exactly_the_token_and_the_instance_id() -> None:
    token = as_nsc(routed())
    instance_id = as_nsc(routed(), "id")

    assert (token.status, token.body) == (200, TOKEN.value.bearer.encode())
    assert (instance_id.status, instance_id.body) == (200, b"ui3e3e3g7cfrg")
    assert (token.route, token.close) == ("token-spec", False)


def is_closed(answer: Answer) -> bool:
    return answer.close and answer.body == b"" and answer.route == "token-spec"


@pytest.mark.parametrize("segment", MALFORMED)
def test_a_wrong_segment_is_a_closed_connection(segment: str) -> None:
    answer = ask(routed(), f"/nsc/v1/{segment}/workload_token")

    assert is_closed(answer)
    assert answer.refusal in ("segment-bad", "segment-missing")


@pytest.mark.parametrize(
    "path",
    [
        "/nsc",
        "/nsc/",
        "/nsc/v1",
        "/nsc/v1/workload_token",
        "/nsc/v1//workload_token",
        f"/nsc/v1/{OURS}",
        f"/nsc/v1/{OURS}/",
        f"/nsc/v1/{OURS}/workload_token/",
        f"/nsc/v1/{OURS}/workload_token/more",
        f"/nsc/v1/{OURS}//workload_token",
        f"/nsc/v1/{OURS}/id/..",
        f"/nsc/v1/{OURS}/token",
        f"/nsc/v2/{OURS}/workload_token",
        f"//nsc/v1/{OURS}/workload_token",
        f"/t/{SECRET}/nsc/v1/{OURS}/workload_token",
    ],
)
def test_any_other_path_below_nsc_is_a_closed_connection(path: str) -> None:
    assert is_closed(ask(routed(), path))


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "OPTIONS", "get", "BREW"])
def test_any_other_method_is_a_closed_connection(method: str) -> None:
    assert is_closed(as_nsc(routed(), method=method))


@pytest.mark.parametrize(
    ("header", "refusal"),
    [
        (("origin", "null"), "browser"),
        (("sec-fetch-mode", "cors"), "browser"),
        (("x-forwarded-for", "10.1.2.3"), "forwarded"),
        (("via", "1.1 proxy"), "forwarded"),
        (("host", "evil.example"), "host"),
    ],
)
def test_browsers_proxies_and_foreign_hosts_get_a_closed_connection(
    header: tuple[str, str], refusal: str
) -> None:
    answer = ask(routed(), f"/nsc/v1/{OURS}/workload_token", header)

    assert is_closed(answer)
    assert answer.refusal == refusal


@pytest.mark.parametrize(
    "tokens", [{}, {"default": Held[NamespaceToken]()}, {"other": Held(TOKEN)}]
)
def test_without_a_live_token_it_is_a_closed_connection(
    tokens: Mapping[str, LeaseHolder[NamespaceToken]],
) -> None:
    assert is_closed(as_nsc(routed(tokens_surface(tokens))))


def test_a_token_is_not_served_after_its_end() -> None:
    assert not is_closed(as_nsc(routed(), now=START + timedelta(minutes=59)))
    assert is_closed(as_nsc(routed(), now=START + timedelta(hours=1)))


def test_a_token_of_no_instance_has_no_instance_id() -> None:
    surface = tokens_surface({"default": Held(token_lease(START))})

    assert as_nsc(surface).status == 200
    assert is_closed(as_nsc(surface, "id"))


def test_without_a_grant_a_good_segment_gets_a_closed_connection() -> None:
    answer = as_nsc(tokens_surface(rules=NOBODY))

    assert is_closed(answer)
    assert answer.refusal == "not-granted"


@pytest.mark.parametrize(
    ("caller", "served_to"),
    [
        (ALICE, True),
        (Caller(address="10.0.0.8"), True),  # another network namespace: the segment says who
        (Caller(uid=0), True),  # a relay, as docker-proxy
        (BOB, False),
    ],
)
def test_a_segment_is_valid_only_for_its_user(caller: Caller, served_to: bool) -> None:
    answer = as_nsc(routed(), caller=caller)

    assert (answer.status == 200) == served_to
    assert served_to or answer.refusal == "segment-bad"


def test_the_rules_decide_about_the_segments_user() -> None:
    only_alice = replace(BOTH, only_uid=1000)
    only_root = replace(BOTH, only_uid=0)

    for caller in (ALICE, Caller(uid=0, gid=0), Caller(address="10.0.0.8")):
        assert as_nsc(tokens_surface(rules=only_alice), caller=caller).status == 200
        assert is_closed(as_nsc(tokens_surface(rules=only_root), caller=caller))


def test_without_rules_nothing_is_served_unless_configured() -> None:
    off = OwnerOnly(owner_uid=1000, roles=("deploy",), default_role="deploy")
    on = OwnerOnly(
        owner_uid=1000,
        roles=(),
        default_role=None,
        namespace_tokens=("default",),
        id_token_audiences=(AUDIENCE,),
    )

    assert is_closed(as_nsc(tokens_surface(rules=off)))
    assert with_token(tokens_surface(rules=off), "/v1/namespace-token").status == 404
    assert (
        with_token(tokens_surface(rules=off), "/v1/id-token", query=f"audience={AUDIENCE}").status
        == 404
    )
    assert as_nsc(tokens_surface(rules=on)).status == 200
    assert with_token(tokens_surface(rules=on), "/v1/namespace-token").status == 200


def test_a_namespace_token_comes_with_its_end_and_whose_it_is() -> None:
    answer = with_token(tokens_surface(), "/v1/namespace-token")

    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.route == "namespace-token"
    assert json.loads(answer.body) == {
        "token": TOKEN.value.bearer,
        "expires_at": "2030-01-02T04:04:05Z",
        "tenant_id": "ws_1",
        "instance_id": "ui3e3e3g7cfrg",
    }


def test_what_is_not_known_of_a_token_is_null() -> None:
    opaque = Lease(value=NamespaceToken(bearer="nsrt_x"), issued_at=START, expires_at=None)

    answer = with_token(tokens_surface({"default": Held(opaque)}), "/v1/namespace-token")

    assert json.loads(answer.body) == {
        "token": "nsrt_x",
        "expires_at": None,
        "tenant_id": None,
        "instance_id": None,
    }


def test_of_several_identities_the_first_granted_is_the_default_and_others_go_by_name() -> None:
    leases = {name: token_lease(START, serial=n) for n, name in enumerate("abc")}
    surface = tokens_surface(
        {name: Held(lease) for name, lease in leases.items()},
        rules=Rule(Grant(namespace_tokens=frozenset({"b", "c"}))),
    )

    def token(query: str) -> object:
        answer = with_token(surface, "/v1/namespace-token", query=query)
        return json.loads(answer.body).get("token")

    assert token("") == leases["b"].value.bearer
    assert token("identity=c") == leases["c"].value.bearer
    assert as_nsc(surface).body == leases["b"].value.bearer.encode()
    assert (token("identity=a"), token("identity=nobody")) == (None, None)
    assert token("identity=b&identity=c") is None


def test_an_id_token_comes_by_its_audience() -> None:
    answer = with_token(tokens_surface(), "/v1/id-token", query="audience=sts.amazonaws.com")

    assert answer.route == "id-token"
    assert json.loads(answer.body) == {
        "token": ID_TOKEN.value.jwt,
        "expires_at": "2030-01-02T04:04:05Z",
        "audience": AUDIENCE,
        "issuer": "https://federation.namespaceapis.com",
        "subject": "ws_1/i-abc",
    }


@pytest.mark.parametrize(
    "query",
    ["", "audience=", "audience=other", f"audience={AUDIENCE}&audience=other", "audience=%ff"],
)
def test_an_audience_that_is_not_there_or_not_granted_is_404_and_not_repeated(query: str) -> None:
    surface = tokens_surface(id_tokens={AUDIENCE: Held(ID_TOKEN), "other": Held(ID_TOKEN)})

    answer = with_token(surface, "/v1/id-token", query=query)

    assert answer.status == 404
    assert json.loads(answer.body) == {
        "code": "NotFound",
        "message": "no such token",
        "Code": "NotFound",
        "Message": "no such token",
    }


@pytest.mark.parametrize("path", ["/v1/namespace-token", "/v1/id-token"])
@pytest.mark.parametrize(
    ("headers", "status", "refusal"),
    [
        ((), 401, "token-missing"),
        ((("authorization", "wrong"),), 401, "token-bad"),
        ((("authorization", SECRET), ("authorization", SECRET)), 401, "token-bad"),
        ((("authorization", SECRET), ("origin", "null")), 403, "browser"),
        ((("authorization", SECRET), ("host", "evil.example")), 403, "host"),
    ],
)
def test_json_has_the_container_endpoints_gate(
    path: str, headers: tuple[tuple[str, str], ...], status: int, refusal: str
) -> None:
    answer = ask(routed(), path, *headers, query=f"audience={AUDIENCE}")

    assert (answer.status, answer.refusal, answer.route) == (status, refusal, path[4:])
    assert json.loads(answer.body)["code"] == json.loads(answer.body)["Code"]


def test_json_is_also_below_the_token_in_the_path() -> None:
    assert ask(routed(), f"/t/{SECRET}/v1/namespace-token").status == 200
    assert ask(routed(), "/t/wrong/v1/namespace-token").status == 401


def test_everything_else_is_the_container_endpoints() -> None:
    credentials = ask(routed(), "/v1/credentials", ("authorization", SECRET))
    unknown = ask(routed(), "/v1/namespace-tokens", ("authorization", SECRET))

    assert (credentials.status, credentials.route) == (200, "container")
    assert (unknown.status, unknown.route) == (404, "container")


def test_no_answer_shows_a_token_in_its_repr() -> None:
    assert TOKEN.value.bearer not in repr(as_nsc(routed()))
    assert OURS not in repr(SIGNER)


paths = st.one_of(
    st.text(),
    st.sampled_from(["/v1/namespace-token", "/v1/id-token", "/v1/credentials"]),
    st.lists(st.sampled_from(["nsc", "v1", "", "workload_token", "id", "t", "..", "x" * 43])).map(
        "/".join
    ),
    st.text().map(lambda segment: f"/nsc/v1/{segment}/workload_token"),
)
names = st.sampled_from(["host", "authorization", "origin", "x", "nsc"])
headers = st.lists(st.tuples(names, st.text()), max_size=4).map(tuple)


@given(paths, headers, st.text(), st.sampled_from([ALICE, BOB, Caller(), Caller(uid=0)]))
@example("/nsc/v1/\ud800/workload_token", (), "", ALICE)
def test_no_request_without_a_secret_gets_a_token(
    path: str, extra: tuple[tuple[str, str], ...], query: str, caller: Caller
) -> None:
    answer = ask(routed(), path, *extra, query=query, caller=caller)

    assert answer.status in (0, 401, 403, 404)
    assert answer.close == (answer.status == 0)
    assert TOKEN.value.bearer.encode() not in answer.body
    assert ID_TOKEN.value.jwt.encode() not in answer.body


# Over sockets. The caller is the test itself.

MINE = SIGNER.segment_for(os.geteuid())


def nsc_at(place: Served, tmp_path: Path, *, segment: str = MINE) -> Nsc:
    spec = token_spec(f"http://{place.host}:{place.port}", segment)
    return Nsc(environ={"NSC_TOKEN_SPEC": spec}, config=tmp_path, now=lambda: START)


async def test_nsc_reads_what_the_spec_leads_to(tmp_path: Path) -> None:
    async with served(routed(), clock=FakeClock()) as place:
        nsc = nsc_at(place, tmp_path)

        assert await asyncio.to_thread(nsc.bearer) == TOKEN.value.bearer
        assert await asyncio.to_thread(nsc.tenant_id) == "ws_1"
        assert await asyncio.to_thread(nsc.instance_id) == "ui3e3e3g7cfrg"


async def test_nsc_reads_the_spec_from_a_file_too(tmp_path: Path) -> None:
    async with served(routed(), clock=FakeClock()) as place:
        spec = tmp_path / "token.spec"
        spec.write_text(token_spec(f"http://{place.host}:{place.port}", MINE) + "\n")
        nsc = Nsc(environ={"NSC_TOKEN_SPEC_FILE": str(spec)}, config=tmp_path, now=lambda: START)

        assert await asyncio.to_thread(nsc.bearer) == TOKEN.value.bearer


async def test_nsc_takes_no_error_for_a_token(tmp_path: Path) -> None:
    nothing = routed(tokens_surface({"default": Held[NamespaceToken]()}))

    async with served(nothing, clock=FakeClock()) as place:
        nsc = nsc_at(place, tmp_path)
        with pytest.raises(http.client.RemoteDisconnected):
            await asyncio.to_thread(nsc.bearer)


async def test_nsc_always_reads_a_live_token_through_renewals(tmp_path: Path) -> None:
    clock = FakeClock()
    source = ScriptedSource(lambda: token_lease(clock.now(), serial=source.fetches))
    keeper = Keeper("identity/default", source, clock=clock)
    seen = set()

    async with (
        running(keeper),
        served(routed(tokens_surface({"default": keeper})), clock=clock) as place,
    ):
        nsc = nsc_at(place, tmp_path)
        nsc.now = clock.now
        for _ in range(30):
            await clock.advance(minutes=10)
            seen.add(await asyncio.to_thread(lambda: nsc.bearer(need=timedelta(minutes=20))))

    assert len(seen) >= 9


@pytest.mark.parametrize("segment", ["wrong", "x" * 43, "", SIGNER.segment_for(54321)])
async def test_nsc_with_a_wrong_segment_gets_nothing(tmp_path: Path, segment: str) -> None:
    if os.geteuid() == 0 and SIGNER.caller_uid(segment) is not None:
        rules: Rules = replace(BOTH, only_uid=0)  # root may relay for others, who have no grant
    else:
        rules = BOTH
    async with served(routed(tokens_surface(rules=rules)), clock=FakeClock()) as place:
        with pytest.raises(http.client.RemoteDisconnected):
            await asyncio.to_thread(nsc_at(place, tmp_path, segment=segment).bearer)


PROBES = [
    raw("GET", "/nsc/v1/workload_token"),
    raw("GET", "/nsc/v1/" + "A" * 43 + "/workload_token"),
    raw("GET", "/nsc/v1/" + "A" * 43 + "/id"),
    raw("GET", "/nsc/"),
    raw("GET", "/%6esc/v1/x/workload_token"),
    raw("GET", "/nsc/v1/%2e%2e/workload_token"),
    raw("HEAD", "/nsc/v1/x/workload_token"),
    raw("OPTIONS", "/nsc/v1/x/workload_token"),
    raw("PUT", "/nsc/v1/x/workload_token"),
    raw("GET", "http://127.0.0.1/nsc/v1/x/workload_token"),
    raw("GET", "/nsc/v1/x/workload_token", f"Authorization: {SECRET}"),
    raw("GET", f"/nsc/v1/{MINE}/workload_token", host="evil.example"),
    raw("GET", f"/nsc/v1/{MINE}/workload_token", host=None),
    raw("GET", f"/nsc/v1/{MINE}/workload_token", "Origin: http://127.0.0.1"),
    raw("POST", f"/nsc/v1/{MINE}/workload_token"),
    raw("GET", "/nsc/v1/x/workload_token") * 3,
    raw("GET", "/nsc/v1/" + "x" * 100_000 + "/workload_token"),
    raw("GET", "/nsc/v1/x/workload_token", "X-Long: " + "x" * 100_000),
    raw("GET", "/nsc/v1/x/workload_token", "no header"),
    raw("POST", "/nsc/v1/x/workload_token", "Content-Length: 100000"),
    raw("POST", "/nsc/v1/x/workload_token", "Content-Length: 2") + b"{}",
    b"GET /nsc/v1/x/workload_token\r\n\r\n",
]


@pytest.mark.parametrize("probe", PROBES)
async def test_a_prober_gets_not_even_a_status_line(probe: bytes) -> None:
    async with wire_to(routed(), clock=FakeClock()) as wire:
        await wire.write(probe)

        assert await wire.ended() == b""


async def test_a_closed_connection_closes_no_other_and_is_reported() -> None:
    told: list[Exchange] = []
    async with (
        served(routed(), clock=FakeClock(), on_exchange=told.append) as place,
        place.wire() as good,
        place.wire() as bad,
    ):
        await bad.write(raw("GET", "/nsc/v1/x/workload_token"))
        assert await bad.ended() == b""
        for _ in range(2):
            reply = await good.send(raw("GET", f"/nsc/v1/{MINE}/workload_token"))
            assert reply.body == TOKEN.value.bearer.encode()
            assert reply.header("content-length") == str(len(TOKEN.value.bearer))

    assert [(each.surface, each.answer.route, each.answer.refusal) for each in told] == [
        ("container", "token-spec", "segment-bad"),
        ("container", "token-spec", None),
        ("container", "token-spec", None),
    ]


async def test_a_bug_is_each_readers_own_nothing() -> None:
    class Broken:
        decide_by_process = False

        def grant_for(self, caller: Caller) -> Grant:
            raise ZeroDivisionError

    bugs: list[BaseException] = []
    surface = ContainerRouter(
        namespace=tokens_surface(rules=Broken()), container=a_container(rules=Broken())
    )
    async with wire_to(surface, clock=FakeClock(), on_error=bugs.append) as wire:
        reply = await wire.send(get_container("/creds"))
        assert (reply.status, reply.header("content-type")) == (404, "application/json")
        await wire.write(raw("GET", f"/nsc/v1/{MINE}/workload_token"))
        assert await wire.ended() == b""

    assert [type(bug) for bug in bugs] == [ZeroDivisionError, ZeroDivisionError]


async def test_over_the_wire_too_a_token_is_gone_with_its_lease() -> None:
    clock = FakeClock()
    keeper = await holding("identity/default", TOKEN, clock)

    async with wire_to(routed(tokens_surface({"default": keeper})), clock=clock) as wire:
        asked = raw("GET", "/v1/namespace-token", f"Authorization: {SECRET}")
        assert (await wire.send(asked)).status == 200
        clock.jump(hours=1)
        assert (await wire.send(asked)).status == 404
        await wire.write(raw("GET", f"/nsc/v1/{MINE}/workload_token"))
        assert await wire.ended() == b""
