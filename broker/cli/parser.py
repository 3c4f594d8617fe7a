"""Declare a command's flags and read them from a command line.

The commands that run at every SDK start go through here, so nothing is imported: help, completion
and the manual page, which need argparse, are made from the same flags in `broker.cli.help`.
"""

from __future__ import annotations

from broker.cli.commands import COMMANDS, PROGRAM
from broker.cli.errors import Misuse

TEXT, SWITCH, SECONDS, DURATION, MANY = "text", "switch", "seconds", "duration", "many"


class Flag:
    """One flag of a command; ``kind`` says how its value is read."""

    __slots__ = ("aliases", "choices", "default", "help", "kind", "metavar", "name")

    def __init__(
        self,
        name: str,
        help: str,  # noqa: A002 - as in argparse
        *,
        kind: str = TEXT,
        metavar: str = "",
        default: str | float | None = None,
        choices: tuple[str, ...] = (),
        aliases: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.help = help
        self.kind = kind
        self.metavar = metavar
        self.default = default
        self.choices = choices
        self.aliases = aliases

    @property
    def initial(self) -> object:
        """Return the flag's value where it is not given."""
        return {SWITCH: False, MANY: ()}.get(self.kind, self.default)

    def read(self, text: str, before: object = None) -> object:
        """Return the value of *text*; *before* is the value given earlier on the line.

        Raises:
            Misuse: The text is no such value.
        """
        if not text:
            raise Misuse(f"--{self.name}", "is empty", "give a value")
        if self.choices and text not in self.choices:
            one_of = f"give one of {', '.join(self.choices)}"
            raise Misuse(f"--{self.name}", f"is {text!a}", one_of)
        if self.kind == MANY:
            return (*before, text) if isinstance(before, tuple) else (text,)
        if self.kind not in (SECONDS, DURATION):
            return text
        try:
            return seconds(text) if self.kind == SECONDS else duration(text)
        except ValueError:
            kinds = {SECONDS: "seconds, 0 or more", DURATION: "a duration, like 15m, 1h30m or 2d"}
            raise Misuse(f"--{self.name}", f"is {text!a}", f"give {kinds[self.kind]}") from None


class Options:
    """The flags of one command line; one that was not given has its initial value."""

    __slots__ = ("_values", "words")

    def __init__(
        self,
        flags: tuple[Flag, ...],
        given: dict[str, object],
        words: tuple[str, ...] = (),
    ) -> None:
        self._values = {flag.name: flag.initial for flag in flags} | given
        self.words = words

    @property
    def values(self) -> dict[str, object]:
        return dict(self._values)

    def text(self, name: str) -> str | None:
        value = self._values[name]
        return None if value is None else str(value)

    def switch(self, name: str) -> bool:
        return self._values[name] is True

    def many(self, name: str) -> tuple[str, ...]:
        value = self._values[name]
        return tuple(map(str, value)) if isinstance(value, tuple) else ()

    def seconds(self, name: str) -> float | None:
        value = self._values[name]
        return value if isinstance(value, float) else None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Options):
            return NotImplemented
        return self._values == other._values and self.words == other.words

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Options({self._values!r}, words={self.words!r})"


