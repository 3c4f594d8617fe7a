"""Print the manual page, from the same flags and descriptions as the help.

``python manual.py``, where the broker can be imported.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from broker import __version__
from broker.cli.commands import COMMANDS, HIDDEN, PROGRAM, load
from broker.cli.help import below, description_of, help_of
from broker.cli.parser import SWITCH, Flag

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


def page() -> Iterator[str]:
    """Yield the lines of the page for section 1, in man(7) macros."""
    yield f'.TH {PROGRAM.upper().translate(GLYPHS)} 1 "" "{PROGRAM} {__version__}" "User Commands"'
    yield from (".nh", ".ad l")  # flags and paths are not to be broken
    yield from (".SH NAME", rf"{typeset(PROGRAM)} \- {SUMMARY}")
    yield from (".SH SYNOPSIS", rf".B {typeset(PROGRAM)}", r"\fICOMMAND\fR [\fIFLAGS\fR]")
    yield ".SH DESCRIPTION"
    yield from paragraphs(description_of(""))
    yield ".PP"
    yield typeset("In the names of flags, - and _ are the same; --flag=VALUE is --flag VALUE.")
    yield ".SH COMMANDS"
    for name in places():
        yield from section(name)
    for title, entries in (
        ("EXIT STATUS", EXIT_STATUS),
        ("ENVIRONMENT", ENVIRONMENT),
        ("FILES", FILES),
    ):
        yield f".SH {title}"
        for name, text in entries:
            yield from (".TP", f".B {typeset(name)}", typeset(text))
    yield from (".SH SEE ALSO", ".BR systemctl (1),", ".BR systemd.socket (5)")


def places() -> list[str]:
    """Return every command and group of commands, each group before its own."""
    found: list[str] = []
    for name in COMMANDS:
        words = name.split(" ")
        if name not in HIDDEN:
            found += [" ".join(words[:count]) for count in range(1, len(words) + 1)]
    return list(dict.fromkeys(found))


def section(name: str) -> Iterator[str]:
    runs = getattr(load(name), "RUNS", "") if name in COMMANDS else ""
    command = "" if name in COMMANDS or not below(name) else r" \fICOMMAND\fR"
    follows = rf" \-\- \fI{typeset(runs)}\fR" if runs else ""
    yield f".SS {typeset(name)}"
    yield rf"\fB{typeset(PROGRAM)} {typeset(name)}\fR{command} [\fIFLAGS\fR]{follows}"
    yield ".PP"
    yield from paragraphs(description_of(name))
    for flag in load(name).FLAGS if name in COMMANDS else ():
        yield from (".TP", heading(flag), typeset(help_of(flag)))


def heading(flag: Flag) -> str:
    name = rf"\fB\-\-{typeset(flag.name)}\fR"
    if flag.kind == SWITCH:
        return name
    return rf"{name} \fI{typeset('|'.join(flag.choices) or flag.metavar)}\fR"


def paragraphs(text: str) -> Iterator[str]:
    """Yield *text*'s paragraphs; one with indented lines is an example and keeps its lines."""
    for number, paragraph in enumerate(text.strip("\n").split("\n\n")):
        if number:
            yield ".PP"
        if re.search("^ ", paragraph, re.MULTILINE):
            yield from (".nf", typeset(paragraph), ".fi")
        else:
            yield typeset(paragraph)


def typeset(text: str) -> str:
    """Return *text* as words of the page, none of which the formatter takes for a request."""
    lines = text.translate(GLYPHS).splitlines()
    return "\n".join(rf"\&{line}" if line.startswith((".", r"\(aq")) else line for line in lines)


def manual() -> str:
    return "\n".join(page()) + "\n"


if __name__ == "__main__":
    sys.stdout.write(manual())
