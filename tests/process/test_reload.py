"""SIGHUP puts another configuration in force: all of it or nothing, and nobody is cut off by it."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.broker_process import (
    BrokerProcess,
    broker_process,
    get,
    imds_get,
    imds_token,
    until,
)

ROLE_LIST = "/latest/meta-data/iam/security-credentials/"
ME = os.geteuid()
ACCOUNT = "arn:aws:iam::123456789012:role"
LISTENING = """
[imds]
listen = ["127.0.0.1:0"]
[container]
listen = ["127.0.0.1:0"]
[ops]
listen = ["127.0.0.1:0"]
"""
DEPLOY = f'[roles.deploy]\narn = "{ACCOUNT}/deploy"\n'
OTHER = f'[roles.other]\narn = "{ACCOUNT}/other"\n'


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as world:
        world.aws.add_role("other", trust_policy=world.guide_trust())
        yield world


class Reloaded:
    """A broker with a configuration file that the test rewrites."""

    def __init__(self, broker: BrokerProcess, file: Path) -> None:
        self.broker = broker
        self._file = file
        self._told = 0

    def write(self, text: str) -> None:
        self._file.write_text(text)

    def reload(self, text: str | None = None) -> Mapping[str, Any]:
        """Have it read *text*, and return what it says of that."""
        if text is not None:
            self.write(text)
        self._told += 1
        self.broker.process.send_signal(signal.SIGHUP)
        return self.wait()

    def wait(self) -> Mapping[str, Any]:
        """Return what it says of the last reload, once it does."""

        def look() -> dict[str, Any] | None:
            told = [*self.broker.events("config.reloaded"), *self.broker.events("config.refused")]
            assert self.broker.process.poll() is None
            return (
                max(told, key=lambda event: event["timestamp"]) if len(told) >= self._told else None
            )

        return until(look, what="a reload")

    @property
    def imds(self) -> str:
        return str(self.broker.endpoints["imds"][0])

    @property
    def container(self) -> str:
        return str(self.broker.endpoints["container"][0])

    def credentials(self, path: str = "/v1/credentials") -> tuple[int, dict[str, Any]]:
        status, body = get(f"{self.container}{path}", authorization=self.broker.container_token)
        return status, json.loads(body)

    def metrics(self) -> str:
        return get(self.broker.endpoints["ops"][0] + "/metrics")[1].decode()


@contextmanager
def running(sandbox: Sandbox, folder: Path, text: str, *flags: str) -> Iterator[Reloaded]:
    file = folder / "config.toml"
    file.write_text(text)
    places = ("--runtime-dir", str(folder / "run"), "--log-format", "json")
    told = ("--config", str(file), "--region", "eu-central-1", *places, *flags)
    with broker_process(sandbox, folder, *told, defaults=False) as broker:
        broker.wait_for("daemon.ready")
        yield Reloaded(broker, file)


@contextmanager
def connected(url: str) -> Iterator[HTTPConnection]:
    """Yield one connection, kept alive."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    with closing(HTTPConnection(host, int(port), timeout=30)) as connection:
        yield connection


