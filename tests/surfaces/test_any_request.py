"""Any request gets a status that clients survive, and no secret without a grant."""

from hypothesis import example, given
from hypothesis import strategies as st

from broker.access.caller import Caller
from broker.http.message import Answer, Request, Surface
from broker.surfaces.imds import TOKEN_HEADER, TTL_HEADER
from tests.support.fakes import START, some_credentials
from tests.support.surfaces import (
    ALICE,
    BOB,
    DOCUMENT,
    EXTENDED_LIST,
    ONLY_ALICE,
    ROLE_LIST,
    SECRET,
    TOKEN_PATH,
    a_container,
    an_imds,
    session_token,
)

IMDS = an_imds(rules=ONLY_ALICE)
IMDS_V1 = an_imds(rules=ONLY_ALICE, v1=True)
CONTAINER = a_container(rules=ONLY_ALICE)
STATUSES = {200, 400, 401, 403, 404, 405}
LABELS = {
    "container",
    "credentials",
    "identity-document",
    "metadata",
    "other",
    "role-list",
    "token",
}

paths = st.one_of(
    st.text(),
    st.sampled_from(
        [
            "/",
            "/latest",
            TOKEN_PATH,
            DOCUMENT,
            ROLE_LIST,
            ROLE_LIST + "deploy",
            EXTENDED_LIST + "audit",
            "/latest/meta-data/iam/info",
            "/creds",
            "/v1/credentials",
            "/role/deploy",
            f"/t/{SECRET}/creds",
            "/role-arn/arn:aws:iam::123456789012:role/deploy",
        ]
    ),
    st.lists(
        st.sampled_from(
            ["latest", "1.0", "meta-data", "iam", "", "api", "token", "t", "..", "role"]
        )
    ).map("/".join),
)
methods = st.one_of(st.sampled_from(["GET", "HEAD", "PUT", "POST", "OPTIONS"]), st.text())
names = st.one_of(
    st.sampled_from(
        [
            "host",
            "origin",
            "via",
            "authorization",
            "sec-fetch-dest",
            TOKEN_HEADER,
            TTL_HEADER,
        ]
    ),
    st.text(),
)
values = st.one_of(
    st.sampled_from(
        [
            "localhost",
            "127.0.0.1:80",
            "60",
            SECRET,
            session_token(IMDS, caller=ALICE),
            session_token(IMDS, caller=BOB),
            session_token(IMDS_V1, caller=BOB),
        ]
    ),
    st.text(),
)
headers = st.lists(st.tuples(names, values), max_size=6).map(tuple)
requests = st.builds(
    Request,
    method=methods,
    path=paths,
    headers=headers.map(lambda some: (("host", "localhost"), *some)) | headers,
    http_version=st.sampled_from([(1, 0), (1, 1)]),
)
surfaces = st.sampled_from([IMDS, IMDS_V1, CONTAINER])
callers = st.sampled_from([ALICE, BOB, Caller(), Caller(address="10.0.0.8")])


def secrets_in(answer: Answer) -> list[str]:
    text = answer.body.decode("latin-1") + repr(dict(answer.headers))
    return [
        secret
        for role in ("deploy", "audit", "vault")
        for secret in (
            some_credentials(role).secret_access_key,
            some_credentials(role).session_token,
        )
        if secret in text
    ]


@given(requests, surfaces, callers)
@example(Request(method="GET", path=ROLE_LIST + "deploy"), IMDS_V1, BOB)
def test_any_request_has_an_answer_that_every_client_survives(
    request: Request, surface: Surface, caller: Caller
) -> None:
    answer = surface.answer(request, caller, now=START)

    assert answer.status in STATUSES
    assert answer.route in LABELS
    assert answer.role in ("deploy", "audit", "vault", "none")
    assert answer.status != 400 or (request.method, answer.route) == ("PUT", "token")
    assert all((name + value).isascii() for name, value in answer.headers.items())
    assert not any(name.lower().startswith("access-control") for name in answer.headers)


@given(requests, surfaces, callers.filter(lambda caller: caller.uid != ALICE.uid))
def test_no_request_gets_a_secret_out_for_a_caller_without_a_grant(
    request: Request, surface: Surface, caller: Caller
) -> None:
    answer = surface.answer(request, caller, now=START)

    assert secrets_in(answer) == []
    assert b"vault" not in answer.body
    assert SECRET.encode() not in answer.body


def test_the_search_for_secrets_finds_them_where_they_are() -> None:
    answer = IMDS_V1.answer(
        Request(method="GET", path=ROLE_LIST + "deploy", headers=(("host", "localhost"),)),
        ALICE,
        now=START,
    )

    assert len(secrets_in(answer)) == 2
