"""The command line as argparse parsers, for help, shell completion and the manual page.

They are made from the flags that `broker.cli.parser` reads, so all of them say the same.
"""

import argparse
from typing import Any

from broker.cli.commands import COMMANDS, HIDDEN, PROGRAM, load
from broker.cli.parser import DURATION, MANY, SECONDS, SWITCH, Flag

HELP = f"""Keep AWS credentials fresh for every program on this host.

The broker trades this machine's Namespace identity for AWS credentials, renews them long before
they expire, and serves them the way AWS's own services do, so that unmodified SDKs and tools find
them.

    Start:    {PROGRAM} run --role-arn arn:aws:iam::123456789012:role/deploy
    Use:      eval "$({PROGRAM} env)"; aws s3 ls
    See it:   {PROGRAM} demo
"""

GROUPS = {
    "setup": """Make both clouds trust each other, in one command.

Each command reads what is there, shows a plan, and asks before it changes anything; --dry-run
stops there. What already exists stays as it is.

    Namespace uses AWS:    namespace-broker setup to-aws --role-name deploy
    AWS uses Namespace:    namespace-broker setup to-namespace --via sts --role-name builder
    What is there:         namespace-broker setup show to-aws --role-name deploy
    Remove it:             namespace-broker setup remove to-aws --role-name deploy
""",
    "setup remove": "Remove the trust that a setup created.",
}
"""Descriptions of the words that only begin a command."""

COMPLETED_AS = {"FILE": "file", "DIR": "directory"}
"""What shtab completes a value with, by metavar."""
COMPLETED_PROGRAM = {
    "bash": "_namespace_broker_program",
    "zsh": "{_command_names -e; _files}",
    "fish": "(__fish_complete_subcommand --fcs-skip=2)",
    "preamble": {
        "bash": '_namespace_broker_program() { compgen -c -- "$1"; compgen -f -- "$1"; }',
    },
}
WIDEST = 100


class HelpText(argparse.HelpFormatter):
    """Fill paragraphs, and leave those that are indented as they are: examples."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30)
        self._width = min(self._width, WIDEST)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip("\n").split("\n\n")
        return "\n\n".join(
            paragraph
            if is_example(paragraph)
            else super(HelpText, self)._fill_text(paragraph, width, indent)
            for paragraph in paragraphs
        )


def is_example(paragraph: str) -> bool:
    return any(line.startswith(" ") for line in paragraph.splitlines())


def parser_of(place: str, *, deep: bool = False) -> argparse.ArgumentParser:
    """Return the parser of a command, of a group of them, or of all (the empty *place*).

    Args:
        deep: With the flags of the commands below it, which imports them all.
    """
    parser = argparse.ArgumentParser(f"{PROGRAM} {place}".rstrip(), **settings_of(place))
    fill(parser, place, deep=deep)
    return parser


def whole() -> argparse.ArgumentParser:
    """Return the parser of everything."""
    return parser_of("", deep=True)


def settings_of(place: str) -> dict[str, Any]:
    """Return what argparse takes to make the parser of *place*."""
    runs = getattr(load(place), "RUNS", "") if place in COMMANDS else ""
    command = "COMMAND " if below(place) and place not in COMMANDS else ""
    follows = f" -- {runs}" if runs else ""
    return {
        "usage": f"%(prog)s {command}[FLAGS]{follows}",
        "description": description_of(place),
        "formatter_class": HelpText,
        "allow_abbrev": False,
    }


def description_of(place: str) -> str:
    if place in COMMANDS:
        return str(load(place).DESCRIPTION)
    return GROUPS[place] if place else HELP


def fill(parser: argparse.ArgumentParser, place: str, *, deep: bool) -> None:
    """Add what the command line takes at *place*: flags, and further words."""
    if not place:
        parser.add_argument("--version", action="store_true", help="Print the version.")
    if place in COMMANDS:
        add_flags(parser, place)
    if words := below(place):
        commands = parser.add_subparsers(title="commands", metavar="COMMAND")
        for word in words:
            name = f"{place} {word}".strip()
            settings = settings_of(name) if deep else {}
            child = commands.add_parser(word, help=summary_of(name), **settings)
            if deep:
                fill(child, name, deep=True)


def add_flags(parser: argparse.ArgumentParser, name: str) -> None:
    for flag in load(name).FLAGS:
        action = parser.add_argument(f"--{flag.name}", help=help_of(flag), **kind_of(flag))
        if completed_as := COMPLETED_AS.get(flag.metavar):
            action.complete = completed_as  # type: ignore[attr-defined]  # shtab reads it
    if runs := getattr(load(name), "RUNS", ""):
        program = parser.add_argument("program", nargs=argparse.REMAINDER, metavar=runs)
        program.complete = COMPLETED_PROGRAM  # type: ignore[attr-defined]


def kind_of(flag: Flag) -> dict[str, Any]:
    """Return what argparse takes to read the flag's value."""
    if flag.kind == SWITCH:
        return {"action": "store_true"}
    action = "append" if flag.kind == MANY else "store"
    if flag.choices:
        return {"action": action, "choices": flag.choices, "metavar": "|".join(flag.choices)}
    return {"action": action, "metavar": flag.metavar}


def help_of(flag: Flag) -> str:
    """Return the flag's help with its default, where the help does not say it."""
    if flag.default is None or flag.kind == DURATION:
        return flag.help
    default = f"{flag.default:g}" if flag.kind == SECONDS else flag.default
    return f"{flag.help} Default: {default}."


def below(place: str) -> list[str]:
    """Return the words that may follow *place*, in the order of the commands."""
    above = f"{place} " if place else ""
    shown = [name for name in COMMANDS if name not in HIDDEN]
    further = [name.removeprefix(above) for name in shown if name.startswith(above)]
    return list(dict.fromkeys(name.split(" ")[0] for name in further))


def summary_of(place: str) -> str:
    """Return the one line that says what a command or a group is for."""
    return COMMANDS[place] if place in COMMANDS else GROUPS[place].partition("\n")[0]
