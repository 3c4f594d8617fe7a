"""Rules, the audit and `who`, with the broker as a process and this very user as its caller.

Several real users, units and containers are in tests/root.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.broker_process import (
    ANYWHERE,
    BrokerProcess,
    broker_process,
    get,
    imds_get,
    imds_token,
    until,
)

ROLE_LIST = "/latest/meta-data/iam/security-credentials/"
ME = os.geteuid()
AUDIT_KEYS = {
    *("time", "outcome", "kind", "surface", "role", "rule", "uid", "gid", "user", "pid", "exe"),
    *("unit", "container", "caller_token", "address", "user_agent", "key_id_last4"),
    *("expires_at", "reason"),
}


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as world:
        world.aws.add_role("other", trust_policy=world.guide_trust())
        yield world


def flags(folder: Path, rules: str) -> list[str]:
    """Return what starts a broker with two roles and *rules*, and an audit file."""
    config = folder / "config.toml"
    config.write_text(
        f"""
region = "eu-central-1"
[roles.deploy]
arn = "arn:aws:iam::123456789012:role/deploy"
[roles.other]
arn = "arn:aws:iam::123456789012:role/other"
[audit]
to = "{folder / "audit.jsonl"}"
{rules}
"""
    )
    surfaces = ("--imds", ANYWHERE, "--container", ANYWHERE, "--ops", ANYWHERE)
    places = ("--runtime-dir", str(folder / "run"), "--log-format", "json")
    return ["--config", str(config), *surfaces, *places]


def audited(folder: Path, *, lines: int) -> list[dict[str, Any]]:
    path = folder / "audit.jsonl"
    text = until(
        lambda: path.read_text() if path.read_text().count("\n") >= lines else None, what=str(path)
    )
    return [json.loads(line) for line in text.splitlines()]


def command(broker: BrokerProcess, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", *words, "--runtime-dir", str(broker.runtime_dir)],
        capture_output=True,
        text=True,
        check=False,
    )


def told(broker: BrokerProcess, *words: str) -> Mapping[str, Any]:
    shown = command(broker, *words, "--json")
    assert shown.returncode == 0, shown.stderr
    document: Mapping[str, Any] = json.loads(shown.stdout)
    return document


def test_a_caller_gets_the_role_of_the_first_rule_that_means_it(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    rules = f"""
[[rules]]
who = {{ uid = {ME + 1} }}
roles = ["deploy"]
[[rules]]
who = {{ uid = {ME} }}
roles = ["other", "deploy"]
[[rules]]
who = {{ any_local = true }}
roles = ["deploy"]
"""
    with broker_process(sandbox, tmp_path, *flags(tmp_path, rules), defaults=False) as broker:
        broker.wait_for("daemon.ready")
        imds = broker.endpoints["imds"][0]
        token = imds_token(imds)

        assert imds_get(imds, ROLE_LIST, token=token) == (200, b"other")
        assert imds_get(imds, f"{ROLE_LIST}deploy", token=token)[0] == 200
        explained = told(broker, "who", "--uid", str(ME))
        status = told(broker, "status")

    assert explained["rule"] == "rules[2]"
    assert [rule["matches"] for rule in explained["rules"]] == [False, True, False]
    assert status["last_used"]["deploy"]["uid"] == ME
    assert status["last_used"]["deploy"]["rule"] == "rules[2]"
    assert [rule["matched"] > 0 for rule in status["rules"]] == [False, True, False]


def test_where_there_are_rules_nobody_is_admitted_beside_them(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    rules = f'[[rules]]\nwho = {{ uid = {ME + 1} }}\nroles = ["deploy", "other"]\n'
    with broker_process(sandbox, tmp_path, *flags(tmp_path, rules), defaults=False) as broker:
        broker.wait_for("daemon.ready")
        imds, container = broker.endpoints["imds"][0], broker.endpoints["container"][0]
        token = imds_token(imds)

        assert imds_get(imds, ROLE_LIST, token=token)[0] == 404
        assert imds_get(imds, f"{ROLE_LIST}deploy", token=token)[0] == 401
        # The plain token admits and names nobody; its holder is still this user (C-73).
        assert get(f"{container}/creds", authorization=broker.container_token)[0] == 404
        assert command(broker, "credential-process").returncode == 1
        lines = audited(tmp_path, lines=4)

    assert {line["outcome"] for line in lines} == {"refused"}
    assert {line["uid"] for line in lines} == {ME}


def test_a_token_of_its_own_names_a_caller_on_the_container_endpoint(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    rules = '[[rules]]\nwho = { token = "ci" }\nroles = ["deploy"]\n'
    with broker_process(sandbox, tmp_path, *flags(tmp_path, rules), defaults=False) as broker:
        broker.wait_for("daemon.ready")
        container = broker.endpoints["container"][0]
        file = tmp_path / "run" / "tokens" / "ci"
        old = file.read_text()

        assert get(f"{container}/creds", authorization=old)[0] == 200
        assert get(f"{container}/t/{old}/creds")[0] == 200
        assert get(f"{container}/creds", authorization=broker.container_token)[0] == 404

        file.unlink()  # rotates it
        new = until(lambda: file.exists() and file.read_text(), what="a new token")
        assert new != old
        until(
            lambda: get(f"{container}/creds", authorization=str(new))[0] == 200,
            what="the new token to be taken",
        )
        assert get(f"{container}/creds", authorization=old)[0] == 200
        (first, *_) = audited(tmp_path, lines=1)

    assert (first["caller_token"], first["rule"]) == ("ci", "rules[1]")


def test_each_hand_over_is_one_line_of_the_audit_with_every_key_and_no_secret(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    rules = f"""
[[rules]]
who = {{ uid = {ME} }}
roles = ["deploy"]
[[rules]]
who = {{ uid = {ME + 1} }}
roles = ["other"]
"""
    with broker_process(sandbox, tmp_path, *flags(tmp_path, rules), defaults=False) as broker:
        broker.wait_for("daemon.ready")
        imds = broker.endpoints["imds"][0]
        _, body = imds_get(imds, f"{ROLE_LIST}deploy", token=imds_token(imds))
        get(broker.endpoints["container"][0] + "/creds", authorization="wrong")
        served, refused = audited(tmp_path, lines=2)
        assert broker.stop() == 0

    text = (tmp_path / "audit.jsonl").read_text()
    keys = json.loads(body)
    assert set(served) >= AUDIT_KEYS
    assert (served["outcome"], served["kind"], served["role"]) == ("served", "aws", "deploy")
    assert served["key_id_last4"] == keys["AccessKeyId"][-4:]
    assert served["rule"] == "rules[1]"
    assert (refused["outcome"], refused["reason"]) == ("refused", "token-bad")
    assert not [
        value for value in keys.values() if len(value) > 10 and value in text and ":" not in value
    ]
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o600


def test_the_daemon_keeps_its_memory_to_itself(sandbox: Sandbox, tmp_path: Path) -> None:
    with broker_process(sandbox, tmp_path) as broker:
        broker.wait_for("daemon.ready")
        limits = Path(f"/proc/{broker.process.pid}/limits").read_text()
        owner = Path(f"/proc/{broker.process.pid}/environ").stat().st_uid

    assert "Max core file size        0                    0" in limits
    assert owner == 0


def test_the_audit_goes_on_in_the_new_file_after_sighup(sandbox: Sandbox, tmp_path: Path) -> None:
    rules = f'[[rules]]\nwho = {{ uid = {ME} }}\nroles = ["deploy", "other"]\n'
    with broker_process(sandbox, tmp_path, *flags(tmp_path, rules), defaults=False) as broker:
        broker.wait_for("daemon.ready")
        container = broker.endpoints["container"][0]
        get(f"{container}/creds", authorization=broker.container_token)
        audited(tmp_path, lines=1)
        (tmp_path / "audit.jsonl").rename(tmp_path / "audit.jsonl.1")

        broker.process.send_signal(signal.SIGHUP)
        until((tmp_path / "audit.jsonl").exists, what="the new audit file")
        get(f"{container}/creds", authorization=broker.container_token)

        assert len(audited(tmp_path, lines=1)) == 1
        assert broker.stop() == 0
