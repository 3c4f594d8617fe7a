"""The manual page says of every command and flag what the help says."""

import subprocess
import sys

import pytest

from broker import __version__
from broker.cli.flags import COMMANDS, SHOWN, Command
from broker.cli.manual import manual, typeset


def section(command: Command) -> str:
    """Return what the page has under the command's own heading."""
    after = manual().partition(f"\n.SS {typeset(command.name)}\n")[2]
    return after.partition("\n.SS ")[0].partition("\n.SH ")[0]


@pytest.mark.parametrize("command", SHOWN, ids=lambda command: command.name)
def test_every_command_and_flag_is_in_the_manual(command: Command) -> None:
    said = section(command)

    missing = [
        flag.name
        for flag in command.flags
        if rf"\fB\-\-{typeset(flag.name)}\fR" not in said or typeset(flag.says) not in said
    ]

    assert said
    assert missing == []


def test_a_value_that_is_one_of_a_few_words_and_its_default_are_named() -> None:
    said = section(COMMANDS["env"])

    assert r"\fB\-\-for\fR \fIshell|github|docker|json\fR" in said
    assert "Default: shell." in said


def test_what_only_our_units_call_is_not_in_the_manual() -> None:
    hidden = [command.name for command in COMMANDS.values() if command.hidden]

    assert hidden
    assert not [name for name in hidden if typeset(name) in manual()]


def test_examples_can_be_pasted_into_a_shell() -> None:
    assert r'eval "$(namespace\-broker env)"; aws s3 ls' in manual()
    assert typeset("'quoted' `id` ~ ^ \\") == r"\&\(aqquoted\(aq \(gaid\(ga \(ti \(ha \e"


def test_no_line_of_text_is_taken_for_an_order_to_the_formatter() -> None:
    assert typeset(".so /etc/passwd\n'tis") == "\\&.so /etc/passwd\n\\&\\(aqtis"


def test_the_page_is_printed_by_a_module_and_names_the_version() -> None:
    command = [sys.executable, "-m", "broker.cli.manual"]

    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert printed == manual()
    assert f'"namespace-broker {__version__}"' in printed.splitlines()[0]
