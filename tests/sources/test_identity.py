"""The Namespace identity: where it is looked for, what is read there, and messages about it.

On a real file system, against the sandbox through real HTTP.
"""

import asyncio
import os
import socket
from datetime import timedelta
from pathlib import Path

import pytest

from broker.lease import Refused, SourceError, Unavailable
from broker.sandbox import Sandbox
from tests.support.fakes import FakeClock, inline, settled
from tests.support.sources import (
    Pipeline,
    answering,
    bearer_of,
    hanging,
    http_answer,
    spec_of,
    write_token_file,
)


def in_an_hour(clock: FakeClock) -> str:
    return bearer_of(ends_at=clock.now() + timedelta(hours=1))


# Where it is looked for.


class Places:
    """Every place that `auto` knows, each below one temporary directory, and its environment."""

    def __init__(self, root: Path) -> None:
        self.metadata = root / "metadata"
        self.config = root / "config" / "ns"
        self.metadata.mkdir()
        self.config.mkdir(parents=True)
        self.named = root / "named.json"
        self.named_spec = root / "named.spec"
        self.environ = {
            "NSC_METADATA_DIR": str(self.metadata),
            "XDG_CONFIG_HOME": str(root / "config"),
        }

    def fill(self, clock: FakeClock, *names: str) -> None:
        """Put into each place a token that says whose it is."""
        end = clock.now() + timedelta(hours=1)
        for name in names:
            token = bearer_of(ends_at=end, tenant_id=name)
            spec = spec_of({"inline_token": token})
            match name:
                case "NSC_TOKEN_SPEC":
                    self.environ[name] = spec
                case "NSC_TOKEN_SPEC_FILE":
                    self.named_spec.write_text(spec + "\n")
                    self.environ[name] = str(self.named_spec)
                case "NSC_TOKEN_FILE":
                    write_token_file(self.named, bearer_token=token)
                    self.environ[name] = str(self.named)
                case "metadata/token.json":
                    write_token_file(self.metadata / "token.json", bearer_token=token)
                case "metadata/token.spec":
                    (self.metadata / "token.spec").write_text(spec)
                case "config/token.json":
                    write_token_file(self.config / "token.json", bearer_token=token)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path)


ORDER = [
    "NSC_TOKEN_SPEC",
    "NSC_TOKEN_SPEC_FILE",
    "NSC_TOKEN_FILE",
    "metadata/token.json",
    "metadata/token.spec",
    "config/token.json",
]


@pytest.mark.parametrize("first", range(len(ORDER)))
async def test_the_first_place_that_there_is_wins(
    pipeline: Pipeline, places: Places, clock: FakeClock, first: int
) -> None:
    places.fill(clock, *ORDER[first:])

    lease = await pipeline.identity(places.environ, clock=clock).fetch()

    assert lease.value.tenant_id == ORDER[first]


async def test_the_place_is_chosen_anew_each_time(
    pipeline: Pipeline, places: Places, clock: FakeClock
) -> None:
    places.fill(clock, "config/token.json")
    identity = pipeline.identity(places.environ, clock=clock)
    first = await identity.fetch()

    places.fill(clock, "metadata/token.json")
    second = await identity.fetch()

    assert (first.value.tenant_id, second.value.tenant_id) == (
        "config/token.json",
        "metadata/token.json",
    )


async def test_a_file_that_a_variable_names_is_not_passed_over_when_it_is_missing(
    pipeline: Pipeline, places: Places, clock: FakeClock
) -> None:
    places.fill(clock, "config/token.json")
    environ = places.environ | {"NSC_TOKEN_FILE": "/nonexistent/token.json"}

    with pytest.raises(Refused, match=r"/nonexistent/token.json, which NSC_TOKEN_FILE names"):
        await pipeline.identity(environ, clock=clock).fetch()


