"""What TAB offers, in a real bash; and that the other shells' files name the same things."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broker.cli.completion import SHELLS, first_sentence, main
from broker.cli.flags import COMMANDS, SHOWN, SWITCH, Command

# As bash calls it: the words of the line, and which of them the cursor is at the end of.
TAB = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_namespace_broker
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def completion(tmp_path: Path) -> Path:
    path = tmp_path / "completion"
    path.write_text(SHELLS["bash"]())
    return path


def offered(completion: Path, *words: str) -> list[str]:
    """Return what is offered after ``namespace-broker WORDS``, the last of them unfinished."""
    command = ["bash", "--norc", "-c", TAB, "bash", str(completion), "namespace-broker", *words]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=completion.parent, timeout=30
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_the_first_word_is_a_command(completion: Path) -> None:
    first = list(dict.fromkeys(command.name.split(" ")[0] for command in SHOWN))

    assert offered(completion, "") == [*first, "--help", "--version"]
    assert offered(completion, "cre") == ["credential-process"]


@pytest.mark.parametrize("command", SHOWN, ids=lambda command: command.name)
def test_then_come_its_flags(completion: Path, command: Command) -> None:
    flags = [f"--{flag.name}" for flag in command.flags]

    assert offered(completion, *command.name.split(" "), "--") == [*flags, "--help"]
    assert offered(completion, *command.name.replace("-", "_").split(" "), "--h") == ["--help"]


def test_a_command_of_several_words_is_offered_word_by_word(completion: Path) -> None:
    both = ["to-aws", "to-namespace"]

    assert offered(completion, "setu") == ["setup"]
    assert offered(completion, "setup", "") == [
        "to-aws",
        "show",
        "remove",
        "to-namespace",
        "--help",
    ]
    assert offered(completion, "setup", "to-n") == ["to-namespace"]
    assert offered(completion, "setup", "remove", "") == [*both, "--help"]
    assert offered(completion, "setup", "remove", "to-a") == ["to-aws"]


def test_what_is_a_command_and_goes_on_offers_both_until_a_flag_is_said(completion: Path) -> None:
    flags = [*(f"--{flag.name}" for flag in COMMANDS["setup show"].flags), "--help"]

    assert offered(completion, "setup", "show", "") == ["to-aws", "to-namespace", *flags]
    assert offered(completion, "setup", "show", "--account", "1", "") == flags


def test_flags_and_values_are_those_of_the_longest_command_that_was_said(
    completion: Path,
) -> None:
    assert offered(completion, "setup", "show", "--pool") == []
    assert offered(completion, "setup", "show", "to-namespace", "--pool") == ["--pool-name"]
    assert offered(completion, "setup", "to-aws", "--dr") == ["--dry-run"]
    assert offered(completion, "setup", "show", "to-aws", "--dr") == []
    assert offered(completion, "setup", "show", "--via", "") == ["sts", "cognito"]
    assert offered(completion, "setup", "remove", "to-namespace", "--via", "=", "c") == ["cognito"]
    assert offered(completion, "setup", "show", "to-aws", "--via", "c") == []
    assert offered(completion, "setup", "to_aws", "--render", "te") == ["terraform"]


def test_a_family_takes_no_flag_of_its_commands(completion: Path) -> None:
    assert offered(completion, "setup", "--dr") == []
    assert offered(completion, "setup", "remove", "--dr") == []


def test_a_word_that_names_no_command_is_not_gone_on_with(completion: Path) -> None:
    assert offered(completion, "setup", "nonsense", "") == []
    assert offered(completion, "setup", "show", "nonsense", "") == []
    assert offered(completion, "to-aws", "--") == []


@pytest.mark.parametrize(
    "words",
    [
        ("env", "--for", ""),
        ("env", "--for", "="),
        ("env", "--role", "x", "--for", ""),
    ],
    ids=" ".join,
)
def test_a_flag_with_few_values_offers_them(completion: Path, words: tuple[str, ...]) -> None:
    assert offered(completion, *words) == ["shell", "github", "docker", "json"]


@pytest.mark.parametrize(
    "words",
    [
        ("login", "--via", "co"),
        ("login", "--via", "=", "co"),
    ],
    ids=" ".join,
)
def test_a_value_that_is_begun_is_completed(completion: Path, words: tuple[str, ...]) -> None:
    assert offered(completion, *words) == ["cognito"]


def test_files_and_folders_are_completed_where_a_flag_takes_them(completion: Path) -> None:
    (completion.parent / "one.toml").touch()
    (completion.parent / "one.folder").mkdir()

    assert sorted(offered(completion, "run", "--config", "one")) == ["one.folder", "one.toml"]
    assert offered(completion, "run", "--state-dir", "one") == ["one.folder"]
    assert offered(completion, "run", "--state_dir", "one") == ["one.folder"]


def test_an_old_spelling_of_a_flag_is_known(completion: Path) -> None:
    (completion.parent / "token.json").touch()

    assert offered(completion, "env", "--write_env", "tok") == ["token.json"]


def test_nothing_is_offered_for_a_value_that_only_its_giver_knows(completion: Path) -> None:
    assert offered(completion, "run", "--role-arn", "") == []
    assert offered(completion, "nonsense", "") == []


def test_after_two_dashes_comes_another_program_and_its_files(completion: Path) -> None:
    (completion.parent / "one.toml").touch()

    assert "bash" in offered(completion, "exec", "--role", "x", "--", "bas")
    assert offered(completion, "exec", "--", "cat", "one") == ["one.toml"]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (("env", "--for"), ["shell", "github", "docker", "json"]),
        (("setup", "show", "to-namespace", "--via"), ["sts", "cognito"]),
    ],
    ids=["one word", "several words"],
)
def test_a_tab_starts_no_program(
    completion: Path, words: tuple[str, ...], values: list[str]
) -> None:
    environ = {"PATH": str(completion.parent / "nothing-in-here")}
    line = [str(completion), "namespace-broker", *words, ""]
    bash = next(
        path
        for folder in os.environ["PATH"].split(":")
        if (path := Path(folder) / "bash").is_file()
    )

    begun = time.perf_counter()
    done = subprocess.run(
        [str(bash), "--norc", "-c", TAB, "bash", *line],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.split() == values
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_told_of_every_command_and_flag(shell: str) -> None:
    text = SHELLS[shell]()

    missing = [
        (command.name, flag.name)
        for command in SHOWN
        for flag in command.flags
        if f"--{flag.name}{'' if flag.kind == SWITCH else '='}[" not in text
        and f"'__namespace_broker_at {command.name}' -l {flag.name} " not in text
    ]

    assert missing == []
    assert all(f"'{command.name}'" in text for command in SHOWN)


@pytest.mark.parametrize("shell", SHELLS)
def test_what_only_our_units_call_is_offered_nowhere(shell: str) -> None:
    hidden = [command.name for command in COMMANDS.values() if command.hidden]

    assert not [name for name in hidden if name in SHELLS[shell]()]


def test_what_is_said_beside_a_flag_fits_in_a_line() -> None:
    lengths = [len(first_sentence(flag)) for command in SHOWN for flag in command.flags]

    assert max(lengths) <= 100


def test_a_shell_that_is_not_known_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["csh"]) == 2
    assert capsys.readouterr().err == "completion: name one shell: bash, zsh, fish\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_a_file_is_printed_by_a_module(shell: str) -> None:
    command = [sys.executable, "-m", "broker.cli.completion", shell]

    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert printed == SHELLS[shell]()
