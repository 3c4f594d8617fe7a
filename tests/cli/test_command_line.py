"""Parsing a command line, and one line for what is wrong with it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import broker
from broker.cli.commands import COMMANDS, HIDDEN, load
from broker.cli.errors import Misuse
from broker.cli.help import parser_of
from broker.cli.main import guarded
from broker.cli.parser import MANY, SWITCH, Flag, Options, duration, read
from tests.support.fake_broker import Cli, FakeBroker

VALUES = st.sampled_from(["x", "sts", "5", "-1", "nan", "", "a=b", "--", "--x_y", "1h30m"])


def flags_of(name: str) -> tuple[Flag, ...]:
    flags: tuple[Flag, ...] = load(name).FLAGS
    return flags


@given(data=st.data())
def test_a_flag_reads_the_same_in_each_of_its_spellings(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(COMMANDS)))
    flag = data.draw(st.sampled_from(flags_of(name)))
    value = data.draw(VALUES)

    outcomes = [
        outcome_of(name, line)
        for spelling in (flag.name, *flag.aliases)
        for dashed in (f"--{spelling}", f"--{spelling.replace('-', '_')}")
        for line in (
            [[dashed]] if flag.kind == SWITCH else [[dashed, value], [f"{dashed}={value}"]]
        )
    ]

    assert all(outcome == outcomes[0] for outcome in outcomes)


def lines_of(flag: Flag, dashed: str, value: str) -> list[list[str]]:
    return [[dashed]] if flag.kind == SWITCH else [[dashed, value], [f"{dashed}={value}"]]


def outcome_of(name: str, line: list[str]) -> Options | str | None:
    try:
        return read(name, line, flags_of(name), "CMD..." if name == "exec" else "")
    except Misuse as misuse:
        return misuse.line


@pytest.mark.parametrize(
    ("line", "options", "program"),
    [
        (
            ["--role", "deploy", "--", "ls", "--all_of_it"],
            {"role": "deploy"},
            ("ls", "--all_of_it"),
        ),
        (["ls", "--role", "x"], {}, ("ls", "--role", "x")),
        (["--role=-x", "--", "--", "ls"], {"role": "-x"}, ("--", "ls")),
        (["-"], {}, ("-",)),
    ],
)
def test_what_follows_the_flags_of_exec_is_the_program_word_for_word(
    line: list[str], options: dict[str, object], program: tuple[str, ...]
) -> None:
    assert read("exec", line, flags_of("exec"), "CMD...") == Options(
        flags_of("exec"), options, program
    )


def test_the_last_of_a_flag_counts_and_a_repeatable_one_collects() -> None:
    line = ["--role-arn", "a", "--role_arn=b", "--region", "x", "--region=y", "--start-timeout=3"]

    options = read("run", line, flags_of("run"))

    assert options is not None
    assert options.many("role-arn") == ("a", "b")
    assert options.text("region") == "y"
    assert options.seconds("start-timeout") == 3.0


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["envv"], "no such command: envv; did you mean env?"),
        (["logout"], "no such command: logout; see namespace-broker --help"),
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
            "--rol: env has no such flag; did you mean --role?",
        ),
        (["env", "--role"], "--role: needs a value; see namespace-broker env --help"),
        (["env", "--role="], "--role: is empty; give a value"),
        (["env", "--static=yes"], "--static: takes no value; see namespace-broker env --help"),
        (["env", "--surface", "ops"], "--surface: is 'ops'; give one of container, imds"),
        (["wait", "--timeout", "soon"], "--timeout: is 'soon'; give seconds, 0 or more"),
        (["wait", "--timeout", "nan"], "--timeout: is 'nan'; give seconds, 0 or more"),
        (["exec"], "exec: no program to run; give it after --"),
        (["env", "what"], "env: unexpected argument 'what'; see namespace-broker env --help"),
        (
            ["setup", "nosuch"],
            "no such command: setup nosuch; see namespace-broker setup --help",
        ),
        (
            ["setup", "show", "to_asw"],
            "setup show: unexpected argument 'to_asw'; see namespace-broker setup show --help",
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
    assert "commands:" in done.stderr


def test_the_version_is_printed(cli: Cli) -> None:
    assert cli.run("--version").stdout == f"namespace-broker {broker.__version__}\n"


def test_help_lists_every_command_and_needs_none_of_their_libraries(cli: Cli) -> None:
    done = cli.run("--help")

    assert (done.returncode, done.stderr) == (0, "")
    first_words = {name.split()[0] for name in COMMANDS if name not in HIDDEN}
    assert all(f"\n    {word}" in done.stdout for word in first_words)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example_and_every_flag(name: str) -> None:
    text = parser_of(name).format_help()

    description, _, options = text.partition("options:")
    assert f"namespace-broker {name}" in description.partition("\n")[2]
    assert all(f"--{flag.name} " in options for flag in flags_of(name))
    assert max(map(len, text.splitlines())) <= 100


def test_argparse_reads_the_flags_of_a_command_into_the_same_values() -> None:
    line = ["--role-arn", "a", "--role-arn", "b", "--json", "--log-format", "json"]

    by_argparse = vars(parser_of("check").parse_args(line))
    options = read("check", line, flags_of("check"))

    assert options is not None
    for flag in flags_of("check"):
        found = by_argparse[flag.name.replace("-", "_")]
        assert (tuple(found or ()) if flag.kind == MANY else found) == options.values[flag.name]


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["-h"], ["setup", "--help"], ["env", "--help"], ["setup", "show", "to_aws", "-h"]],
)
def test_help_goes_to_stdout(cli: Cli, arguments: list[str]) -> None:
    done = cli.run(*arguments)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: namespace-broker")


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


@pytest.mark.parametrize("arguments", [["wait"], ["credential-process"], ["check"]])
def test_no_other_process_may_read_a_commands_memory(
    cli: Cli, fake: FakeBroker, arguments: list[str]
) -> None:
    program = (
        "import ctypes, sys\n"
        "from broker.cli.main import main\n"
        f"main({arguments!r})\n"
        "print('dumpable', ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], env=cli.environ, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "dumpable 0"


@pytest.mark.parametrize("where", ["PYTHONPATH", "the working directory"])
@pytest.mark.parametrize("name", ["broker", "json", "boto3"])
def test_a_module_of_the_callers_is_not_taken_for_ours(
    cli: Cli, fake: FakeBroker, where: str, name: str
) -> None:
    theirs = cli.home / "theirs"
    theirs.mkdir()
    (theirs / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    path = {"PYTHONPATH": str(theirs)} if where == "PYTHONPATH" else {}
    program = cli.home / "namespace-broker-command"
    program.write_text("import sys\nfrom namespace_broker import main\nsys.exit(main())\n")

    done = subprocess.run(
        [sys.executable, program, "credential-process"],
        env={name: text for name, text in cli.environ.items() if name != "PYTHONPATH"} | path,
        cwd=theirs,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_python_m_takes_no_module_from_the_working_directory(cli: Cli, fake: FakeBroker) -> None:
    (cli.home / "struct.py").write_text("raise SystemExit('the wrong one')")

    done = cli.run("credential-process", cwd=cli.home)

    assert (done.returncode, done.stderr) == (0, "")


def test_on_the_journal_an_error_has_the_priority_of_one(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("wb") as journal:
        place = os.fstat(journal.fileno())
        environ = os.environ | {"JOURNAL_STREAM": f"{place.st_dev}:{place.st_ino}"}
        command = [sys.executable, "-m", "broker", "run", "--config", "/nonexistent.toml"]
        ran = subprocess.run(command, stderr=journal, env=environ, check=False)

    line = (tmp_path / "journal").read_text()
    assert ran.returncode == 2
    assert line.startswith("<3>namespace-broker: ")
    assert line.count("\n") == 1
