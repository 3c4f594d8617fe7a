"""Commands without a running broker, as processes against the sandbox's clouds."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.fake_broker import FORBIDDEN, Cli, FakeBroker, variables_in


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as sandbox:
        yield sandbox


@pytest.fixture
def cloud(cli: Cli, sandbox: Sandbox) -> Cli:
    """A host that can reach the clouds, and has an identity there."""
    token = cli.home / "token.json"
    sandbox.namespace.write_token_file(token)
    cli.environ |= sandbox.environment()
    cli.environ |= {"NSC_TOKEN_FILE": str(token), "AWS_REGION": "eu-central-1"}
    return cli


def test_credentials_are_obtained_once(cloud: Cli, sandbox: Sandbox) -> None:
    done = cloud.run("credential-process", "--role-arn", sandbox.role_arn)

    found = json.loads(done.stdout)
    ends_at = datetime.fromisoformat(found["Expiration"])
    assert (done.returncode, done.stderr, found["Version"]) == (0, "", 1)
    assert found["AccessKeyId"].startswith("ASIA")
    assert timedelta(minutes=55) < ends_at - datetime.now(UTC) <= timedelta(hours=1)


def test_a_role_arn_is_obtained_without_asking_the_broker_that_runs(
    cloud: Cli, sandbox: Sandbox, fake: FakeBroker
) -> None:
    done = cloud.run("credential-process", "--role_arn", f"mine={sandbox.role_arn}")

    assert done.returncode == 0
    assert fake.asked == []


def test_a_broker_that_refuses_is_not_gone_round(
    cloud: Cli, sandbox: Sandbox, fake: FakeBroker
) -> None:
    file = cloud.home / "config.toml"
    file.write_text(f'[roles.deploy]\narn = "{sandbox.role_arn}"\n')
    fake.answers["/v1/credentials"] = (403, FORBIDDEN)

    line = cloud.error("credential-process", "--config", str(file), code=1)

    assert " has no access; an administrator can run: namespace-broker install" in line


def test_the_configuration_names_roles_too(cloud: Cli, sandbox: Sandbox) -> None:
    file = cloud.home / "config.toml"
    file.write_text(f'[roles.deploy]\narn = "{sandbox.role_arn}"\n')
    environ = {"NAMESPACE_BROKER_CONFIG": str(file)}

    done = cloud.run("credential-process", "--role", "deploy", environ=environ)
    line = cloud.error("credential-process", "--role", "nope", code=2, environ=environ)

    assert done.returncode == 0
    assert line == "--role: no such role: 'nope'; the roles are deploy"


@pytest.mark.parametrize(
    "command",
    [
        ["credential-process"],
        ["env", "--static", "--output", "/nonexistent/aws.env"],
        ["exec", "--", "true"],
    ],
)
def test_without_broker_and_role_the_broker_is_what_is_missed(
    cloud: Cli, command: list[str]
) -> None:
    assert cloud.error(*command, code=1).startswith("no broker is running: looked")


def test_a_refusal_is_one_line_and_says_what_was_presented(cloud: Cli, sandbox: Sandbox) -> None:
    line = cloud.error("credential-process", "--role-arn", f"{sandbox.role_arn}x", code=1)

    assert line.startswith(f"role/deployx: role {sandbox.role_arn}x ")
    assert "aud='sts.amazonaws.com'" in line


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_guides_line_writes_keys_that_a_shell_can_source(
    cloud: Cli, sandbox: Sandbox, tmp_path: Path, shell: str
) -> None:
    file = tmp_path / "aws.env"

    done = cloud.run("env", "--static", "--write_env", str(file), "--role_arn", sandbox.role_arn)
    seen = variables_in(shell, f". {file}")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(f"namespace-broker: {file}: keys of {sandbox.role_arn}, which")
    assert seen["AWS_ACCESS_KEY_ID"].startswith("ASIA")
    assert seen["AWS_SECRET_ACCESS_KEY"]
    assert seen["AWS_SESSION_TOKEN"]
    assert seen["AWS_REGION"] == "eu-central-1"
    assert file.stat().st_mode & 0o777 == 0o600


def test_on_failure_no_file_is_written(cloud: Cli, sandbox: Sandbox, tmp_path: Path) -> None:
    file = tmp_path / "aws.env"
    file.write_text("what was there")

    cloud.error(
        "env", "--static", "--output", str(file), "--role-arn", f"{sandbox.role_arn}x", code=1
    )

    assert file.read_text() == "what was there"


def test_without_a_region_it_is_said_and_none_is_written(
    cloud: Cli, sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "aws.env"
    arguments = ("env", "--static", "--output", str(file), "--role-arn", sandbox.role_arn)

    done = cloud.run(*arguments, environ={"AWS_REGION": ""})

    assert done.returncode == 0
    assert done.stderr.startswith("namespace-broker: warning: region: none is set")
    assert done.stderr.count("warning") == 1
    assert "AWS_REGION" not in file.read_text()


def test_check_says_what_would_run(cli: Cli) -> None:
    arn = "arn:aws:iam::123456789012:role/deploy"
    arguments = ("check", "--role-arn", arn, "--region", "eu-west-1", "--imds", "[::1]:80")

    told = json.loads(cli.run(*arguments, "--json").stdout)
    text = cli.run(*arguments).stdout

    assert told["ok"] is True
    assert told["listen"]["imds"] == ["[::1]:80"]
    assert [role["arn"] for role in told["roles"]] == [arn]
    assert "leases" not in told
    assert "deploy (default)" in text
    assert "[::1]:80" in text


RULES = """
[roles.deploy]
arn = "arn:aws:iam::123456789012:role/deploy"
[roles.audit]
arn = "arn:aws:iam::123456789012:role/audit"
[[rules]]
who = { uid = 7, unit = "ci.service" }
roles = ["audit", "deploy"]
default_role = "deploy"
[[rules]]
who = { any_local = true }
roles = []
"""


def test_check_reads_the_rules_aloud(cli: Cli) -> None:
    file = cli.home / "config.toml"
    file.write_text(RULES)

    told = json.loads(cli.run("check", "--config", str(file), "--json").stdout)
    text = cli.run("check", "--config", str(file)).stdout

    assert told["rules"][0] == {
        "name": "rules[1]",
        "who": {"uid": 7, "unit": "ci.service"},
        "roles": ["audit", "deploy"],
        "default_role": "deploy",
        "namespace_tokens": [],
        "id_token_audiences": [],
    }
    assert "rules[1]  uid 7 and unit ci.service  deploy, audit\n" in text
    assert "rules[2]  anybody on this host       nothing\n" in text


def test_check_refuses_a_rule_that_cannot_be_with_its_place(cli: Cli) -> None:
    file = cli.home / "config.toml"
    file.write_text(RULES.replace("any_local = true", 'user = "no-such-user"'))

    line = cli.error("check", "--config", str(file), code=2)

    assert line == (
        "rules[2].who.user: there is no user 'no-such-user' here; create it or name another"
    )


def test_check_says_who_we_are_and_what_is_handed_on(cli: Cli) -> None:
    file = cli.home / "config.toml"
    file.write_text(
        """
        [identities.aws]
        source = "sts"
        workspace = "ws_1"
        region = "eu-west-1"
        [namespace_tokens.aws]
        file = "/run/x/token.json"
        [id_tokens.other]
        audience = "https://example.com"
        identity = "aws"
        """
    )

    told = json.loads(cli.run("check", "--config", str(file), "--json").stdout)
    text = cli.run("check", "--config", str(file)).stdout

    (identity,) = told["identities"]
    assert (identity["name"], identity["source"], identity["workspace"]) == ("aws", "sts", "ws_1")
    assert told["handed_on"] == [
        {"name": "identity/aws", "file": "/run/x/token.json", "http": False},
        {"name": "id-token/other", "file": None, "http": True},
    ]
    assert "ROLE" not in text
    assert "identity/aws    /run/x/token.json  no" in text


def test_check_live_obtains_every_token_too(cloud: Cli) -> None:
    file = cloud.home / "config.toml"
    file.write_text('[id_tokens.other]\naudience = "x"\n')

    done = cloud.run("check", "--config", str(file), "--live", "--json")

    names = [lease["name"] for lease in json.loads(done.stdout)["leases"]]
    assert (done.returncode, names) == (0, ["identity/default", "id-token/other"])


@pytest.mark.parametrize("command", [["credential-process"], ["exec", "--", "true"]])
def test_a_configuration_without_roles_is_none_for_who_wants_credentials(
    cloud: Cli, command: list[str]
) -> None:
    file = cloud.home / "config.toml"
    file.write_text("[namespace_tokens.default]\nhttp = true\n")

    line = cloud.error(*command, code=1, environ={"NAMESPACE_BROKER_CONFIG": str(file)})

    assert line.startswith("no broker is running: looked")


def test_check_live_obtains_every_lease_and_shows_them(cloud: Cli, sandbox: Sandbox) -> None:
    done = cloud.run("check", "--live", "--role-arn", sandbox.role_arn)

    assert (done.returncode, done.stderr) == (0, "")
    leases = done.stdout.partition("RESULT\n")[2].splitlines()
    assert [line.split()[0] for line in leases] == ["identity/default", "role/deploy"]
    assert all("good until 20" in line for line in leases)


def test_check_live_is_exit_code_1_where_one_cannot_be_had(cloud: Cli, sandbox: Sandbox) -> None:
    done = cloud.run("check", "--live", "--json", "--role-arn", f"{sandbox.role_arn}x")

    told = json.loads(done.stdout)
    identity, role = told["leases"]
    assert (done.returncode, told["ok"]) == (1, False)
    assert (identity["name"], identity["ok"]) == ("identity/default", True)
    assert (role["name"], role["ok"], role["expires_at"]) == ("role/deployx", False, None)
    assert role["reason"].startswith(f"role {sandbox.role_arn}x ")


FETCH = """
import os, urllib.request
secret = os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
if os.getuid() != 0:  # root's program may become a user who could not read it
    assert secret == open(os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]).read()
