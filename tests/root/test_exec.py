"""`exec` as process 1, and for a program that becomes another user."""

import subprocess
from collections.abc import Iterator

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.fake_broker import Cli

LATER = 4242
FETCH = (
    "import json, os, urllib.request\n"
    "assert 'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE' not in os.environ\n"
    "request = urllib.request.Request(os.environ['AWS_CONTAINER_CREDENTIALS_FULL_URI'],\n"
    "    headers={'Authorization': os.environ['AWS_CONTAINER_AUTHORIZATION_TOKEN']})\n"
    "print(os.getuid(), json.load(urllib.request.urlopen(request))['RoleArn'])\n"
)
# A grandchild whose parent ends first; then nobody but process 1 can reap it.
ORPHAN = "(sh -c 'exit 0' & ) ; sleep 0.5; ps -o stat= -A | grep -c '^Z' || true"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as sandbox:
        yield sandbox


@pytest.fixture
def cloud(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Cli:
    home = tmp_path_factory.mktemp("h")
    sandbox.namespace.write_token_file(home / "token.json")
    cli = Cli(home)
    cli.environ |= sandbox.environment()
    cli.environ |= {"NSC_TOKEN_FILE": str(home / "token.json"), "AWS_REGION": "eu-central-1"}
    return cli


def test_a_program_that_becomes_another_user_has_credentials(cloud: Cli, sandbox: Sandbox) -> None:
    becomes = ["setpriv", "--reuid", str(LATER), "--clear-groups", "/usr/bin/python3", "-I", "-c"]

    done = cloud.run("exec", "--role-arn", sandbox.role_arn, "--", *becomes, FETCH)

    assert (done.returncode, done.stdout) == (0, f"{LATER} {sandbox.role_arn}\n"), done.stderr


def test_as_process_1_it_reaps_orphans(cloud: Cli, sandbox: Sandbox) -> None:
    arguments = cloud.command("exec", "--role-arn", sandbox.role_arn, "--", "sh", "-c", ORPHAN)

    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", *arguments],
        env=cloud.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
