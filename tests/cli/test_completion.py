"""What TAB offers in a real bash, and that the other shells' files name the same things."""

import subprocess
from pathlib import Path

import pytest
import shtab

from broker.cli.commands import COMMANDS, HIDDEN, load
from broker.cli.help import below, whole

SHELLS = ("bash", "zsh", "fish")
SHOWN = [name for name in COMMANDS if name not in HIDDEN]

# As bash calls it: the words of the line, and which of them the cursor is at the end of.
TAB = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_namespace_broker
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def completion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "completion"
    path.write_text(shtab.complete(whole(), shell="bash"))
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
    assert offered(completion, "") == below("")
    assert offered(completion, "cre") == ["credential-process"]


@pytest.mark.parametrize("name", SHOWN)
def test_then_come_its_flags(completion: Path, name: str) -> None:
    flags = [f"--{flag.name}" for flag in load(name).FLAGS]

    assert offered(completion, *name.split(" "), "--") == ["--help", *flags]


def test_a_command_of_several_words_is_offered_word_by_word(completion: Path) -> None:
    both = ["to-aws", "to-namespace"]

    assert offered(completion, "setu") == ["setup"]
    assert offered(completion, "setup", "") == ["to-aws", "show", "remove", "to-namespace"]
    assert offered(completion, "setup", "to-n") == ["to-namespace"]
    assert offered(completion, "setup", "show", "") == both
    assert offered(completion, "setup", "remove", "") == both


def test_flags_and_values_are_those_of_the_whole_command(completion: Path) -> None:
    assert offered(completion, "setup", "show", "to-namespace", "--pool") == ["--pool-name"]
    assert offered(completion, "setup", "to-aws", "--dr") == ["--dry-run"]
    assert offered(completion, "setup", "show", "to-aws", "--dr") == []
    assert offered(completion, "setup", "to-aws", "--render", "te") == ["terraform"]
    assert offered(completion, "setup", "--dr") == []


def test_a_flag_with_few_values_offers_them(completion: Path) -> None:
    assert offered(completion, "env", "--surface", "") == ["container", "imds"]
    assert offered(completion, "login", "--via", "co") == ["cognito"]


def test_files_and_directories_are_completed_where_a_flag_takes_them(completion: Path) -> None:
    (completion.parent / "one.toml").touch()
    (completion.parent / "one.folder").mkdir(exist_ok=True)

    assert sorted(offered(completion, "run", "--config", "one")) == ["one.folder", "one.toml"]
    assert offered(completion, "run", "--state-dir", "one") == ["one.folder"]


def test_exec_completes_programs_and_files(completion: Path) -> None:
    (completion.parent / "one.toml").touch()

    assert "bash" in offered(completion, "exec", "--role", "x", "--", "bas")
    assert "one.toml" in offered(completion, "exec", "--", "cat", "one")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_know_every_command_and_flag(shell: str) -> None:
    text = shtab.complete(whole(), shell=shell)

    missing = [
        (name, flag.name)
        for name in SHOWN
        for flag in load(name).FLAGS
        if f"--{flag.name}" not in text and f"-l {flag.name} " not in text
    ]

    assert missing == []


@pytest.mark.parametrize("shell", SHELLS)
def test_what_only_our_units_call_is_offered_nowhere(shell: str) -> None:
    text = shtab.complete(whole(), shell=shell)

    assert not [name for name in HIDDEN if name in text]
