"""Reading a command line: both parsers agree, and what is wrong is said in one line."""

import subprocess
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

import broker
from broker.cli import full, plain
from broker.cli.flags import COMMANDS, SWITCH, Command, Flag, duration
from broker.cli.main import guarded
from tests.support.fake_broker import Cli, FakeBroker

VALUES = st.sampled_from(
    ["x", "json", "shell", "imds", "sts", "5", "0.5", "-1", "nan", "", "a=b", "--", "--x", "1h30m"]
)


def said(flag: Flag) -> st.SearchStrategy[list[str]]:
    """Ways of saying one flag, right and wrong."""
    names = st.sampled_from([flag.name, *flag.aliases]).flatmap(
        lambda name: st.sampled_from([f"--{name}", f"--{name.replace('-', '_')}"])
    )
    alone = names.map(lambda name: [name])
    apart = st.builds(lambda name, value: [name, value], names, VALUES)
    joined = st.builds(lambda name, value: [f"{name}={value}"], names, VALUES)
    return alone if flag.kind == SWITCH else apart | joined


def lines(command: Command) -> st.SearchStrategy[tuple[Command, list[str]]]:
    flags = st.lists(st.sampled_from(command.flags).flatmap(said), max_size=4)
    rest = st.lists(st.sampled_from(["--", "ls", "-l", "--role", "--help", "-", ""]), max_size=3)
    return st.builds(
        lambda parts, tail: (command, [word for part in parts for word in part] + tail),
        flags,
        rest | st.just([]),
    )


def by_click(command: Command, arguments: list[str]) -> object:
    """Return what click makes of it: options, or None where it objects or helps."""
    parent = click.Context(full.GROUP, **full.GROUP.context_settings)
    try:
        context = full.click_command(command).make_context(
            command.name, list(arguments), parent=parent
        )
    except (click.UsageError, click.exceptions.Exit):
        return None
    return full.options_of(command, context.params)


