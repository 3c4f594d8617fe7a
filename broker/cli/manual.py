"""The manual page, made from the table of commands, so that it says what they say. Pure but for
``python -m broker.cli.manual``, which prints it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator

from broker import __version__
from broker.cli.flags import COMMANDS, DURATION, SECONDS, SWITCH, Command, Flag
from broker.cli.full import FAMILIES, HELP, PROGRAM, places

SUMMARY = "short-lived AWS and Namespace credentials for everybody on this host"

EXIT_STATUS = (
    ("0", "Done."),
    ("1", "It failed; one line on standard error says what, and what to do next."),
    ("2", "Wrong use or configuration."),
    ("3", "setup --dry-run found something to do."),
    ("130", "Interrupted by Ctrl-C."),
)
ENVIRONMENT = (
    ("NAMESPACE_BROKER_CONFIG", "The configuration file."),
    ("NAMESPACE_BROKER_RUNTIME_DIR", "Where commands look for a running broker first."),
    ("NAMESPACE_BROKER_DEBUG", "With 1, a failure also shows where in the program it happened."),
    ("AWS_REGION", "The region, where neither a flag nor the configuration names one."),
    ("NSC_TOKEN_SPEC, NSC_TOKEN_FILE", "This machine's Namespace identity, as for nsc."),
)
FILES = (
    ("/etc/namespace-broker/config.toml", "The configuration, where no other is named."),
    ("/run/namespace-broker/", "The socket of the system's broker, and what ends with it."),
    ("$XDG_RUNTIME_DIR/namespace-broker/", "The same of a user's own broker."),
)

GLYPHS = str.maketrans(
    {
        "\\": r"\e",
        "-": r"\-",
        # What these are typeset as in running text cannot be pasted into a shell.
        "'": r"\(aq",
        "`": r"\(ga",
        "^": r"\(ha",
        "~": r"\(ti",
    }
)


def manual() -> str:
    """Return the page for section 1, in man(7) macros."""
    return "\n".join(page()) + "\n"


def page() -> Iterator[str]:
    yield f'.TH {PROGRAM.upper().translate(GLYPHS)} 1 "" "{PROGRAM} {__version__}" "User Commands"'
    yield from (".nh", ".ad l")  # flags and paths are not to be broken
    yield from (".SH NAME", rf"{typeset(PROGRAM)} \- {SUMMARY}")
    yield from (".SH SYNOPSIS", rf".B {typeset(PROGRAM)}", r"\fICOMMAND\fR [\fIFLAGS\fR]")
    yield ".SH DESCRIPTION"
    yield from paragraphs(HELP)
    yield ".PP"
    yield typeset("In the names of flags, - and _ are the same; --flag=VALUE is --flag VALUE.")
    yield ".SH COMMANDS"
    for place in places():
        yield from of_command(COMMANDS[place]) if place in COMMANDS else of_family(place)
    for title, entries in (
        ("EXIT STATUS", EXIT_STATUS),
        ("ENVIRONMENT", ENVIRONMENT),
        ("FILES", FILES),
    ):
        yield f".SH {title}"
        for name, says in entries:
            yield from (".TP", f".B {typeset(name)}", typeset(says))
    yield from (".SH SEE ALSO", ".BR systemctl (1),", ".BR systemd.socket (5)")


def of_command(command: Command) -> Iterator[str]:
    follows = rf" \-\- \fI{typeset(command.words)}\fR" if command.words else ""
    yield f".SS {typeset(command.name)}"
    yield rf"\fB{typeset(PROGRAM)} {typeset(command.name)}\fR [\fIFLAGS\fR]{follows}"
    yield ".PP"
    yield from paragraphs(importlib.import_module(command.module).DESCRIPTION)
    for flag in command.flags:
        yield from (".TP", heading(flag), typeset(flag.says + unsaid(flag)))


def of_family(name: str) -> Iterator[str]:
    yield f".SS {typeset(name)}"
    yield rf"\fB{typeset(PROGRAM)} {typeset(name)}\fR \fICOMMAND\fR [\fIFLAGS\fR]"
    yield ".PP"
    yield from paragraphs(FAMILIES[name])


def heading(flag: Flag) -> str:
    name = rf"\fB\-\-{typeset(flag.name)}\fR"
    if flag.kind == SWITCH:
        return name
    return rf"{name} \fI{typeset('|'.join(flag.choices) or flag.metavar)}\fR"


def unsaid(flag: Flag) -> str:
    """Return the default, where the table leaves it to whoever shows it, as click does."""
    if flag.default is None or flag.kind == DURATION:
        return ""
    return f" Default: {flag.default:g}." if flag.kind == SECONDS else f" Default: {flag.default}."


def paragraphs(text: str) -> Iterator[str]:
    r"""Yield *text*'s paragraphs; one that begins with a ``\b`` keeps its lines, as in the help."""
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield ".PP"
        if paragraph.startswith("\b\n"):
            yield from (".nf", typeset(paragraph.removeprefix("\b\n")), ".fi")
        else:
            yield typeset(paragraph)


def typeset(text: str) -> str:
    """Return *text* as words of the page, none of which the formatter takes for an order."""
    lines = text.translate(GLYPHS).splitlines()
    return "\n".join(rf"\&{line}" if line.startswith((".", r"\(aq")) else line for line in lines)


if __name__ == "__main__":
    sys.stdout.write(manual())
