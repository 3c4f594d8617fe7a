"""A broker killed and started again, with and without a state directory, seen by IMDS.

Source: sdk-client-contract C-24; interface, ``--state-dir``.
"""

import http.client
from contextlib import closing
from pathlib import Path

from broker.sandbox import Sandbox
from tests.support.client_broker_process import broker_process
from tests.support.client_sandbox import REGION, namespace_identity

LIST = "/latest/meta-data/iam/security-credentials/"


def asked(address: str, method: str, path: str, **headers: str) -> tuple[int, str]:
    """Return status and body of one request on a connection of its own."""
    with closing(http.client.HTTPConnection(address, timeout=5)) as connection:
        named = {f"X-aws-ec2-metadata-{name.replace('_', '-')}": headers[name] for name in headers}
        connection.request(method, path, headers=named)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def session_token(address: str) -> str:
    status, token = asked(address, "PUT", "/latest/api/token", token_ttl_seconds="21600")
    assert status == 200
    return token


def list_after_a_kill(sandbox: Sandbox, folder: Path, *flags: str) -> tuple[int, str]:
    """Take a session token, kill the broker, start it again in its place; ask with that token."""
    environ = namespace_identity(sandbox)
    always = ("--role-arn", sandbox.role_arn, "--region", REGION, *flags)
    always += ("--container", "off", "--ops", "off")
    with broker_process(*always, "--imds", "127.0.0.1:0", folder=folder, environ=environ) as first:
        address = first.address("imds")
        token = session_token(address)
        assert asked(address, "GET", LIST, token=token) == (200, "deploy")
        first.kill()
    with broker_process(*always, "--imds", address, folder=folder, environ=environ):
        return asked(address, "GET", LIST, token=token)


def test_with_a_state_directory_session_tokens_outlive_a_killed_broker(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    after = list_after_a_kill(sandbox, tmp_path, "--state-dir", str(tmp_path / "state"))

    assert after == (200, "deploy")


def test_without_one_they_end_with_it_and_are_refused_as_unknown(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    status, _ = list_after_a_kill(sandbox, tmp_path)

    assert status == 401