def command_of(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the longest command that *arguments* begin with, and what follows it."""
    for count in range(min(len(arguments), 3), 0, -1):
        name = " ".join(arguments[:count]).replace("_", "-")
        if name in COMMANDS:
            return name, arguments[count:]
    return "", arguments


def read(
    name: str, arguments: list[str], flags: tuple[Flag, ...], program: str = ""
) -> Options | None:
    """Return the options of the command *name*, or None where help is asked for.

    Args:
        program: What the command runs, as in ``CMD...``; empty for one that runs nothing.

    Raises:
        Misuse: A flag is unknown, has no good value, or something is missing or left over.
    """
    see = f"see {PROGRAM} {name} --help"
    known = {f"--{spelling}": flag for flag in flags for spelling in (flag.name, *flag.aliases)}
    given: dict[str, object] = {}
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        spelling, equals, value = rest.pop(0).partition("=")
        spelling = spelling.replace("_", "-")
        if spelling in ("--help", "-h"):
            return None
        if spelling not in known:
            raise no_such_flag(name, spelling, known)
        flag = known[spelling]
        if flag.kind == SWITCH:
            if equals:
                raise Misuse(spelling, "takes no value", see)
            given[flag.name] = True
            continue
        if not equals and not rest:
            raise Misuse(spelling, "needs a value", see)
        given[flag.name] = flag.read(value if equals else rest.pop(0), given.get(flag.name))
    words = tuple(rest[1:] if rest[:1] == ["--"] else rest)
    must_fit(name, words, given, program)
    return Options(flags, given, words)


def must_fit(name: str, words: tuple[str, ...], given: dict[str, object], program: str) -> None:
    """Raise Misuse where a program to run is missing, or words are left over."""
    if program and not words:
        raise Misuse(name, "no program to run", "give it after --")
    if words and not program:
        further = f"{name} {words[0]}".replace("_", "-")
        if further in COMMANDS and given:
            flag = f"--{next(iter(given))}"
            raise Misuse(flag, f"stands before {words[0]}", f"give it after {words[0]}")
        what = f"unexpected argument {words[0]!a}"
        raise Misuse(name, what, f"see {PROGRAM} {name} --help")


def no_such_flag(name: str, flag: str, known: dict[str, Flag]) -> Misuse:
    """Return the complaint about a flag that the command does not have."""
    command = f"{PROGRAM} {name}".rstrip()
    see = f"see {command} --help"
    return Misuse(flag, f"{name or PROGRAM} has no such flag", meant(flag, [*known]) or see)


def meant(text: str, known: list[str]) -> str:
    """Return the question whether a similar word was meant; empty where there is none."""
    import difflib

    close = difflib.get_close_matches(text, known, n=1)
    return f"did you mean {close[0]}?" if close else ""


def seconds(text: str) -> float:
    """Return a number of seconds, 0 or more.

    Raises:
        ValueError: It is none.
    """
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


UNITS_S = {
    "w": 604800.0,
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ns": 1e-9,
}
UNIT_LETTERS = "".join(UNITS_S)


def duration(text: str) -> float:
    """Return the seconds of a duration as nsc's flags take it: Go's syntax, days and weeks too.

    Raises:
        ValueError: It is none.

    Source: namespace-api 11.
    """
    total_s, rest = 0.0, text if text != "0" else "0s"
    if not rest:
        raise ValueError
    while rest:
        after = rest.lstrip("0123456789.")
        number = rest[: len(rest) - len(after)]
        rest = after.lstrip(UNIT_LETTERS)
        unit = after[: len(after) - len(rest)]
        if unit not in UNITS_S:
            raise ValueError
        total_s += float(number) * UNITS_S[unit]
    return seconds(str(total_s))


CONFIG = Flag(
    "config",
    "The configuration file (TOML). Default: $NAMESPACE_BROKER_CONFIG, else"
    " /etc/namespace-broker/config.toml if it is there.",
    metavar="FILE",
)
REGION = Flag(
    "region",
    "The AWS region of STS, also served to clients. Default: $AWS_REGION, $AWS_DEFAULT_REGION.",
    metavar="REGION",
)
RUNTIME_DIR = Flag(
    "runtime-dir",
    "The running broker's directory. Default: the first with a running broker of"
    " $NAMESPACE_BROKER_RUNTIME_DIR, $XDG_RUNTIME_DIR/namespace-broker, /run/namespace-broker.",
    metavar="DIR",
)
ROLE = Flag("role", "The role, by its name. Default: your default role.", metavar="NAME")
ROLE_ARN = Flag(
    "role-arn",
    "Assume this role without using a running broker; NAME=ARN names it.",
    metavar="ARN",
)
JSON = Flag("json", "Print JSON instead of a table.", kind=SWITCH)
