"""`credential-process`, `env`, `wait`, `status` and `exec` beside a broker that runs."""

import json
import os
import pty
import pwd
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, ClassVar

import pytest

from broker.files.private import write_private
from tests.support.fake_broker import (
    CLIENT,
    CREDENTIALS,
    FORBIDDEN,
    PATIENCE_S,
    READY,
    TOKEN,
    Cli,
    FakeBroker,
    running,
    variables_in,
)

USER = pwd.getpwuid(os.getuid()).pw_name
STARTING = (503, {"ready": False, "leases": [{"name": "role/deploy", "state": "starting"}]})


class TestFinding:
    def test_without_a_broker_the_places_are_named_and_what_to_do(self, cli: Cli) -> None:
        line = cli.error("status", code=1)

        # A host may have the system's directory, which not every user may look into.
        assert line.replace("(not for this user)", "(nothing there)") == (
            f"no broker is running: looked in {cli.runtime_dir} (nothing there),"
            " /run/namespace-broker (nothing there); start one: namespace-broker run --role-arn ARN"
        )

    def test_a_broker_that_was_killed_is_not_running(self, cli: Cli) -> None:
        with running(cli.runtime_dir) as fake:
            pass
        with socket.socket(socket.AF_UNIX) as left_behind:
            fake.socket.unlink(missing_ok=True)
            left_behind.bind(str(fake.socket))

        line = cli.error("status", "--runtime-dir", str(cli.runtime_dir), code=1)

        assert f"looked in {cli.runtime_dir} (ended without cleaning up);" in line

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b'{"control": 3, "roles": []}', b'{"control": "/x"}', b"\xff"]
    )
    def test_a_damaged_file_is_not_running(self, cli: Cli, content: bytes) -> None:
        cli.runtime_dir.mkdir()
        (cli.runtime_dir / "endpoints.json").write_bytes(content)

        line = cli.error("status", "--runtime-dir", str(cli.runtime_dir), code=1)

        assert "(its endpoints.json is damaged)" in line

    def test_the_first_that_runs_is_taken(self, cli: Cli, tmp_path: Path) -> None:
        with running(tmp_path / "named") as named, running(cli.runtime_dir) as own:
            environ = {"NAMESPACE_BROKER_RUNTIME_DIR": str(named.runtime_dir)}
            cli.run("wait", environ=environ)
            cli.run("wait", environ={"NAMESPACE_BROKER_RUNTIME_DIR": str(tmp_path / "none")})
            cli.run("wait", "--runtime-dir", str(own.runtime_dir), environ=environ)

            assert (len(named.asked), len(own.asked)) == (1, 2)

    def test_a_directory_that_was_named_is_the_only_one(self, cli: Cli, fake: FakeBroker) -> None:
        cli.error("wait", "--timeout=0", "--runtime-dir", "/nonexistent", code=1)

        assert fake.asked == []

    @pytest.mark.as_user
    def test_without_a_runtime_directory_of_the_user_it_is_the_one_by_uid(self, cli: Cli) -> None:
        own = cli.home / f"namespace-broker-{os.getuid()}"
        own.mkdir(mode=0o700)
        with running(own):
            found = cli.run("wait", "--timeout=0", environ={"XDG_RUNTIME_DIR": ""})
            own.chmod(0o777)
            line = cli.error("wait", "--timeout=0", code=1, environ={"XDG_RUNTIME_DIR": ""})

        assert found.returncode == 0
        assert f"{own} is open to others (mode 0777)" in line

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
            b"HTTP/1.1 200 OK\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"nonsense\r\n\r\n",
            b"x" * (2 << 20),
        ],
    )
    def test_an_answer_that_is_none_is_one_line(
        self, cli: Cli, fake: FakeBroker, answer: bytes
    ) -> None:
        fake.answers["/v1/credentials"] = answer

        line = cli.error("credential-process", code=1)

        assert line == "control socket: the broker gave no proper answer; try again; see its log"


