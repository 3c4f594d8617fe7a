"""`login`: an AWS identity becomes a Namespace token once, in the file where nsc looks."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.cli import login_file
from broker.cli.errors import Failure
from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.fake_broker import Cli
from tests.support.namespace_sdk import load_defaults
from tests.support.nsc import Nsc

VIA_STS = ("login", "--via", "sts", "--workspace", "ws_1")


@dataclass(frozen=True)
class World:
    """A sandbox in which one AWS role is admitted by STS, and another by a Cognito pool."""

    sandbox: Sandbox
    by_sts: str
    by_cognito: str
    pool: str


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with sandbox_in_thread() as sandbox:
        by_cognito, pool = sandbox.guide_by_cognito("by-cognito")
        yield World(sandbox, sandbox.guide_by_sts("by-sts"), by_cognito, pool)


@dataclass
class Host:
    """A host that has an AWS identity, and nobody logged in."""

    cli: Cli
    world: World
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.cli.home / ".config" / "ns" / "token.json"

    def put(self, **members: object) -> bytes:
        """Write a token file where nsc has it, and return its content."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(members))
        return self.file.read_bytes()

    def exchanges(self) -> int:
        return len(self.world.sandbox.namespace.calls_of("ExchangeOIDCToken"))

    def nsc(self, environ: Mapping[str, str] | None = None) -> Nsc:
        return Nsc(environ=environ or {}, config=self.cli.home / ".config" / "ns")


@pytest.fixture
def host(cli: Cli, world: World) -> Iterator[Host]:
    cli.environ |= world.sandbox.environment() | world.sandbox.aws_environment(world.by_sts)
    yield Host(cli, world)
    world.sandbox.heal()


def test_by_sts_the_workspace_is_told_and_nsc_and_the_sdks_find_the_token(host: Host) -> None:
    done = host.cli.run(*VIA_STS)

    bearer = json.loads(host.file.read_text())["bearer_token"]
    assert (done.returncode, done.stdout) == (0, "Acme (ws_1)\n")
    assert done.stderr.startswith(f"namespace-broker: {host.file}: written, good until 20")
    assert done.stderr.count("\n") == 1
    assert bearer.startswith("nsct_")
    assert bearer not in done.stderr
    assert host.nsc().bearer() == bearer
    assert load_defaults({}, config=host.file.parent) == bearer


@pytest.mark.parametrize("bare", [True, False])
def test_by_cognito_with_the_flags_of_the_guide(host: Host, bare: bool) -> None:
    region, guid = host.world.pool.split(":")
    environ = host.world.sandbox.aws_environment(host.world.by_cognito)
    flags = ["--aws_region", region, "--identity_pool", guid if bare else host.world.pool]

    done = host.cli.run("login", "--via", "cognito", *flags, "--tenant_id", "ws_1", environ=environ)

    assert (done.returncode, done.stdout) == (0, "Acme (ws_1)\n")
    assert host.nsc().tenant_id() == "ws_1"


def test_a_profile_is_an_identity_too(host: Host) -> None:
    for name in list(host.cli.environ):
        if name.startswith("AWS_") and "ENDPOINT" not in name:
            del host.cli.environ[name]
    keys = host.world.sandbox.aws_environment(host.world.by_sts)
    folder = host.cli.home / ".aws"
    folder.mkdir()
    (folder / "config").write_text(
        "[profile build]\nregion = us-east-1\n"
        f"aws_access_key_id = {keys['AWS_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {keys['AWS_SECRET_ACCESS_KEY']}\n"
        f"aws_session_token = {keys['AWS_SESSION_TOKEN']}\n"
    )

    done = host.cli.run(*VIA_STS, "--aws_profile", "build")

    assert (done.returncode, done.stdout) == (0, "Acme (ws_1)\n"), done.stderr


