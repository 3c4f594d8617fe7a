"""The manual page has every command and flag, in the words of the help."""

import runpy
import subprocess
import sys

import pytest

from broker import __version__
from broker.cli.commands import COMMANDS, HIDDEN, load
from broker.cli.commands.setup.workflow import SOMETHING_TO_DO
from broker.cli.help import GROUPS, help_of

PROGRAM = "deploy/debian/manual.py"
PAGE = runpy.run_path(PROGRAM)
manual, typeset = PAGE["manual"], PAGE["typeset"]


def section(name: str) -> str:
    """Return what the page has under the heading of a command, or of a group of them."""
    after = manual().partition(f"\n.SS {typeset(name)}\n")[2]
    return str(after.partition("\n.SS ")[0].partition("\n.SH ")[0])


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in HIDDEN])
def test_every_command_and_flag_is_in_the_manual(name: str) -> None:
    said = section(name)

    missing = [
        flag.name
        for flag in load(name).FLAGS
        if rf"\fB\-\-{typeset(flag.name)}\fR" not in said or typeset(help_of(flag)) not in said
    ]

    assert said
    assert missing == []


def test_a_value_that_is_one_of_a_few_words_and_its_default_are_named() -> None:
    said = section("env")

    assert r"\fB\-\-surface\fR \fIcontainer|imds\fR" in said
    assert "Default: container." in said


def test_a_command_of_several_words_is_shown_as_it_is_typed() -> None:
    usage = section("setup remove to-aws").splitlines()[0]

    assert usage == r"\fBnamespace\-broker setup remove to\-aws\fR [\fIFLAGS\fR]"


def test_a_group_says_what_its_commands_have_in_common_and_stands_before_them() -> None:
    headings = [
        line.removeprefix(".SS ") for line in manual().splitlines() if line.startswith(".SS setup")
    ]

    assert len(headings) == len(set(headings))
    assert headings[:2] == ["setup", r"setup to\-aws"]
    assert headings.index("setup remove") + 1 == headings.index(r"setup remove to\-aws")
    usage, *text = section("setup").splitlines()
    assert usage == r"\fBnamespace\-broker setup\fR \fICOMMAND\fR [\fIFLAGS\fR]"
    assert "Make both clouds trust each other, in one command." in text
    assert typeset(GROUPS["setup remove"]) in section("setup remove")


def test_what_a_dry_run_leaves_with_is_among_the_exit_statuses() -> None:
    statuses = manual().partition("\n.SH EXIT STATUS\n")[2].partition("\n.SH ")[0]

    said = f".B {SOMETHING_TO_DO}\n" + typeset("setup --dry-run found something to do.")
    assert said in statuses


def test_what_only_our_units_call_is_not_in_the_manual() -> None:
    assert not [name for name in HIDDEN if typeset(name) in manual()]


def test_examples_can_be_pasted_into_a_shell() -> None:
    assert r'eval "$(namespace\-broker env)"; aws s3 ls' in manual()
    assert typeset("'quoted' `id` ~ ^ \\") == r"\&\(aqquoted\(aq \(gaid\(ga \(ti \(ha \e"


def test_no_line_of_text_is_taken_for_an_order_to_the_formatter() -> None:
    assert typeset(".so /etc/passwd\n'tis") == "\\&.so /etc/passwd\n\\&\\(aqtis"


def test_the_page_is_printed_by_a_module_and_names_the_version() -> None:
    command = [sys.executable, PROGRAM]

    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert printed == manual()
    assert f'"namespace-broker {__version__}"' in printed.splitlines()[0]
