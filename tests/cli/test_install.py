"""`install` and `uninstall` on the command line.

A problem is one line, and what would be written is shown to anybody.
"""

import getpass
import tomllib
from pathlib import Path

import pytest

from broker.cli.commands import install
from broker.cli.parser import Options
from tests.support.fake_broker import Cli
from tests.support.installer import FakeSystemd, host_in

ARN = "arn:aws:iam::123456789012:role/deploy"
ROLE = ("--role-arn", ARN)


def shown(cli: Cli, *arguments: str) -> dict[str, str]:
    """Return each file that would be written, by its path."""
    done = cli.run("install", *ROLE, *arguments, "--dry-run", environ={"SUDO_USER": "root"})
    assert done.returncode == 0, done.stderr
    sections = done.stdout.split("==> ")[1:]
    return {name: text for name, _, text in (each.partition("\n") for each in sections)}


def config(cli: Cli, *arguments: str) -> dict[str, object]:
    return tomllib.loads(shown(cli, *arguments)["/etc/namespace-broker/config.toml"])


def test_what_would_be_written_is_shown_and_needs_no_root(cli: Cli) -> None:
    files = shown(cli, "--allow", "any-local")

    assert "/etc/systemd/system/namespace-broker.service" in files
    assert "who = { any_local = true }" in files["/etc/namespace-broker/config.toml"]


def test_a_configuration_has_what_the_flags_say(cli: Cli) -> None:
    me = getpass.getuser()

    found = config(
        cli,
        *("--role-arn", f"second.one={ARN}", "--region", "eu-central-1"),
        *("--allow", f"user:{me}", "--allow", f"user:{me}"),
    )

    assert found["region"] == "eu-central-1"
    assert found["roles"] == {"deploy": {"arn": ARN}, "second.one": {"arn": ARN}}
    assert found["rules"] == [{"who": {"user": me}, "roles": ["deploy", "second.one"]}]


def test_who_called_sudo_is_meant_by_default(cli: Cli) -> None:
    me = getpass.getuser()
    environ = {"SUDO_USER": me}

    done = cli.run("install", *ROLE, "--dry-run", environ=environ)

    if me == "root":  # root has no need of sudo, so nobody can be meant
        assert "--allow: is missing" in done.stderr
    else:
        assert f'who = {{ user = "{me}" }}' in done.stdout


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (ROLE, "--allow: is missing; give --allow user:NAME, or --allow any-local"),
        (
            (*ROLE, "--allow", "user:nobody-of-that-name"),
            "--allow: no such user: 'nobody-of-that-name'; create it, or name another",
        ),
        ((*ROLE, "--allow", "alice"), "--allow: is 'alice'; give user:NAME, or any-local"),
        (
            (*ROLE, "--allow", "any-local", "--allow", "user:root"),
            "--allow: is any-local and a user; any-local is every user; give one",
        ),
        (("--allow", "any-local"), "--allow: needs --role-arn; give the role's ARN too"),
        (
            ("--role-arn", "deploy", "--allow", "any-local"),
            "--role-arn: is 'deploy', which is no role's ARN; give arn:aws:iam::ACCOUNT:role/NAME",
        ),
        (
            (*ROLE, "--allow", "any-local", "--region", "mars"),
            "--region: is 'mars', which is no region; give one like eu-central-1",
        ),
        (
            (*ROLE, "--allow", "any-local", "--token-file", "a", "--token-spec", "b"),
            "--token-spec: cannot be given with --token-file; give one of them",
        ),
    ],
)
def test_wrong_use_is_said_in_one_line(cli: Cli, arguments: tuple[str, ...], line: str) -> None:
    assert cli.error("install", *arguments, code=2, environ={"SUDO_USER": "root"}) == line


def test_our_units_commands_are_not_for_people(cli: Cli) -> None:
    shown = cli.run("--help").stdout

    assert "metadata-address" not in shown
    assert "copy-token" not in shown


def test_a_token_is_copied(cli: Cli, tmp_path: Path) -> None:
    source, target = tmp_path / "token.json", tmp_path / "identity" / "token.json"
    source.write_text("{}")

    done = cli.run("copy-token", "--from", str(source), "--to", str(target))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert target.read_text() == "{}"


def test_a_token_that_is_a_link_is_not_copied(cli: Cli, tmp_path: Path) -> None:
    source = tmp_path / "token.json"
    source.symlink_to("/etc/hostname")

    line = cli.error("copy-token", "--from", str(source), "--to", str(tmp_path / "copy"), code=1)

    assert line == f"{source} is a link; name the file itself"


def test_the_addresses_are_systemds_to_ask_for(cli: Cli) -> None:
    assert cli.error("metadata-address", "--add", code=2) == (
        "RUNTIME_DIRECTORY: is not set; let systemd start this"
    )
    line = cli.error("metadata-address", code=2)
    assert line == "metadata-address: needs one of --add and --remove; give one"


def test_without_flags_the_configuration_that_is_there_is_kept(tmp_path: Path) -> None:
    host = host_in(tmp_path, FakeSystemd())

    assert install.desired_of(Options(install.FLAGS, {}), host) is None