@given(line=st.sampled_from(list(COMMANDS.values())).flatmap(lines))
def test_the_quick_parser_reads_what_click_reads_or_leaves_it_to_click(
    line: tuple[Command, list[str]],
) -> None:
    command, arguments = line

    quick = plain.parsed([command.name, *arguments])

    if quick is not None:
        assert quick == (command, by_click(command, arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--role-arn", "a", "--role_arn=b", "--container", "off", "--start-timeout", "3"],
        ["env", "--static", "--write_env", "f", "--role_arn", "a"],
        ["wait", "--timeout", "0"],
        ["exec", "--role", "deploy", "--", "ls", "--all"],
        ["exec", "ls", "--role", "x"],
        ["status", "--json"],
        ["login", "--via", "sts", "--tenant_id", "w", "--aws_region=x", "--ensure", "1h30m"],
    ],
)
def test_what_is_plain_needs_no_click(arguments: list[str]) -> None:
    command = COMMANDS[arguments[0]]

    quick = plain.parsed(arguments)

    assert quick == (command, by_click(command, arguments[1:]))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["envv"], "'envv': is no command; did you mean env?"),
        (["logout"], "'logout': is no command; see namespace-broker --help"),
        (["login"], "--via: is not given; give sts or cognito"),
        (["login", "--via", "oidc"], "--via: is 'oidc'; give one of sts, cognito"),
        (
            ["login", "--via", "sts", "--ensure", "soon"],
            "--ensure: is 'soon'; give a duration, like 15m, 1h30m or 2d",
        ),
        (
            ["login", "--via", "cognito", "--workspace", "w"],
            "--identity-pool: is missing; give its guid, or region:guid",
        ),
        (
            ["login", "--via", "cognito", "--audience", "x"],
            "--audience: has no meaning with cognito; take it away, or use sts",
        ),
        (["--frob"], "--frob: namespace-broker has no such flag; see namespace-broker --help"),
        (
            ["env", "--rol", "x"],
            "--rol: namespace-broker env has no such flag; did you mean --role?",
        ),
        (["env", "--role"], "--role: needs a value; see namespace-broker --help"),
        (["env", "--role="], "--role: is empty; give a value"),
        (["env", "--static=yes"], "--static: takes no value; see namespace-broker --help"),
        (["env", "--for", "fish"], "--for: is 'fish'; give one of shell, github, docker, json"),
        (["wait", "--timeout", "soon"], "--timeout: is 'soon'; give seconds, 0 or more"),
        (["wait", "--timeout", "nan"], "--timeout: is 'nan'; give seconds, 0 or more"),
        (["exec"], "namespace-broker exec: is not told what to run; give it after --"),
        (
            ["env", "what"],
            "namespace-broker env: Got unexpected extra argument (what);"
            " see namespace-broker env --help",
        ),
        (["run"], "--role-arn: is not given, and no file names a role; give --role-arn ARN"),
        (
            ["run", "--role-arn", "deploy"],
            "--role-arn: is 'deploy', which is no role's ARN; give arn:aws:iam::ACCOUNT:role/NAME",
        ),
        (
            ["check", "--config", "/nonexistent"],
            "/nonexistent: cannot be read (No such file or directory); give --config FILE",
        ),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(cli: Cli, arguments: list[str], line: str) -> None:
    assert cli.error(*arguments, code=2) == line


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("15m", 900),
        ("1h30m", 5400),
        ("2d", 172800),
        ("1w", 604800),
        ("0", 0),
        ("0s", 0),
        ("1.5h", 5400),
        (".5m", 30),
        ("100ms", 0.1),
        ("1d12h", 129600),
        ("5\u00b5s", 5e-6),
    ],
)
def test_a_duration_reads_as_nsc_reads_it(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "15", "m", "-15m", "1h 30m", "1.2.3s", "1y", "\u0663m", "infs", "9" * 400 + "h"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each parser says it in its own words
        duration(text)


def test_without_a_command_the_help_is_shown_and_that_is_wrong_use(cli: Cli) -> None:
    done = cli.run()

    assert (done.returncode, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli.run("--version").stdout == f"namespace-broker {broker.__version__}\n"


def test_help_lists_every_command_and_needs_none_of_their_libraries(cli: Cli) -> None:
    done = cli.run("--help")

    assert (done.returncode, done.stderr) == (0, "")
    first_words = {name.split()[0] for name, command in COMMANDS.items() if not command.hidden}
    assert all(f"  {word} " in done.stdout for word in first_words)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_the_help_of_a_command_has_an_example_and_every_flag(command: Command) -> None:
    context = click.Context(full.GROUP, info_name="namespace-broker")
    text = full.click_command(command).get_help(
        click.Context(full.click_command(command), parent=context, info_name=command.name)
    )

    assert f"namespace-broker {command.name}" in text.split("Options:")[0].partition("\n")[2]
    assert all(f"--{flag.name}" in text for flag in command.flags)
    assert max(map(len, text.splitlines())) <= 100


def test_names_of_commands_and_flags_take_either_dash(cli: Cli) -> None:
    line = cli.error("credential_process", "--runtime_dir", "/nonexistent", code=1)

    assert line == (
        "--runtime-dir: no broker is running: looked in /nonexistent (nothing there);"
        " start one: namespace-broker run --role-arn ARN"
    )


def test_a_reader_that_leaves_is_not_complained_about(cli: Cli) -> None:
    with cli.started("check", "--role-arn", "arn:aws:iam::123456789012:role/deploy") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        complaints = process.stderr.read()
        process.wait()

    assert process.returncode == 1
    assert [line for line in complaints.splitlines() if "warning" not in line] == []


def test_a_full_disk_is_one_line(cli: Cli) -> None:
    with Path("/dev/full").open("w") as full_disk:
        done = cli.run(
            "check",
            "--role-arn=arn:aws:iam::123456789012:role/deploy",
            "--region=us-east-1",
            capture_output=False,
            stdout=full_disk,
            stderr=subprocess.PIPE,
        )

    assert done.returncode == 1
    assert done.stderr == (
        "namespace-broker: No space left on device; NAMESPACE_BROKER_DEBUG=1 shows where\n"
    )


@pytest.mark.parametrize("arguments", [["env"], ["exec", "--", "sh", "-c", "echo unheard"]])
def test_it_works_where_every_standard_stream_is_closed(
    cli: Cli, fake: FakeBroker, arguments: list[str]
) -> None:
    closing = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]

    done = subprocess.run([*closing, *cli.command(*arguments)], env=cli.environ, check=False)

    assert done.returncode == 0
    assert fake.asked != []


def test_a_bug_is_one_line_that_says_where_and_carries_no_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def buggy() -> int:
        raise KeyError("a-secret-that-was-looked-up")

    code = guarded(buggy)

    line = capsys.readouterr().err
    assert code == 1
    assert line.startswith("namespace-broker: a bug stopped it (KeyError at test_command_line.py:")
    assert line.count("\n") == 1
    assert "a-secret" not in line


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    assert guarded(interrupted) == 130
    assert capsys.readouterr().err == ""