request = urllib.request.Request(
    os.environ["AWS_CONTAINER_CREDENTIALS_FULL_URI"], headers={"Authorization": secret}
)
print(urllib.request.urlopen(request).read().decode())
"""


def test_exec_has_a_broker_of_its_own_where_none_runs(cloud: Cli, sandbox: Sandbox) -> None:
    done = cloud.run("exec", "--role-arn", sandbox.role_arn, "--", sys.executable, "-c", FETCH)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["RoleArn"] == sandbox.role_arn
    assert not list(cloud.home.glob("namespace-broker-*"))


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -KILL $$"], 128 + signal.SIGKILL),
        (["no-such-program"], 127),
        (["/"], 126),
    ],
)
def test_exec_with_a_broker_of_its_own_returns_what_a_shell_would(
    cloud: Cli, sandbox: Sandbox, words: list[str], code: int
) -> None:
    done = cloud.run("exec", "--role-arn", sandbox.role_arn, "--", *words)

    assert done.returncode == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_exec_with_a_broker_of_its_own_passes_signals_on(
    cloud: Cli, sandbox: Sandbox, number: signal.Signals
) -> None:
    name = number.name.removeprefix("SIG")
    program = f"trap 'echo {name}; exit 9' {name}; echo started; while :; do sleep 0.01; done"

    with cloud.started("exec", "--role-arn", sandbox.role_arn, "--", "sh", "-c", program) as it:
        assert it.stdout is not None
        assert it.stdout.readline() == "started\n"
        it.send_signal(number)
        assert it.stdout.readline() == f"{name}\n"
        assert it.wait(timeout=20) == 9


def test_exec_ends_by_a_signal_before_there_is_a_program_to_pass_it_to(
    cloud: Cli, sandbox: Sandbox
) -> None:
    sandbox.fail("AssumeRoleWithWebIdentity", delay_s=60)

    with cloud.started("exec", "--role-arn", sandbox.role_arn, "--", "true") as it:
        while not list(cloud.home.glob("namespace-broker-exec-*")):
            assert it.poll() is None
            time.sleep(0.01)
        it.send_signal(signal.SIGTERM)
        code = it.wait(timeout=20)
    sandbox.heal()

    assert code == 128 + signal.SIGTERM
    assert not list(cloud.home.glob("namespace-broker-exec-*"))


def test_exec_without_credentials_starts_nothing_unless_it_is_to_anyway(
    cloud: Cli, sandbox: Sandbox
) -> None:
    wrong = ("exec", "--role-arn", f"{sandbox.role_arn}x")

    done = cloud.run(*wrong, "--", "echo", "started")
    anyway = cloud.run(*wrong, "--anyway", "--", "echo", "started")

    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("namespace-broker: exec: no credentials: ")
    assert last.endswith("; --anyway starts the program all the same")
    assert (anyway.returncode, anyway.stdout) == (0, "started\n")
    assert "lease.refused" in anyway.stderr


def test_exec_needs_no_short_temporary_directory(cloud: Cli, sandbox: Sandbox) -> None:
    long = cloud.home / ("x" * 100)
    long.mkdir()

    arguments = ("exec", "--role-arn", sandbox.role_arn, "--", sys.executable, "-c", FETCH)
    done = cloud.run(*arguments, environ={"TMPDIR": str(long), "XDG_RUNTIME_DIR": str(long)})

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["RoleArn"] == sandbox.role_arn


WHO_AM_I = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
BOTO3 = [sys.executable, "-I", "-c", WHO_AM_I]
AWS_CLI = [
    *(sys.executable, "-I", str(Path(sys.executable).with_name("aws"))),
    *("sts", "get-caller-identity", "--query", "Arn", "--output", "text"),
]
KEYS = "aws_access_key_id = AKIDWRONG\naws_secret_access_key = wrong\n"


@pytest.mark.parametrize("program", [BOTO3, AWS_CLI], ids=["boto3", "aws"])
@pytest.mark.parametrize(
    ("credentials", "config", "environ"),
    [
        (f"[default]\n{KEYS}", "", {}),
        ("", f"[default]\n{KEYS}", {}),
        ("", "[default]\ncredential_process = /bin/false\n", {}),
        ("", "[default]\nsso_session = mine\nsso_account_id = 123456789012\n", {}),
        (f"[base]\n{KEYS}", "[default]\nrole_arn = arn:x\nsource_profile = base\n", {}),
        (f"[default]\n{KEYS}[other]\n{KEYS}", "[profile other]\n", {"AWS_PROFILE": "other"}),
        (f"[other]\n{KEYS}", "", {"AWS_DEFAULT_PROFILE": "other"}),
        ("", "", {"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/pod"}),
        ("", "", {"AWS_ACCESS_KEY_ID": "AKIDWRONG", "AWS_SECRET_ACCESS_KEY": "wrong"}),
    ],
)
def test_nothing_stands_before_us_in_what_exec_starts(
    cloud: Cli,
    sandbox: Sandbox,
    credentials: str,
    config: str,
    environ: dict[str, str],
    program: list[str],
) -> None:
    (cloud.home / ".aws").mkdir()
    (cloud.home / ".aws/credentials").write_text(credentials)
    (cloud.home / ".aws/config").write_text(config)
    if "AWS_ROLE_ARN" in environ:
        environ |= {"AWS_WEB_IDENTITY_TOKEN_FILE": cloud.environ["NSC_TOKEN_FILE"]}

    arguments = ("exec", "--role-arn", sandbox.role_arn, "--", *program)
    done = cloud.run(*arguments, environ=environ)

    assert done.returncode == 0, done.stderr
    assert ":assumed-role/deploy/" in done.stdout
    assert "namespace-broker: exec: set aside " in done.stderr


def test_exec_leaves_what_the_hosts_broker_keeps_to_that_one(
    cloud: Cli, sandbox: Sandbox, tmp_path: Path
) -> None:
    audit, state, token = tmp_path / "audit.jsonl", tmp_path / "state", tmp_path / "tokens/ci"
    file = cloud.home / "config.toml"
    file.write_text(
        f'state_dir = "{state}"\n'
        f'[roles.deploy]\narn = "{sandbox.role_arn}"\n'
        f'[container.tokens]\nci = "{token}"\n'
        f'[audit]\nto = "{audit}"\n'
        '[[rules]]\nwho = { token = "ci" }\nroles = ["deploy"]\n'
    )

    done = cloud.run("exec", "--config", str(file), "--", sys.executable, "-c", FETCH)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["RoleArn"] == sandbox.role_arn
    assert [path for path in (audit, state, token) if path.exists()] == []