async def test_without_any_identity_every_place_is_named(
    pipeline: Pipeline, places: Places
) -> None:
    with pytest.raises(Refused) as error:
        await pipeline.identity(places.environ).fetch()

    assert error.value.word == "no-identity"
    assert all(
        str(path) in str(error.value) for path in pipeline.identity(places.environ).watched()
    )
    assert "nsc login" in str(error.value)


@pytest.mark.parametrize(
    ("environ", "watched"),
    [
        ({}, ["/var/run/nsc/token.json", "/var/run/nsc/token.spec"]),
        (
            {"HOME": "/home/ci"},
            [
                "/var/run/nsc/token.json",
                "/var/run/nsc/token.spec",
                "/home/ci/.config/ns/token.json",
            ],
        ),
        (
            {"NSC_METADATA_DIR": "/m", "XDG_CONFIG_HOME": "/c", "HOME": "/home/ci"},
            ["/m/token.json", "/m/token.spec", "/c/ns/token.json"],
        ),
        ({"NSC_TOKEN_FILE": "/t", "HOME": "/home/ci"}, ["/t"]),
        ({"NSC_TOKEN_SPEC_FILE": "/s", "NSC_TOKEN_FILE": "/t"}, ["/s"]),
        ({"NSC_TOKEN_SPEC": "e30", "NSC_TOKEN_FILE": "/t"}, []),
        ({"NSC_TOKEN_SPEC": "", "NSC_TOKEN_FILE": "/t"}, ["/t"]),
    ],
)
async def test_every_file_whose_change_matters_is_watched(
    pipeline: Pipeline, environ: dict[str, str], watched: list[str]
) -> None:
    assert [str(path) for path in pipeline.identity(environ).watched()] == watched


async def test_a_configured_file_or_spec_stands_over_the_environment(
    pipeline: Pipeline, places: Places, clock: FakeClock, tmp_path: Path
) -> None:
    places.fill(clock, "NSC_TOKEN_SPEC", "NSC_TOKEN_FILE", "NSC_TOKEN_SPEC_FILE")
    by_file = pipeline.identity(
        places.environ, source="token-file", token_file=places.named, clock=clock
    )
    by_spec = pipeline.identity(
        places.environ, source="token-spec", token_spec=places.named_spec, clock=clock
    )

    assert (await by_file.fetch()).value.tenant_id == "NSC_TOKEN_FILE"
    assert (await by_spec.fetch()).value.tenant_id == "NSC_TOKEN_SPEC_FILE"
    assert by_file.watched() == (places.named,)


# What a token file holds.


async def fetched(pipeline: Pipeline, path: Path, clock: FakeClock) -> str:
    identity = pipeline.identity(source="token-file", token_file=path, clock=clock)
    return (await identity.fetch()).value.bearer


async def test_the_legacy_name_stands_over_the_newer_one(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path
) -> None:
    legacy, newer = in_an_hour(clock), in_an_hour(clock) + "x"
    path = write_token_file(tmp_path / "token.json", bearer_token=newer, tenant_token=legacy)

    assert await fetched(pipeline, path, clock) == legacy


async def test_empty_and_null_names_count_as_absent_and_unknown_ones_are_ignored(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path
) -> None:
    token = in_an_hour(clock)
    path = write_token_file(
        tmp_path / "token.json",
        bearer_token=token,
        tenant_token="",
        session_token=None,
        version=[1],
    )

    assert await fetched(pipeline, path, clock) == token


async def test_a_revocable_token_is_taken_as_it_is(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path
) -> None:
    path = write_token_file(tmp_path / "token.json", bearer_token="nsrt_opaque")

    assert await fetched(pipeline, path, clock) == "nsrt_opaque"


async def test_a_rewritten_file_is_read_again(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path
) -> None:
    first, second = in_an_hour(clock), in_an_hour(clock) + "x"
    path = write_token_file(tmp_path / "token.json", bearer_token=first)
    identity = pipeline.identity(source="token-file", token_file=path, clock=clock)
    held = [(await identity.fetch()).value.bearer]

    write_token_file(path, bearer_token=second)
    held.append((await identity.fetch()).value.bearer)

    assert held == [first, second]