class TestCredentialProcess:
    def test_the_running_brokers_credentials_are_printed_as_aws_wants_them(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        done = cli.run("credential-process")

        assert json.loads(done.stdout) == {
            "Version": 1,
            "AccessKeyId": CREDENTIALS["AccessKeyId"],
            "SecretAccessKey": CREDENTIALS["SecretAccessKey"],
            "SessionToken": CREDENTIALS["Token"],
            "Expiration": CREDENTIALS["Expiration"],
            "AccountId": "123456789012",
        }
        assert fake.asked == ["/v1/credentials"]

    def test_a_role_is_asked_for_by_name(self, cli: Cli, fake: FakeBroker) -> None:
        cli.run("credential-process", "--role", "a+b=c,d@e")

        assert fake.asked == ["/v1/credentials?role=a%2Bb%3Dc%2Cd%40e"]

    def test_what_the_broker_has_not_got_is_said_with_its_reason(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        message = "role/deploy: sts is down"
        fake.answers["/v1/credentials"] = (404, {"code": "not-ready", "message": message})

        line = cli.error("credential-process", code=1)

        assert line == "credentials: role/deploy: sts is down; see namespace-broker status"

    def test_what_the_caller_may_not_have_is_said(self, cli: Cli, fake: FakeBroker) -> None:
        fake.answers["/v1/credentials"] = (403, FORBIDDEN)

        refused = cli.error("credential-process", "--role", "audit", code=1)
        unknown = cli.error("credential-process", "--role", "nope", code=2)

        assert refused == (
            f"{USER} (uid {os.getuid()}) has no access to role audit; an administrator can run:"
            f" namespace-broker install --allow user:{USER} --role-arn ARN"
        )
        assert unknown == "--role: the broker has no role nope; its roles are deploy, audit"

    def test_a_broker_without_roles_is_told_from_one_that_refuses(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        fake.endpoints(roles=[], default_role=None)
        fake.answers["/v1/credentials"] = fake.answers["/v1/client"] = (403, FORBIDDEN)
        line = "credentials: the broker has no roles, only tokens; name a role in its configuration"

        assert cli.error("credential-process", code=1) == line
        assert cli.error("env", "--role", "deploy", code=1) == line


class TestEnv:
    def test_the_callers_copy_of_the_token_is_replaced_whole(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        copy = cli.runtime_dir / "container.token"
        copy.write_text("an old one, and longer than that which comes now")
        copy.chmod(0o644)
        before = copy.stat().st_ino

        cli.run("env")

        assert copy.read_text() == TOKEN
        assert copy.stat().st_mode & 0o777 == 0o600
        assert copy.stat().st_ino != before
        assert sorted(path.name for path in cli.runtime_dir.iterdir()) == [
            "broker.sock",
            "container.token",
            "endpoints.json",
        ]

    def test_no_token_is_written_where_others_could_swap_it(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        fake.runtime_dir.chmod(0o777)

        line = cli.error("env", code=1)

        assert line.startswith(
            f"XDG_RUNTIME_DIR: {cli.runtime_dir} is open to others (mode 0777), so no token"
        )

    def test_docker_gets_the_same_but_files_of_this_host_and_how_to_run(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        text = cli.run("env", "--for", "docker").stdout
        told = json.loads(cli.run("env", "--for", "json").stdout)

        note, *lines = text.splitlines()
        assert note.startswith("# docker run --network host --env-file ")
        del told["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
        assert dict(line.split("=", 1) for line in lines) == told

    @pytest.mark.parametrize(
        ("arguments", "code", "line"),
        [
            (
                ["--surface", "imds", "--role", "audit"],
                2,
                "--role: audit is not your default role, and instance metadata offers no other;"
                " use --surface container",
            ),
            (
                ["--output", "x"],
                2,
                "--output: needs --static; add --static, or use >",
            ),
            (["--static"], 2, "--static: needs --output FILE; give the file for the keys"),
            (
                ["--role-arn", "arn:aws:iam::123456789012:role/x"],
                2,
                "--role-arn: needs --static: the running broker serves its own roles; add --static,"
                " name a role of the broker with --role, or use exec",
            ),
            (
                ["--role", "nope"],
                2,
                "--role: the broker has no role nope; its roles are deploy, audit",
            ),
        ],
    )
    def test_what_cannot_be_is_said(
        self, cli: Cli, fake: FakeBroker, arguments: list[str], code: int, line: str
    ) -> None:
        if "nope" in arguments:
            fake.answers["/v1/client"] = (403, FORBIDDEN)

        assert cli.error("env", *arguments, code=code) == line

    @pytest.mark.parametrize("surface", ["imds", "container"])
    def test_a_surface_that_is_off_is_said(self, cli: Cli, fake: FakeBroker, surface: str) -> None:
        fake.answers["/v1/client"] = (200, {"container_token": TOKEN, "default_role": "deploy"})

        assert cli.error("env", "--surface", surface, code=1).startswith("--surface: the broker")


class TestEnvForNamespace:
    SPEC = "eyJ2ZXJzaW9uIjoidjEifQ"
    FILE = "/run/x/nsc/token.json"

    @pytest.mark.parametrize("surface", ["container", "imds"])
    def test_what_is_handed_on_is_told_beside_aws(
        self, cli: Cli, fake: FakeBroker, surface: str
    ) -> None:
        namespace = {"token_file": self.FILE, "token_spec": self.SPEC}
        fake.answers["/v1/client"] = (200, CLIENT | {"namespace": namespace})

        told = json.loads(cli.run("env", "--for", "json", "--surface", surface).stdout)

        assert (told["NSC_TOKEN_FILE"], told["NSC_TOKEN_SPEC"]) == (self.FILE, self.SPEC)
        assert told["AWS_REGION"] == "eu-central-1"

    def test_nothing_is_told_where_nothing_is_handed_on(self, cli: Cli, fake: FakeBroker) -> None:
        nothing = {"token_file": None, "token_spec": None}
        fake.answers["/v1/client"] = (200, CLIENT | {"namespace": nothing})

        assert "NSC_" not in cli.run("env").stdout

    def test_a_spec_of_before_does_not_stand_before_the_file(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        namespace = {"token_file": self.FILE, "token_spec": None}
        fake.answers["/v1/client"] = (200, CLIENT | {"namespace": namespace})

        script = cli.run("env").stdout
        seen = variables_in("sh", script, {"NSC_TOKEN_SPEC": "x", "NSC_TOKEN_SPEC_FILE": "/x"})

        assert seen["NSC_TOKEN_FILE"] == self.FILE
        assert not {"NSC_TOKEN_SPEC", "NSC_TOKEN_SPEC_FILE"} & set(seen)

    def test_without_roles_aws_clients_are_left_where_they_are(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        namespace = {"token_file": None, "token_spec": self.SPEC}
        no_roles: dict[str, object] = {"roles": [], "default_role": None, "namespace": namespace}
        fake.answers["/v1/client"] = (200, CLIENT | no_roles)

        text = cli.run("env").stdout

        assert text == f"export NSC_TOKEN_SPEC='{self.SPEC}'\n"
        assert not (cli.runtime_dir / "container.token").exists()

    def test_every_secret_for_github_is_masked(self, cli: Cli, fake: FakeBroker) -> None:
        spec = {"token_file": "/x", "token_spec": "a-secret-%-path"}
        fake.answers["/v1/client"] = (200, CLIENT | {"namespace": spec})

        done = cli.run("env", "--for", "github")
        keys = str(cli.home / "keys")
        written = cli.run("env", "--for", "github", "--static", "--output", keys)

        assert done.stderr.splitlines() == [
            f"::add-mask::{TOKEN}",
            "::add-mask::a-secret-%25-path",
        ]
        assert [line for line in written.stderr.splitlines() if line.startswith("::")] == [
            f"::add-mask::{CREDENTIALS[name]}"
            for name in ("AccessKeyId", "SecretAccessKey", "Token")
        ]


class TestStatic:
    @pytest.mark.parametrize("shell", ["sh", "bash"])
    @pytest.mark.parametrize("flag", ["--output", "--write_env"])
    def test_the_file_gives_a_shell_the_keys(
        self, cli: Cli, fake: FakeBroker, tmp_path: Path, shell: str, flag: str
    ) -> None:
        file = tmp_path / "aws.env"

        done = cli.run("env", "--static", flag, str(file))
        seen = variables_in(shell, f". {file}", {"AWS_PROFILE": "other"})

        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr == (
            f"namespace-broker: {file}: keys of arn:aws:iam::123456789012:role/deploy,"
            " which expire at 2030-01-02T03:04:05Z\n"
        )
        assert seen["AWS_ACCESS_KEY_ID"] == CREDENTIALS["AccessKeyId"]
        assert seen["AWS_SECRET_ACCESS_KEY"] == CREDENTIALS["SecretAccessKey"]
        assert seen["AWS_SESSION_TOKEN"] == CREDENTIALS["Token"]
        assert (seen["AWS_REGION"], seen["AWS_DEFAULT_REGION"]) == ("eu-central-1",) * 2
        assert "AWS_PROFILE" not in seen
        assert "expire at 2030-01-02T03:04:05Z" in file.read_text().splitlines()[0]
        assert file.stat().st_mode & 0o777 == 0o600

    def test_on_failure_what_was_there_stays(
        self, cli: Cli, fake: FakeBroker, tmp_path: Path
    ) -> None:
        file = tmp_path / "aws.env"
        file.write_text("what was there")
        fake.answers["/v1/credentials"] = (404, {"message": "role/deploy: sts is down"})

        cli.error("env", "--static", "--output", str(file), code=1)
        cli.error("env", "--static", "--output", str(tmp_path / "new.env"), code=1)

        assert file.read_text() == "what was there"
        assert not (tmp_path / "new.env").exists()

    def test_a_place_that_cannot_be_written_is_said(self, cli: Cli, fake: FakeBroker) -> None:
        folder = cli.error("env", "--static", "--output", str(cli.home), code=1)
        nowhere = cli.error("env", "--static", "--output", "/nonexistent/aws.env", code=1)

        assert folder.startswith(f"--output: {cli.home} is not a regular file; name a file")
        assert nowhere.startswith("--output: /nonexistent/aws.env cannot be written (No such file")
        assert not list(cli.home.glob("*.new"))

    def test_a_link_or_a_pipe_is_refused_and_what_it_leads_to_is_untouched(
        self, cli: Cli, fake: FakeBroker, tmp_path: Path
    ) -> None:
        link, pipe, file = tmp_path / "link", tmp_path / "pipe", tmp_path / "aws.env"
        link.symlink_to(file)
        os.mkfifo(pipe)

        by_link, by_pipe = (
            cli.error("env", "--static", "--output", str(path), code=1) for path in (link, pipe)
        )

        assert by_link == f"--output: {link} is a link; name the file itself"
        assert by_pipe == f"--output: {pipe} is not a regular file; name a file"
        assert not file.exists()

    def test_a_directory_that_everybody_may_change_is_refused(
        self, cli: Cli, fake: FakeBroker, tmp_path: Path
    ) -> None:
        tmp_path.chmod(0o777)

        line = cli.error("env", "--static", "--output", str(tmp_path / "aws.env"), code=1)

        assert line.startswith(f"--output: {tmp_path} is writable by everybody (mode 0777)")

    @pytest.mark.parametrize("output", ["-", "/dev/stdout"])
    def test_standard_output_is_named_by_a_dash(
        self, cli: Cli, fake: FakeBroker, output: str
    ) -> None:
        done = cli.run("env", "--static", "--for=json", "--output", output)

        assert json.loads(done.stdout)["AWS_SESSION_TOKEN"] == CREDENTIALS["Token"]


class TestWait:
    def test_a_ready_broker_is_not_waited_for(self, cli: Cli, fake: FakeBroker) -> None:
        done = cli.run("wait", "--timeout", "0")

        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert fake.asked == ["/v1/ready"]

    def test_it_asks_until_the_broker_is_ready(self, cli: Cli, fake: FakeBroker) -> None:
        fake.answers["/v1/ready"] = [STARTING, STARTING, (200, READY)]

        done = cli.run("wait", "--role", "deploy")

        assert done.returncode == 0
        assert fake.asked == ["/v1/ready?role=deploy"] * 3

    def test_it_waits_for_a_broker_that_does_not_run_yet(self, cli: Cli) -> None:
        with cli.started("wait") as waiting:
            assert waiting.poll() is None
            with running(cli.runtime_dir):
                assert waiting.wait(timeout=20) == 0

    def test_in_time_it_gives_up_and_says_what_is_not_there(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        fake.answers["/v1/ready"] = STARTING

        for timeout_s in ("0", "0.3"):
            line = cli.error("wait", "--timeout", timeout_s, code=1)

            assert line == (
                "--timeout: the broker is not ready: role/deploy is starting;"
                " see namespace-broker status"
            )

    def test_a_role_that_there_is_not_is_not_waited_for(self, cli: Cli, fake: FakeBroker) -> None:
        fake.answers["/v1/ready"] = (404, {"message": "no role is named nope"})

        line = cli.error("wait", "--role", "nope", code=2)

        assert line == "--role: the broker has no role nope; its roles are deploy, audit"


class TestStatus:
    STATUS = (
        200,
        {
            "version": "1.2",
            "pid": 42,
            "ready": False,
            "region": None,
            "default_role": "deploy",
            "leases": [
                {
                    "name": "role/deploy",
                    "state": "refused",
                    "expires_at": "2099-01-01T00:00:00Z",
                    "renews_at": "2000-01-01T00:00:00Z",
                    "error": "refused",
                    "reason": "the role does\n\x1b[31mnot trust us",
                },
                {
                    "name": "identity/default",
                    "state": "live",
                    "expires_at": None,
                    "renews_at": None,
                    "error": None,
                    "reason": None,
                },
            ],
        },
    )

    def test_it_is_a_table_for_people(self, cli: Cli, fake: FakeBroker) -> None:
        fake.answers["/v1/status"] = self.STATUS

        lines = cli.run("status").stdout.splitlines()
        head, blank, header, role, identity, _, reason = lines

        assert head == "namespace-broker 1.2 (pid 42): not ready, no region"
        assert blank == ""
        assert header.split("  ")[0] == "LEASE"
        assert role.startswith("role/deploy (default)  refused  ")
        assert role.endswith("  now")
        assert reason == "role/deploy: the role does  [31mnot trust us"
        assert identity.split() == ["identity/default", "live", "-", "-"]

    def test_it_is_the_brokers_own_words_for_programs(self, cli: Cli, fake: FakeBroker) -> None:
        fake.answers["/v1/status"] = self.STATUS

        assert json.loads(cli.run("status", "--json").stdout) == self.STATUS[1]

    def test_it_is_not_for_everybody(self, cli: Cli, fake: FakeBroker) -> None:
        fake.answers["/v1/status"] = (403, FORBIDDEN)

        assert f"{USER} (uid {os.getuid()}) has no access; " in cli.error("status", code=1)

    def test_a_long_reason_is_wrapped_and_a_cause_told_once(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        cause = "STS does not trust this identity, " * 5 + "so nothing is served"
        refused = {"state": "refused", "expires_at": None, "renews_at": None, "error": "refused"}
        deep = f"identity/default: id-token/x: identity/default: {cause}"
        leases = [
            refused | {"name": "identity/default", "reason": deep},
            refused | {"name": "role/deploy", "reason": deep},
        ]
        fake.answers["/v1/status"] = (200, self.STATUS[1] | {"leases": leases})

        done = cli.run("status", environ={"COLUMNS": "60"})

        _, _, reasons = done.stdout.split("\n\n")
        assert " ".join(line.strip() for line in reasons.splitlines()) == (
            f"identity/default: {cause} role/deploy: waits for identity/default"
        )
        assert max(map(len, reasons.splitlines())) <= 60

    def test_it_can_be_of_one_role(self, cli: Cli, fake: FakeBroker) -> None:
        fake.answers["/v1/status"] = self.STATUS

        shown = json.loads(cli.run("status", "--role", "deploy", "--json").stdout)
        line = cli.error("status", "--role", "nope", code=2)

        assert [lease["name"] for lease in shown["leases"]] == ["role/deploy"]
        assert line == "--role: the broker has no role nope; its roles are deploy, audit"

    def test_on_a_terminal_watching_has_a_screen_of_its_own_and_colours(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        fake.answers["/v1/status"] = self.STATUS
        terminal, ours = pty.openpty()

        with subprocess.Popen(
            cli.command("status", "--watch"), env=cli.environ, stdout=ours
        ) as watching:
            shown = b""
            while b"\x1b[32mlive\x1b[0m" not in shown:
                shown += os.read(terminal, 65536)
            watching.send_signal(signal.SIGINT)
            watching.wait(timeout=20)
        shown += os.read(terminal, 65536)
        os.close(terminal)
        os.close(ours)

        assert shown.startswith(b"\x1b[?1049h\x1b[H\x1b[J")
        assert shown.endswith(b"\x1b[?1049l")
        assert b"\x1b[3J" not in shown
        assert b"\x1b[31mrefused\x1b[0m" in shown

    def test_watching_draws_until_ctrl_c_and_that_is_its_proper_end(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        fake.answers["/v1/status"] = self.STATUS

        with cli.started("status", "--watch", "--json") as watching:
            assert watching.stdout is not None
            assert watching.stderr is not None
            first, second = watching.stdout.readline(), watching.stdout.readline()
            watching.send_signal(signal.SIGINT)
            code = watching.wait(timeout=20)
            complaints = watching.stderr.read()

        assert json.loads(first) == json.loads(second) == self.STATUS[1]
        assert (code, complaints) == (0, "")

    def test_it_says_who_used_each_role_last_and_which_rules_never_matched(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        use = {"at": "2000-01-01T00:00:00Z", "uid": 7, "unit": "ci.service", "rule": "rules[1]"}
        elsewhere = {"at": None, "uid": None, "address": "172.17.0.2", "rule": "rules[1]"}
        fake.answers["/v1/status"] = (
            200,
            self.STATUS[1]
            | {
                "roles": ["audit", "deploy", "other"],
                "last_used": {"deploy": use | {"user": "ci"}, "audit": elsewhere},
                "rules": [
                    {"name": "rules[1]", "matched": 3, "last_matched_at": "2000-01-01T00:00:00Z"},
                    {"name": "rules[2]", "matched": 0, "last_matched_at": None},
                ],
            },
        )

        _, uses, rules = cli.run("status").stdout.split("\n\n")[-3:]

        header, deploy, audit, other = uses.splitlines()
        assert header.split("  ")[0] == "ROLE"
        assert audit.split() == ["audit", "-", "172.17.0.2", "rules[1]"]  # after the leases' order
        assert deploy.endswith(" ago  ci (uid 7), ci.service  rules[1]")
        assert other.split() == ["other", "never", "-", "-"]
        assert rules.splitlines()[1].split()[:2] == ["rules[1]", "3"]
        assert rules.splitlines()[2].split() == ["rules[2]", "never", "-"]


class TestWho:
    ANSWER: ClassVar[dict[str, Any]] = {
        "caller": {
            "uid": 1001,
            "user": "ci",
            "groups": ["ci", "docker"],
            "pid": 4711,
            "exe": None,
            "unit": "runner.service",
            "elsewhere": False,
        },
        "rule": "rules[2]",
        "roles": ["audit", "deploy"],
        "default_role": "deploy",
        "namespace_tokens": [],
        "id_token_audiences": ["sts.amazonaws.com"],
        "rules": [
            {"name": "rules[1]", "matches": False, "because": "user is ci,\n not alice"},
            {"name": "rules[2]", "matches": True, "because": None},
        ],
    }

    def test_it_tells_the_caller_what_it_would_get_and_why(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        fake.answers["/v1/who"] = (200, self.ANSWER)

        done = cli.run("who", "--pid", "4711")

        assert done.stdout == (
            "uid               1001\n"
            "user              ci\n"
            "groups            ci, docker\n"
            "pid               4711\n"
            "unit              runner.service\n"
            "\n"
            "rule              rules[2]\n"
            "roles             deploy (default), audit\n"
            "Namespace tokens  none\n"
            "ID tokens for     sts.amazonaws.com\n"
            "\n"
            "RULE      MATCHES  BECAUSE\n"
            "rules[1]  no       user is ci,  not alice\n"
            "rules[2]  yes\n"
        )
        assert fake.asked == ["/v1/who?pid=4711"]

    def test_who_gets_nothing_is_told_so(self, cli: Cli, fake: FakeBroker) -> None:
        nothing: dict[str, Any] = {
            "rule": None,
            "roles": [],
            "default_role": None,
            "id_token_audiences": [],
        }
        fake.answers["/v1/who"] = (200, self.ANSWER | nothing)

        done = cli.run("who", "--addr", "fd00::1")

        assert "rule              none: it gets nothing\nroles             none\n" in done.stdout
        assert fake.asked == ["/v1/who?addr=fd00%3A%3A1"]

    def test_it_is_the_brokers_own_words_for_programs(self, cli: Cli, fake: FakeBroker) -> None:
        fake.answers["/v1/who"] = (200, self.ANSWER)

        assert json.loads(cli.run("who", "--uid=1001", "--json").stdout) == self.ANSWER

    @pytest.mark.parametrize(
        ("said", "line"),
        [
            ([], "who: no caller is named; give one of --pid, --uid, --addr"),
            (
                ["--pid=1", "--uid=1"],
                "who: more than one caller is named; give one of --pid, --uid, --addr",
            ),
            (["--pid=-1"], "--pid: is '-1'; give the number of a process"),
            (["--uid=root"], "--uid: is 'root'; give the number of a user, as in: id -u NAME"),
            (["--addr=10.0.0.0/8"], "--addr: is '10.0.0.0/8'; give an IP address"),
        ],
    )
    def test_it_is_about_one_caller(self, cli: Cli, said: list[str], line: str) -> None:
        assert cli.error("who", *said, code=2) == line

    @pytest.mark.parametrize(
        ("answer", "line"),
        [
            (
                (403, FORBIDDEN),
                "who: uid 7 may not have that here; ask as root, or as the user who runs the"
                " broker",
            ),
            (
                (404, {"code": "no-such-process", "message": "there is no process 4711"}),
                "--pid: there is no process 4711; see namespace-broker status",
            ),
        ],
    )
    def test_what_the_broker_does_not_tell_is_said(
        self, cli: Cli, fake: FakeBroker, answer: tuple[int, dict[str, str]], line: str
    ) -> None:
        fake.answers["/v1/who"] = answer

        assert cli.error("who", "--pid", "4711", code=1) == line


class TestExec:
    def test_the_program_sees_what_env_prints(self, cli: Cli, fake: FakeBroker) -> None:
        told = json.loads(cli.run("env", "--for", "json").stdout)

        seen = cli.run("exec", "--", "env").stdout.splitlines()
        if os.getuid() == 0:  # the program may become another user, who could not read the file
            del told["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]

        assert {line for line in seen if line.partition("=")[0] in told} == {
            f"{name}={value}" for name, value in told.items()
        }

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (["true"], 0),
            (["sh", "-c", "exit 7"], 7),
            (["sh", "-c", "kill -TERM $$"], -signal.SIGTERM),
            # Python ignores SIGPIPE; its children must not.
            (["sh", "-c", "kill -PIPE $$"], -signal.SIGPIPE),
        ],
    )
    def test_the_program_takes_our_place(
        self, cli: Cli, fake: FakeBroker, words: list[str], code: int
    ) -> None:
        assert cli.run("exec", "--", *words).returncode == code

    def test_its_words_reach_the_program_as_they_are(self, cli: Cli, fake: FakeBroker) -> None:
        done = cli.run("exec", "--role", "audit", "--", "printf", "%s|", "", "--role", "a b", "--")

        assert done.stdout == "|--role|a b|--|"

    def test_a_program_that_is_not_there_or_cannot_run_is_what_a_shell_says(
        self, cli: Cli, fake: FakeBroker
    ) -> None:
        plain = cli.home / "plain"
        plain.write_text("no program")

        missing = cli.error("exec", "--", "no-such-program", code=127)
        empty = cli.error("exec", "--", "", code=127)
        unrunnable = cli.error("exec", "--", str(plain), code=126)
        folder = cli.error("exec", "--", str(cli.home), code=126)

        assert missing == (
            "exec: 'no-such-program' cannot be run (no such program); is it in PATH?"
        )
        assert empty.startswith("exec: '' cannot be run")
        assert unrunnable.startswith(f"exec: '{plain}' cannot be run (Permission denied)")
        assert folder.startswith(f"exec: '{cli.home}' cannot be run (Permission denied)")


def test_a_draft_that_cannot_be_put_in_place_is_taken_away(tmp_path: Path) -> None:
    taken = tmp_path / "folder"
    taken.mkdir()

    with pytest.raises(IsADirectoryError):
        write_private(str(taken), "text")

    assert list(tmp_path.iterdir()) == [taken]


def test_a_broker_that_hangs_is_not_waited_for(cli: Cli) -> None:
    cli.runtime_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(cli.runtime_dir / "broker.sock"))
        deaf.listen()
        document = {"control": str(cli.runtime_dir / "broker.sock"), "roles": []}
        (cli.runtime_dir / "endpoints.json").write_text(json.dumps(document))

        line = cli.error("wait", "--timeout", "0", code=1)

    assert line == "control socket: the broker does not answer; is it stopped or overloaded?"


def test_no_secret_is_in_the_arguments_of_any_process(cli: Cli, fake: FakeBroker) -> None:
    with cli.started("exec", "--", "sleep", "30") as process:
        path = Path(f"/proc/{process.pid}/cmdline")
        deadline = time.monotonic() + PATIENCE_S
        while not path.read_bytes().startswith(b"sleep") and time.monotonic() < deadline:
            time.sleep(0.005)
        seen = path.read_bytes()

    assert seen == b"sleep\x0030\x00"


def test_debugging_shows_where_an_error_came_from(cli: Cli) -> None:
    done: subprocess.CompletedProcess[str] = cli.run(
        "status", environ={"NAMESPACE_BROKER_DEBUG": "1"}
    )

    assert "Traceback (most recent call last)" in done.stderr
    assert done.returncode == 1