def test_without_a_region_sts_of_us_east_1_is_asked_with_one_warning(host: Host) -> None:
    nowhere = {"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}

    done = host.cli.run(*VIA_STS, environ=nowhere)

    assert (done.returncode, done.stdout) == (0, "Acme (ws_1)\n"), done.stderr
    assert done.stderr.splitlines()[0] == (
        "namespace-broker: warning: region: none is set: STS of us-east-1 is used;"
        " give --region or set AWS_REGION"
    )
    assert done.stderr.count("warning") == 1


class TestWhere:
    def test_the_file_is_private_and_what_nsc_derived_is_gone(self, host: Host) -> None:
        host.put(bearer_token="nsct_a.b.c")
        cache = host.file.with_name("token.cache")
        cache.write_text("nsct_old")

        host.cli.run(*VIA_STS)

        assert host.file.stat().st_mode & 0o777 == 0o600
        assert [path.name for path in host.file.parent.iterdir()] == ["token.json"]

    def test_it_is_where_nsc_will_look(self, host: Host, tmp_path: Path) -> None:
        named = tmp_path / "made" / "mine.json"

        done = host.cli.run(*VIA_STS, environ={"NSC_TOKEN_FILE": str(named)})

        assert "bearer_token" in named.read_text()
        assert not host.file.exists()
        assert "set NSC_TOKEN_FILE" not in done.stderr

    def test_where_nsc_would_not_find_it_that_is_said(self, host: Host, tmp_path: Path) -> None:
        elsewhere = tmp_path / "token.json"

        done = host.cli.run(*VIA_STS, "--output", str(elsewhere))
        hidden = host.cli.run(*VIA_STS, environ={"NSC_TOKEN_SPEC": "x"})

        assert done.stderr.endswith(f"; for nsc and the SDKs set NSC_TOKEN_FILE={elsewhere}\n")
        assert hidden.stderr.endswith("; nsc looks in NSC_TOKEN_SPEC first: unset it\n")

    def test_without_a_home_it_must_be_said(self, host: Host) -> None:
        line = host.cli.error(*VIA_STS, code=2, environ={"HOME": ""})

        assert line == "--output: is not given, and HOME is not set; give --output FILE"

    def test_a_place_that_cannot_be_is_said_before_anything_is_asked(
        self, host: Host, tmp_path: Path
    ) -> None:
        link, other = tmp_path / "link", tmp_path / "notes.json"
        link.symlink_to(tmp_path / "file")
        other.write_text('{"name": "x"}')
        before = host.exchanges()

        lines = [
            host.cli.error(*VIA_STS, "--output", str(path), code=1)
            for path in (link, tmp_path, other)
        ]

        assert lines == [
            f"--output: {link} is a link; name the file itself",
            f"--output: {tmp_path} is not a regular file; move it away",
            f"--output: {other} is not a token file; name another file",
        ]
        assert host.exchanges() == before

    @pytest.mark.parametrize("content", ['{"bearer_token": "nsct_', "[1]", '{"name": "x"}'])
    def test_what_is_no_token_is_replaced_in_nscs_own_place_and_a_copy_kept(
        self, host: Host, content: str
    ) -> None:
        host.put()
        host.file.write_text(content)

        done = host.cli.run(*VIA_STS)

        (copy,) = host.file.parent.glob("*.saved")
        assert (done.returncode, done.stdout) == (0, "Acme (ws_1)\n")
        assert f"{copy}: a copy of the damaged file that was there\n" in done.stderr
        assert (copy.read_text(), copy.stat().st_mode & 0o777) == (content, 0o600)
        assert host.nsc().tenant_id() == "ws_1"

    def test_a_place_that_cannot_be_written_is_said(self, host: Host) -> None:
        line = host.cli.error(*VIA_STS, "--output", "/proc/nowhere/token.json", code=1)

        assert line.startswith("--output: /proc/nowhere/token.json cannot be used (")


class TestEnsure:
    def test_nothing_is_done_while_what_is_there_lives_long_enough(self, host: Host) -> None:
        host.cli.run(*VIA_STS)
        content, before = host.file.read_bytes(), host.exchanges()

        done = host.cli.run(*VIA_STS, "--ensure", "30m")

        assert (done.returncode, done.stdout) == (0, "ws_1\n")
        assert ": left as it is: its token is good for 59 min" in done.stderr
        assert (host.file.read_bytes(), host.exchanges()) == (content, before)

    @pytest.mark.parametrize("ensure", [("--ensure", "2h"), ("--ensure", "0"), ()])
    def test_else_it_always_signs_in(self, host: Host, ensure: tuple[str, ...]) -> None:
        host.cli.run(*VIA_STS)
        before = host.exchanges()

        done = host.cli.run(*VIA_STS, *ensure)

        assert (done.returncode, host.exchanges()) == (0, before + 1)

    def test_another_workspaces_token_does_not_count(self, host: Host) -> None:
        host.cli.run(*VIA_STS)

        line = host.cli.error("login", "--via", "sts", "--workspace", "ws_2", code=1)

        assert "to workspace ws_2. To admit it: `nsc auth trust-relationships add" in line

    @pytest.mark.parametrize(
        "bearer", ["", "nsct_", "nsct_a.b.c", "nsct_a.e30.c", "nsct_a.eyJleHAiOjFlOTk5fQ.c", 7]
    )
    def test_what_cannot_be_read_does_not_count(self, host: Host, bearer: object) -> None:
        host.put(bearer_token=bearer)

        assert host.cli.run(*VIA_STS).stdout == "Acme (ws_1)\n"


class TestAPersonsLogin:
    def test_it_is_not_overwritten(self, host: Host) -> None:
        content = host.put(
            session_token=host.world.sandbox.namespace.session_token(), bearer_token="nsct_a.b.c"
        )
        before = host.exchanges()

        line = host.cli.error(*VIA_STS, code=1)

        assert line == (
            f"--replace-login: {host.file} holds a person's login (session_token), which is not"
            " overwritten; give --replace-login, which keeps a copy, or --output FILE"
        )
        assert (host.file.read_bytes(), host.exchanges()) == (content, before)

    def test_where_it_is_to_be_replaced_a_copy_is_kept(self, host: Host) -> None:
        content = host.put(session_token="st_x")

        done = host.cli.run(*VIA_STS, "--replace-login")

        (copy,) = host.file.parent.glob("*.saved")
        assert (done.returncode, done.stdout) == (0, "Acme (ws_1)\n")
        assert f"namespace-broker: {copy}: a copy of the login that was there\n" in done.stderr
        assert (copy.read_bytes(), copy.stat().st_mode & 0o777) == (content, 0o600)
        assert host.nsc().tenant_id() == "ws_1"

    def test_where_the_exchange_fails_it_stays(self, host: Host) -> None:
        content = host.put(session_token="st_x")
        arguments = ("login", "--via", "sts", "--workspace", "ws_2", "--replace-login")

        host.cli.error(*arguments, code=1)

        assert host.file.read_bytes() == content
        assert list(host.file.parent.iterdir()) == [host.file]


def test_without_a_workspace_namespace_chooses_with_one_warning(host: Host) -> None:
    done = host.cli.run("login", "--via", "sts")

    (call,) = host.world.sandbox.namespace.calls_of("ExchangeOIDCToken")[-1:]
    assert (done.returncode, done.stdout) == (0, "Acme (ws_1)\n")
    assert "tenant_id" not in call.params
    assert done.stderr.count("warning") == 1
    assert done.stderr.startswith("namespace-broker: warning: --workspace: no workspace is named")


def test_a_refusal_is_one_line_at_once_and_says_what_was_presented(host: Host) -> None:
    audience = ("--audience", "https://elsewhere.example.com")
    host.world.sandbox.fail("ExchangeOIDCToken", code="PERMISSION_DENIED", count=1)
    before = host.exchanges()

    line = host.cli.error(*VIA_STS, *audience, code=1)

    assert line.startswith("login: ExchangeOIDCToken at Namespace IAM")
    assert f"sub='{host.world.by_sts}' aud='https://elsewhere.example.com'" in line
    assert "`nsc auth trust-relationships add --issuer" in line
    assert host.exchanges() == before + 1


def test_a_passing_fault_is_gone_over(host: Host) -> None:
    host.world.sandbox.fail("ExchangeOIDCToken", status=503, count=1)

    assert host.cli.run(*VIA_STS).stdout == "Acme (ws_1)\n"


def test_without_an_aws_identity_that_is_what_is_said(host: Host) -> None:
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}

    line = host.cli.error(*VIA_STS, code=1, environ=nobody)

    assert line.startswith("login: this machine has no AWS identity")


def test_a_copy_that_cannot_be_kept_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot be used"):
        login_file.keep_copy(
            str(tmp_path / "none" / "token.json"), login_file.NOTHING, now=datetime.now(UTC)
        )