async def test_a_link_to_a_file_is_followed(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path
) -> None:
    token = in_an_hour(clock)
    write_token_file(tmp_path / "data.json", bearer_token=token)
    link = tmp_path / "token.json"
    link.symlink_to("data.json")

    assert await fetched(pipeline, link, clock) == token


@pytest.mark.parametrize("half", ["", "{", '{"bearer_token": "nsct_e', "\n"])
async def test_a_half_written_file_is_read_again_after_a_few_milliseconds(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path, half: str
) -> None:
    path = tmp_path / "token.json"
    path.write_text(half)
    token = in_an_hour(clock)
    fetching = asyncio.create_task(fetched(pipeline, path, clock))
    await settled()

    write_token_file(path, bearer_token=token)
    await clock.advance(seconds=0.01)

    assert await fetching == token


async def test_a_half_written_spec_is_read_again_too(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path
) -> None:
    token = in_an_hour(clock)
    whole = spec_of({"inline_token": token})
    path = tmp_path / "token.spec"
    path.write_text(whole[:40])
    identity = pipeline.identity(source="token-spec", token_spec=path, clock=clock)
    fetching = asyncio.create_task(identity.fetch())
    await settled()

    path.write_text(whole)
    await clock.advance(seconds=0.01)

    assert (await fetching).value.bearer == token


GARBAGE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "blank": (b" \n", "is empty"),
    "truncated": (b'{"bearer_token": "nsct_', "holds no JSON object"),
    "a list": (b"[]", "holds no JSON object"),
    "bottomless": (b"[" * 500_000, "holds no JSON object"),
    "binary": (b"\xff\xfe\x00", "is not text"),
    "HTML": (b"<html></html>", "holds no JSON object"),
    "no token": (b"{}", "neither a bearer_token nor a session_token"),
    "a number": (b'{"bearer_token": 5}', "bearer_token in .* is not text"),
    "a list of tokens": (b'{"session_token": []}', "session_token in .* is not text"),
    "whitespace in it": (b'{"bearer_token": "nsct_a b"}', "whitespace"),
    "a bare JWT": (b'{"bearer_token": "a.b.c"}', "does not begin as Namespace's do"),
    "a session as bearer": (b'{"bearer_token": "st_a.b.c"}', "belongs in session_token"),
    "a bearer as session": (b'{"session_token": "nsct_a.b.c"}', "no session token"),
    "over 1 MiB": (b" " * (1 << 20) + b"{}", "over 1 MiB"),
}


@pytest.mark.parametrize("kind", GARBAGE)
async def test_garbage_in_a_file_is_refused_with_the_file_and_the_next_step(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path, kind: str
) -> None:
    data, complaint = GARBAGE[kind]
    path = tmp_path / "token.json"
    path.write_bytes(data)
    fetching = asyncio.create_task(fetched(pipeline, path, clock))
    await clock.advance(seconds=1)

    with pytest.raises(Refused, match=complaint) as error:
        await fetching

    assert str(path) in str(error.value)
    assert ";" in str(error.value) or "," in str(error.value)
    assert error.value.word in ("bad-token-file", "bad-token")


async def test_a_directory_a_pipe_and_a_socket_are_refused_at_once(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))

    for name, complaint in [("pipe", "no regular file"), ("directory", "is a directory")]:
        with pytest.raises(Refused, match=complaint):
            await fetched(pipeline, tmp_path / name, clock)
    with pytest.raises(SourceError, match="socket could not be read"):
        await fetched(pipeline, tmp_path / "socket", clock)


