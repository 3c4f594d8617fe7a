"""``aws s3 cp`` up and down, by every way to give a shell credentials."""

import shlex
from pathlib import Path

import pytest

from tests.support.client_sandbox import SURFACES, World
from tests.support.clients import Ran, run
from tests.support.proof import Arrivals


def up_and_down(folder: Path, bucket: str) -> str:
    """Return the commands that copy ``up`` in *folder* to *bucket*, and from there to ``down``."""
    (folder / "up").write_bytes(bytes(range(256)))
    there = f"s3://{bucket}/copied"
    up, down = shlex.quote(str(folder / "up")), shlex.quote(str(folder / "down"))
    return f"aws s3 cp {up} {there} && aws s3 cp {there} {down}"


def assert_copied(ran: Ran, folder: Path, arrivals: Arrivals) -> None:
    assert ran.code == 0, ran.errors
    assert (folder / "down").read_bytes() == (folder / "up").read_bytes()
    assert arrivals.served("PutObject") == arrivals.served("GetObject")


@pytest.mark.parametrize("surface", SURFACES)
def test_a_file_is_copied_by_an_endpoint(
    world: World, arrivals: Arrivals, tmp_path: Path, bucket: str, surface: str
) -> None:
    environ = world.client_environment(surface)

    ran = run("sh", "-c", up_and_down(tmp_path, bucket), environ=environ)

    assert_copied(ran, tmp_path, arrivals)


@pytest.mark.parametrize(("shell", "source"), [("sh", "."), ("bash", "source")])
def test_a_file_is_copied_by_keys_that_a_shell_has_read(
    world: World, arrivals: Arrivals, tmp_path: Path, bucket: str, shell: str, source: str
) -> None:
    keys = tmp_path / "aws.env"
    world.broker.env("--static", "--output", str(keys))

    commands = f"{source} {shlex.quote(str(keys))} && {up_and_down(tmp_path, bucket)}"
    ran = run(shell, "-c", commands, environ=world.bare_environment())

    assert_copied(ran, tmp_path, arrivals)
    assert keys.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_file_is_copied_after_eval_of_what_env_prints(
    world: World, arrivals: Arrivals, tmp_path: Path, bucket: str, shell: str
) -> None:
    exports = world.broker.env()
    # C-86: keys that are no good stand before every endpoint, unless they are taken away.
    environ = world.bare_environment() | {
        "AWS_ACCESS_KEY_ID": "AKIAOLDOLDOLDOLDOLDX",
        "AWS_SECRET_ACCESS_KEY": "old",
        "AWS_PROFILE": "old",
    }

    commands = f"eval {shlex.quote(exports)} && {up_and_down(tmp_path, bucket)}"
    ran = run(shell, "-c", commands, environ=environ)

    assert_copied(ran, tmp_path, arrivals)