def asked(connection: HTTPConnection, path: str, **headers: str) -> tuple[int, bytes]:
    """Ask on this very connection: nothing here would open another."""
    connection.auto_open = 0 if connection.sock else 1
    connection.request("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    with connection.getresponse() as answer:
        return answer.status, answer.read()


def upstream_calls(sandbox: Sandbox) -> int:
    return len(sandbox.aws.calls) + len(sandbox.namespace.calls)


def test_a_reload_of_the_same_asks_no_cloud_and_closes_no_connection(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with running(sandbox, tmp_path, DEPLOY + LISTENING) as here:
        token, secret, endpoints = imds_token(here.imds), here.broker.container_token, here.imds
        with connected(here.imds) as connection:
            before = asked(connection, ROLE_LIST + "deploy", x_aws_ec2_metadata_token=token)
            calls = upstream_calls(sandbox)

            told = here.reload()

            after = asked(connection, ROLE_LIST + "deploy", x_aws_ec2_metadata_token=token)
        assert told["event"] == "config.reloaded"
        assert before[0] == 200
        assert after == before
        assert upstream_calls(sandbox) == calls
        assert here.broker.container_token == secret
        assert here.imds == endpoints

    assert [told[key] for key in told if key not in ("event", "level", "timestamp")] == [[]] * 6


def test_without_any_file_it_is_a_reload_of_the_same(sandbox: Sandbox, tmp_path: Path) -> None:
    with broker_process(sandbox, tmp_path) as broker:
        broker.wait_for("daemon.ready")

        broker.process.send_signal(signal.SIGHUP)
        told = broker.wait_for("config.reloaded")

        assert told["changed"] == []
        assert broker.ready()["ready"] is True
        assert broker.stop() == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[roles.deploy\n", "config.toml"),
        (f'[roles.deploy]\narn = "{ACCOUNT}/deploy"\nduration_s = 60\n', "roles.deploy.duration_s"),
        (f"{DEPLOY}[guard]\nunknown = 1\n", "guard.unknown"),
        (f'{DEPLOY}[audit]\nto = "/proc/no/such/place"\n', "audit.to"),
        (f'{DEPLOY}[container]\ntoken_file = "/proc/no/such/place"\n', "container"),
        (f'{DEPLOY}[namespace_tokens.default]\nfile = "/proc/no/such"\n', "/proc/no"),
    ],
)
def test_a_bad_configuration_is_refused_with_the_reason_and_the_old_one_stays(
    sandbox: Sandbox, tmp_path: Path, text: str, reason: str
) -> None:
    rule = f'[[rules]]\nwho = {{ uid = {ME + 1} }}\nroles = ["deploy"]\n'
    with running(sandbox, tmp_path, DEPLOY + OTHER + LISTENING) as here:
        calls = upstream_calls(sandbox)
        before = sorted(path.name for path in (tmp_path / "run").iterdir())

        told = here.reload(text + rule)

        assert told["event"] == "config.refused"
        assert reason in told["reason"]
        assert imds_get(here.imds, ROLE_LIST, token=imds_token(here.imds)) == (200, b"deploy")
        assert here.credentials("/role/other")[0] == 200
        assert upstream_calls(sandbox) == calls
        assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before
        assert here.reload(DEPLOY + LISTENING)["event"] == "config.reloaded"


def test_a_port_that_is_taken_leaves_everything_as_it_was(sandbox: Sandbox, tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        running(sandbox, tmp_path, DEPLOY + LISTENING) as here,
    ):
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        endpoints = dict(here.broker.endpoints)
        wanted = LISTENING.replace("[ops]", f'tokens = {{ci = "{tmp_path}/ci"}}\n[ops]')

        told = here.reload(
            OTHER + wanted.replace("[imds]\nlisten = [", f'[imds]\nlisten = ["{address}", ')
        )

        assert told["event"] == "config.refused"
        assert told["reason"].startswith(f"imds.listen: {address} is in use by ")
        assert told["reason"].endswith("; stop it or listen elsewhere")
        assert here.broker.endpoints == endpoints
        assert not (tmp_path / "ci").exists()
        assert imds_get(here.imds, ROLE_LIST, token=imds_token(here.imds)) == (200, b"deploy")
        assert not [call for call in sandbox.aws.calls if "other" in str(call)]


def test_an_address_of_our_own_is_moved_in_two_reloads(sandbox: Sandbox, tmp_path: Path) -> None:
    first, second, third = free_ports(3)

    def listening(*, imds: int, container: int) -> str:
        return (
            f'{DEPLOY}[imds]\nlisten = ["127.0.0.1:{imds}"]\n'
            f'[container]\nlisten = ["127.0.0.1:{container}"]\n[ops]\nlisten = []\n'
        )

    with running(sandbox, tmp_path, listening(imds=first, container=second)) as here:
        swapped = here.reload(listening(imds=second, container=first))
        away = here.reload(listening(imds=first, container=third))
        moved = here.reload(listening(imds=second, container=third))

        assert swapped["event"] == "config.refused"
        assert swapped["reason"].endswith("leave it in one reload and take it in the next")
        assert (away["event"], moved["event"]) == ("config.reloaded", "config.reloaded")
        assert imds_get(here.imds, ROLE_LIST, token=imds_token(here.imds)) == (200, b"deploy")


def test_roles_come_go_and_change_and_the_one_that_did_not_keeps_its_lease(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.aws.add_role("third", trust_policy=sandbox.guide_trust())
    third = f'[roles.third]\narn = "{ACCOUNT}/third"\n'
    with running(sandbox, tmp_path, DEPLOY + OTHER + LISTENING) as here:
        kept, dropped = here.credentials()[1], here.credentials("/role/other")[1]

        told = here.reload(DEPLOY + third + LISTENING)
        assert (told["leases_added"], told["leases_removed"]) == (["role/third"], ["role/other"])
        assert here.credentials()[1] == kept
        assert here.credentials("/role/third")[0] == 200
        assert here.credentials("/role/other")[0] == 404
        assert here.broker.endpoints["roles"] == ["deploy", "third"]
        assert 'lease="role/other"' not in here.metrics()
        assert 'renewals_total{lease="role/deploy",outcome="renewed"} 1.0' in here.metrics()
        assert [lease["name"] for lease in here.broker.ready()["leases"]] == [
            "identity/default",
            "role/deploy",
            "role/third",
        ]

        changed = DEPLOY.replace("role/deploy", "role/other")
        told = here.reload(changed + third + LISTENING)
        assert told["leases_changed"] == ["role/deploy"]
        assert here.credentials()[1]["RoleArn"] == f"{ACCOUNT}/other"
        assert here.credentials()[1]["AccessKeyId"] not in {
            kept["AccessKeyId"],
            dropped["AccessKeyId"],
        }


def test_a_changed_role_that_cannot_be_had_serves_nothing_rather_than_what_it_was(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with running(sandbox, tmp_path, DEPLOY + LISTENING, "--start-timeout", "0") as here:
        until(lambda: here.broker.ready()["ready"], what="the first leases")
        sandbox.fail("AssumeRoleWithWebIdentity", status=503)

        told = here.reload(f"{DEPLOY}duration_s = 1800\n{LISTENING}")

        assert told["leases_changed"] == ["role/deploy"]
        assert here.credentials()[0] == 404
        sandbox.heal()
        until(lambda: here.credentials()[0] == 200, what="the changed role")


def test_what_only_changed_its_name_keeps_its_lease(sandbox: Sandbox, tmp_path: Path) -> None:
    who = f"who = {{ uid = {ME} }}\n"
    statement = '[{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]'
    policy = f"""policy = '{{"Version": "2012-10-17", "Statement": {statement}}}'\n"""
    narrow = f'[[rules]]\n{who}roles = ["deploy"]\n{policy}'
    nobody = f'[[rules]]\nwho = {{ uid = {ME + 1} }}\nroles = ["deploy"]\n'
    with running(sandbox, tmp_path, DEPLOY + LISTENING + narrow) as here:
        before, calls = here.credentials(), upstream_calls(sandbox)
        assert before[0] == 200

        here.reload(DEPLOY + LISTENING + nobody + narrow)
        assert here.credentials() == before

        named = DEPLOY.replace("[roles.deploy]", '[roles.release]\nidentity = "ci"')
        here.reload(
            (named + LISTENING + narrow).replace('roles = ["deploy"]', 'roles = ["release"]')
            + "[identities.ci]\n"
        )
        assert here.credentials() == before
        assert upstream_calls(sandbox) == calls


def test_an_open_connection_is_answered_by_the_new_rules(sandbox: Sandbox, tmp_path: Path) -> None:
    def rule(uid: int, role: str) -> str:
        return f'[[rules]]\nwho = {{ uid = {uid} }}\nroles = ["{role}"]\n'

    roles = DEPLOY + OTHER + LISTENING
    with running(sandbox, tmp_path, roles + rule(ME, "deploy")) as here:
        token = imds_token(here.imds)
        with connected(here.imds) as connection:
            asking = {"x_aws_ec2_metadata_token": token}
            assert asked(connection, ROLE_LIST, **asking) == (200, b"deploy")

            assert here.reload(roles + rule(ME, "other"))["changed"] == ["rules"]
            assert asked(connection, ROLE_LIST, **asking) == (200, b"other")

            here.reload(roles + rule(ME + 1, "other"))
            assert asked(connection, ROLE_LIST, **asking)[0] == 404


@pytest.mark.parametrize("restart", [False, True])
def test_a_token_from_under_rules_opens_nothing_once_the_rules_are_gone(
    sandbox: Sandbox, tmp_path: Path, restart: bool
) -> None:
    roles = DEPLOY + OTHER + LISTENING
    rule = f'[[rules]]\nwho = {{ uid = {ME} }}\nroles = ["other"]\n'
    with running(sandbox, tmp_path, roles + rule) as here:
        copied = here.broker.container_token
        if not restart:
            here.reload(roles)
            assert status_by_token(here, copied) == 401
            assert status_by_token(here, here.broker.container_token) == 200
    if restart:
        with running(sandbox, tmp_path, roles) as here:
            assert status_by_token(here, copied) == 401


def status_by_token(here: Reloaded, token: str) -> int:
    return get(f"{here.broker.endpoints['container'][0]}/creds", authorization=token)[0]


def test_listeners_come_and_go_and_the_others_keep_their_connections(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    two = LISTENING.replace('[imds]\nlisten = ["127.0.0.1:0"]', '[imds]\nlisten = ["{}", "{}"]')
    first, second = (f"127.0.0.1:{port}" for port in free_ports(2))
    one = DEPLOY + two.format(first, first).replace(f'"{first}", ', "")
    with running(sandbox, tmp_path, one) as here, connected(f"http://{first}") as stays:
        assert asked(stays, "/")[0] == 401

        told = here.reload(DEPLOY + two.format(second, first))
        assert told["listeners_opened"] == [f"http://{second}"]
        assert here.broker.endpoints["imds"] == [f"http://{second}", f"http://{first}"]
        with connected(f"http://{second}") as goes:
            assert asked(goes, "/")[0] == 401

            assert here.reload(one)["listeners_closed"] == [f"http://{second}"]
            goes.sock.settimeout(30)
            assert goes.sock.recv(1) == b""

        assert asked(stays, "/")[0] == 401
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(second.rpartition(":")[2])))


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


def test_a_refused_role_is_asked_again_at_once(sandbox: Sandbox, tmp_path: Path) -> None:
    trust = sandbox.aws.trust_of(sandbox.role_arn)
    sandbox.aws.set_trust(sandbox.role_arn, {"Version": "2012-10-17", "Statement": []})
    with running(sandbox, tmp_path, DEPLOY + LISTENING) as here:
        assert here.broker.ready()["ready"] is False
        sandbox.aws.set_trust(sandbox.role_arn, trust)

        here.reload()

        # Long before the half minute after which it would have been asked again.
        until(lambda: here.broker.ready()["ready"], what="the role to be asked for")


def test_the_audit_goes_on_in_the_new_file_even_when_the_configuration_is_refused(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    file, rotated = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    with running(sandbox, tmp_path, f'{DEPLOY}{LISTENING}[audit]\nto = "{file}"\n') as here:
        here.credentials()
        until(lambda: file.read_text(), what="the audit")
        file.rename(rotated)

        assert here.reload("nonsense")["event"] == "config.refused"
        here.credentials()

        until(lambda: file.exists() and file.read_text(), what="the new file")


def test_the_audit_moves_and_no_line_is_lost(sandbox: Sandbox, tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    with running(sandbox, tmp_path, f'{DEPLOY}{LISTENING}[audit]\nto = "{first}"\n') as here:
        here.credentials()
        here.reload(f'{DEPLOY}{LISTENING}[audit]\nto = "{second}"\n')
        here.credentials()
        until(lambda: second.read_text(), what="the second file")
        here.reload(DEPLOY + LISTENING)
        here.credentials()

    assert first.read_text().count("\n") == 1
    assert second.read_text().count("\n") == 1


def test_the_log_the_region_and_the_hosts_follow(sandbox: Sandbox, tmp_path: Path) -> None:
    zone = 'availability_zone = "eu-central-1b"\n'
    quiet = '[log]\nlevel = "error"\n[guard]\nallowed_hosts = ["metadata.example"]\n'
    with running(sandbox, tmp_path, DEPLOY + LISTENING) as here:
        token = imds_token(here.imds)
        path = "/latest/meta-data/placement/availability-zone"
        here.write(zone + DEPLOY + LISTENING + quiet)
        here.broker.process.send_signal(signal.SIGHUP)
        until(
            lambda: imds_get(here.imds, path, token=token) == (200, b"eu-central-1b"),
            what="the new zone",
        )
        asking = {"host": "metadata.example", "x_aws_ec2_metadata_token": token}
        assert get(here.imds + path, **asking)[0] == 200
        here.write("nonsense")
        here.broker.process.send_signal(signal.SIGHUP)
        here.broker.wait_for("config.refused")

    assert here.broker.events("config.reloaded") == []


def test_container_tokens_follow_and_the_one_before_is_good_for_a_while(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    def at(name: str) -> str:
        listening = LISTENING.replace("[ops]", f'token_file = "{tmp_path / name}"\n[ops]')
        return DEPLOY + listening

    with running(sandbox, tmp_path, at("first")) as here:
        here.reload(at("second"))

        first, second = (tmp_path / name for name in ("first", "second"))
        assert first.read_text() != second.read_text()
        for file in (first, second):
            url = f"{here.container}/v1/credentials"
            assert get(url, authorization=file.read_text())[0] == 200
        second.unlink()  # rotated as ever
        until(second.exists, what="the new token")


def test_token_files_come_and_go(sandbox: Sandbox, tmp_path: Path) -> None:
    folder = tmp_path / "handed"
    folder.mkdir(mode=0o700)
    one, two = folder / "one.json", folder / "two.json"

    def to(file: Path) -> str:
        return f'{DEPLOY}{LISTENING}[namespace_tokens.default]\nfile = "{file}"\n'

    with running(sandbox, tmp_path, to(one)) as here:
        content = one.read_bytes()
        here.reload(to(one))
        assert one.read_bytes() == content

        here.reload(to(two))
        assert not one.exists()
        assert two.read_bytes() == content

        folder.chmod(0o750)
        here.reload(to(two) + f'group = "{os.getegid()}"\n')
        assert two.read_bytes() == content
        assert two.stat().st_mode & 0o777 == 0o640

        here.reload(DEPLOY + LISTENING)
        assert list(folder.iterdir()) == []


def test_what_only_a_start_can_change_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    with running(sandbox, tmp_path, DEPLOY + LISTENING) as here:
        elsewhere = tmp_path / "state"
        told = here.reload(f'state_dir = "{elsewhere}"\n{DEPLOY}{LISTENING}')
        until(lambda: here.broker.events("config.warning"), what="the warning")

        assert told["changed"] == []
        assert "state_dir" in here.broker.events("config.warning")[-1]["reason"]
        assert not elsewhere.exists()


def test_we_do_not_become_our_own_client(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "handed").mkdir(mode=0o700)
    file = tmp_path / "handed" / "token.json"
    with running(sandbox, tmp_path, DEPLOY + LISTENING) as here:
        told = here.reload(
            f'{DEPLOY}{LISTENING}[namespace_tokens.default]\nfile = "{file}"\n'
            f'[identities.default]\nsource = "token-file"\ntoken_file = "{file}"\n'
        )

        assert told["event"] == "config.refused"
        assert "identities.default" in told["reason"]
        assert list(file.parent.iterdir()) == []


def test_it_may_be_stopped_in_the_middle_of_a_reload(sandbox: Sandbox, tmp_path: Path) -> None:
    with running(sandbox, tmp_path, DEPLOY + LISTENING, "--start-timeout", "86400") as here:
        sandbox.fail("AssumeRoleWithWebIdentity", status=503)
        here.write(DEPLOY + OTHER + LISTENING)
        here.broker.process.send_signal(signal.SIGHUP)
        here.broker.wait_for("lease.renewal_failed")

        assert here.credentials()[0] == 200
        assert here.broker.stop() == 0


def test_who_asks_for_it_during_the_start_is_heard_after_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with broker_process(sandbox, tmp_path) as broker:
        until(lambda: minds_hangups(broker.process.pid), what="the start to begin")
        broker.process.send_signal(signal.SIGHUP)

        broker.wait_for("config.reloaded")
        assert broker.stop() == 0


def minds_hangups(pid: int) -> bool:
    """Say whether SIGHUP does not end that process any more."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = dict(line.split(":\t", 1) for line in lines if line.startswith("Sig"))
    return bool((int(masks["SigBlk"], 16) | int(masks["SigCgt"], 16)) & 1)


def test_a_configuration_that_hangs_keeps_nobody_from_being_served_or_from_stopping_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"
    with running(sandbox, tmp_path, DEPLOY + LISTENING) as here:
        file.unlink()
        os.mkfifo(file)
        here.broker.process.send_signal(signal.SIGHUP)
        writing = until(lambda: opened_by_a_reader(file), what="the reading to begin")

        assert here.credentials()[0] == 200
        assert here.broker.stop() == 0

        os.close(writing)


def opened_by_a_reader(pipe: Path) -> int | None:
    """Return the pipe's other end, once somebody reads."""
    with suppress(OSError):
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    return None


def test_of_all_who_ask_for_it_during_a_reload_the_last_is_heard(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    with running(sandbox, tmp_path, DEPLOY + LISTENING, "--start-timeout", "86400") as here:
        sandbox.fail("AssumeRoleWithWebIdentity", status=503)
        here.write(DEPLOY + OTHER + LISTENING)
        here.broker.process.send_signal(signal.SIGHUP)
        here.broker.wait_for("lease.renewal_failed")

        for region in ("eu-west-1", "eu-west-2", "eu-west-3"):
            here.write(f"{DEPLOY}{OTHER}{LISTENING}# {region}\n")
            here.broker.process.send_signal(signal.SIGHUP)
        here.write(DEPLOY + LISTENING)
        sandbox.heal()
        here.broker.wait_for("config.reloaded", times=2)

        assert here.broker.endpoints["roles"] == ["deploy"]
        assert len(here.broker.events("config.reloaded")) == 2


def test_reloads_cost_no_request(sandbox: Sandbox, tmp_path: Path) -> None:
    with running(sandbox, tmp_path, DEPLOY + LISTENING) as here:
        url, token = f"{here.container}/v1/credentials", here.broker.container_token
        statuses: list[int] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                statuses.append(get(url, authorization=token)[0])

        asking = threading.Thread(target=ask)
        asking.start()
        for turn in range(10):
            here.reload(DEPLOY + (OTHER if turn % 2 else "") + LISTENING)
        done.set()
        asking.join()

    assert set(statuses) == {200}


def on_a_terminal(sandbox: Sandbox, folder: Path, *words: str) -> tuple[BrokerProcess, int]:
    """Start a broker in the foreground of a terminal of its own; return it and the terminal."""
    sandbox.namespace.write_token_file(folder / "token.json")
    terminal, its_end = pty.openpty()
    log = folder / "log"
    program = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup themselves
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", program, *words, sys.executable, "-m", "broker", "run"),
                *("--role-arn", sandbox.role_arn, "--region", "eu-central-1"),
                *("--container", "127.0.0.1:0", "--ops", "127.0.0.1:0"),
                *("--runtime-dir", str(folder / "run"), "--log-format", "json"),
            ],
            env={
                **{"PATH": os.environ["PATH"], "HOME": str(folder)},
                **{"NSC_TOKEN_FILE": str(folder / "token.json"), **sandbox.environment()},
            },
            cwd=Path(__file__).parents[2],
            stdin=its_end,
            stdout=out,
            stderr=out,
        )
    os.close(its_end)
    return BrokerProcess(process, log=log, runtime_dir=folder / "run"), terminal


def test_a_terminal_that_closes_ends_it_in_good_order(sandbox: Sandbox, tmp_path: Path) -> None:
    broker, terminal = on_a_terminal(sandbox, tmp_path)
    try:
        broker.wait_for("daemon.ready")
        os.close(terminal)

        assert broker.process.wait(30) == 0
        assert broker.events()[-1]["event"] == "daemon.stopping"
    finally:
        broker.process.kill()
        broker.process.wait()


def test_nohup_keeps_it_when_the_terminal_closes(sandbox: Sandbox, tmp_path: Path) -> None:
    broker, terminal = on_a_terminal(sandbox, tmp_path, "nohup")
    try:
        broker.wait_for("daemon.ready")
        os.close(terminal)

        broker.wait_for("config.reloaded")
        assert broker.ready()["ready"] is True
        assert broker.stop() == 0
    finally:
        broker.process.kill()
        broker.process.wait()