async def test_a_file_that_is_not_there_is_refused(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    for path in (tmp_path / "token.json", tmp_path / "file" / "token.json"):
        with pytest.raises(Refused, match="does not exist; is its writer running") as error:
            await fetched(pipeline, path, clock)
        assert error.value.word == "no-identity"


async def test_a_file_that_we_may_not_read_is_refused(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path
) -> None:
    path = write_token_file(tmp_path / "token.json", bearer_token=in_an_hour(clock))
    path.chmod(0)

    async def as_somebody_else() -> str:
        # Root reads everything, so root becomes nobody in the thread that opens the file.
        if os.geteuid() != 0:
            return await fetched(pipeline, path, clock)
        tmp_path.chmod(0o755)
        os.seteuid(65534)
        try:
            return await fetched(pipeline, path, clock)
        finally:
            os.seteuid(0)

    with pytest.raises(Refused, match="may not be read by uid") as error:
        await as_somebody_else()

    assert str(path) in str(error.value)


async def test_an_ended_token_says_when_it_ended_and_asks_for_its_writer(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path
) -> None:
    ended_at = clock.now() - timedelta(minutes=3)
    path = write_token_file(tmp_path / "token.json", bearer_token=bearer_of(ends_at=ended_at))

    with pytest.raises(Refused) as error:
        await fetched(pipeline, path, clock)

    assert str(error.value) == f"the token in {path} ended 3 min ago; is its writer still running?"
    assert error.value.word == "expired-token"


async def test_a_token_is_good_until_the_very_second_of_its_end(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path
) -> None:
    token = bearer_of(ends_at=clock.now() + timedelta(seconds=1))
    path = write_token_file(tmp_path / "token.json", bearer_token=token)

    assert await fetched(pipeline, path, clock) == token
    clock.jump(seconds=1)
    with pytest.raises(Refused, match="ended 0 s ago"):
        await fetched(pipeline, path, clock)


# Sessions, which mint.


async def test_a_session_mints_a_tenant_token_and_stands_over_a_bearer_beside_it(
    pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path
) -> None:
    path = write_token_file(
        tmp_path / "token.json",
        session_token=sandbox.namespace.session_token(),
        bearer_token=sandbox.namespace.tenant_token(),
    )

    lease = await pipeline.identity(source="token-file", token_file=path).fetch()

    assert lease.value.bearer.startswith("nsct_")
    assert lease.expires_at is not None
    assert timedelta(minutes=59) < lease.expires_at - lease.issued_at <= timedelta(hours=1)
    (call,) = sandbox.namespace.calls_of("IssueTenantTokenFromSession")
    assert call.params == {"token_duration_secs": 3600}
    assert call.path == "/nsl.signin.SigninService/IssueTenantTokenFromSession"


async def test_an_ended_session_is_refused_without_a_call(
    pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path
) -> None:
    path = write_token_file(
        tmp_path / "token.json",
        session_token=sandbox.namespace.session_token(lifetime_s=-7200),
        bearer_token=sandbox.namespace.tenant_token(),
    )

    with pytest.raises(Refused, match="ended 2 h ago; run `nsc login`"):
        await pipeline.identity(source="token-file", token_file=path).fetch()

    assert sandbox.namespace.calls == ()


async def test_a_revoked_session_is_refused(
    pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path
) -> None:
    session = sandbox.namespace.session_token()
    path = write_token_file(tmp_path / "token.json", session_token=session)
    sandbox.namespace.revoke(session)

    with pytest.raises(Refused, match=r"does not accept the session in .*token.json") as error:
        await pipeline.identity(source="token-file", token_file=path).fetch()

    assert error.value.word == "unauthenticated"
    assert session not in str(error.value)


async def test_a_session_that_was_replaced_meanwhile_is_used(
    pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path
) -> None:
    old, new = sandbox.namespace.session_token(), sandbox.namespace.session_token()
    path = write_token_file(tmp_path / "token.json", session_token=old)
    sandbox.fail("IssueTenantTokenFromSession", code="UNAUTHENTICATED", delay_s=0.05, count=1)
    identity = pipeline.identity(source="token-file", token_file=path)
    fetching = asyncio.create_task(identity.fetch())
    async with asyncio.timeout(10):
        while not sandbox.namespace.calls:
            await asyncio.sleep(0.002)

    write_token_file(path, session_token=new)

    assert (await fetching).value.bearer.startswith("nsct_")
    sent = [call.headers["Authorization"] for call in sandbox.namespace.calls]
    assert sent == [f"Bearer {old}", f"Bearer {new}"]


@pytest.mark.parametrize("minted", ["nsct_opaque", "<html>", "st_a.b.c"])
async def test_what_is_no_tenant_token_is_no_proper_answer(
    pipeline: Pipeline, sandbox: Sandbox, tmp_path: Path, minted: str
) -> None:
    path = write_token_file(
        tmp_path / "token.json", session_token=sandbox.namespace.session_token()
    )
    sandbox.fail("IssueTenantTokenFromSession", status=200, body={"tenant_token": minted})

    with pytest.raises(Unavailable) as error:
        await pipeline.identity(source="token-file", token_file=path).fetch()

    assert error.value.word == "bad-answer"


# Specs and the instance's metadata.


async def test_a_spec_leads_to_the_instances_token(pipeline: Pipeline, sandbox: Sandbox) -> None:
    environ = {"NSC_TOKEN_SPEC": sandbox.namespace.token_spec()}

    lease = await pipeline.identity(environ).fetch()

    assert lease.value.bearer.startswith("nscw_")
    assert lease.value.instance_id == "i-abc"
    (call,) = sandbox.namespace.calls
    assert (call.method, call.path) == ("GET", "/metadata/v1/workload_token")


async def test_an_inline_token_may_be_revocable(pipeline: Pipeline, sandbox: Sandbox) -> None:
    environ = {"NSC_TOKEN_SPEC": sandbox.namespace.inline_token_spec("nsrt_opaque")}

    lease = await pipeline.identity(environ).fetch()

    assert (lease.value.bearer, lease.expires_at) == ("nsrt_opaque", None)


async def test_an_ended_inline_token_says_that_nobody_will_renew_it(
    pipeline: Pipeline, clock: FakeClock
) -> None:
    ended = bearer_of(ends_at=clock.now() - timedelta(days=3))
    environ = {"NSC_TOKEN_SPEC": spec_of({"inline_token": ended})}

    with pytest.raises(Refused, match="NSC_TOKEN_SPEC ended 3 days ago; set a newer one"):
        await pipeline.identity(environ, clock=clock).fetch()


@pytest.mark.parametrize("spec", ["not base64!", "e30", spec_of({"version": "v2"})])
async def test_a_spec_that_is_none_is_refused(
    pipeline: Pipeline, clock: FakeClock, tmp_path: Path, spec: str
) -> None:
    path = tmp_path / "token.spec"
    path.write_text(spec)

    with pytest.raises(Refused, match="NSC_TOKEN_SPEC ") as inline:
        await pipeline.identity({"NSC_TOKEN_SPEC": spec}).fetch()
    fetching = asyncio.create_task(
        pipeline.identity({"NSC_TOKEN_SPEC_FILE": str(path)}, clock=clock).fetch()
    )
    await clock.advance(seconds=1)
    with pytest.raises(Refused, match=str(path)) as in_file:
        await fetching

    assert inline.value.word == in_file.value.word == "bad-token-spec"


@pytest.mark.parametrize(
    ("status", "body", "word"),
    [
        (500, b"internal error", "upstream-error"),
        (503, b"", "upstream-error"),
        (404, b"not found", "bad-answer"),
        (204, b"", "bad-answer"),
        (200, b"", "bad-answer"),
        (200, b"<html>welcome</html>", "bad-answer"),
        (200, b"\xff\xfe", "bad-answer"),
        (200, b"nscw_half", "bad-answer"),
        (200, b"x" * (2 << 20), "bad-answer"),
    ],
)
async def test_an_error_page_of_the_metadata_service_is_no_token(
    pipeline: Pipeline, sandbox: Sandbox, status: int, body: bytes, word: str
) -> None:
    sandbox.fail("workload_token", status=status, body=body)

    with pytest.raises(Unavailable) as error:
        await pipeline.identity({"NSC_TOKEN_SPEC": sandbox.namespace.token_spec()}).fetch()

    assert error.value.word == word
    assert "metadata/v1" not in str(error.value)


async def test_a_status_other_than_200_is_no_token_even_with_one_in_its_body(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    token = sandbox.namespace.workload_token()
    sandbox.fail("workload_token", status=203, body=token)

    with pytest.raises(Unavailable, match="HTTP 203 instead of a token") as error:
        await pipeline.identity({"NSC_TOKEN_SPEC": sandbox.namespace.token_spec()}).fetch()

    assert token not in str(error.value)


async def test_a_newline_after_the_token_does_no_harm(pipeline: Pipeline, sandbox: Sandbox) -> None:
    token = sandbox.namespace.workload_token()
    sandbox.fail("workload_token", status=200, body=token + "\n")

    lease = await pipeline.identity({"NSC_TOKEN_SPEC": sandbox.namespace.token_spec()}).fetch()

    assert lease.value.bearer == token


async def test_redirects_of_the_metadata_service_are_followed(
    pipeline: Pipeline, sandbox: Sandbox
) -> None:
    moved = http_answer(307, b"", f"Location: {sandbox.namespace.metadata_url}/workload_token")
    async with answering(moved) as url:
        spec = spec_of({"version": "v1", "metadata_url": url})

        lease = await pipeline.identity({"NSC_TOKEN_SPEC": spec}).fetch()

    assert lease.value.bearer.startswith("nscw_")


@pytest.mark.parametrize(
    ("location", "complaint"),
    [
        ("/again", "redirects without end"),
        ("http://metadata.example.com/", "where no token may come from"),
        ("http://[::1", "where no token may come from"),
        ("file:///etc/passwd", "where no token may come from"),
    ],
)
async def test_redirects_that_lead_nowhere_are_no_proper_answer(
    pipeline: Pipeline, location: str, complaint: str
) -> None:
    async with answering(http_answer(302, b"", f"Location: {location}")) as url:
        spec = spec_of({"version": "v1", "metadata_url": url})

        with pytest.raises(Unavailable, match=complaint):
            await pipeline.identity({"NSC_TOKEN_SPEC": spec}).fetch()


async def test_a_metadata_service_that_hangs_is_given_up(
    pipeline: Pipeline, clock: FakeClock
) -> None:
    from broker.sources.namespace.identity import identity_source

    async with hanging() as url:
        identity = identity_source(
            run=inline,
            source="auto",
            token_file=None,
            token_spec=None,
            environ={"NSC_TOKEN_SPEC": spec_of({"version": "v1", "metadata_url": url})},
            iam=pipeline.iam,
            http=pipeline.http,
            clock=clock,
            metadata_limit_s=0.05,
        )

        with pytest.raises(Unavailable, match=r"no answer within 0.05 s") as error:
            await identity.fetch()

    assert error.value.word == "timeout"


async def test_an_error_never_shows_the_path_of_the_metadata_service(pipeline: Pipeline) -> None:
    spec = spec_of({"version": "v1", "metadata_url": "http://127.0.0.1:1/nsc/v1/SECRET"})

    with pytest.raises(Unavailable, match="was not reached") as error:
        await pipeline.identity({"NSC_TOKEN_SPEC": spec}).fetch()

    assert error.value.word == "unreachable"
    assert "SECRET" not in str(error.value)
    assert "127.0.0.1:1" in str(error.value)
