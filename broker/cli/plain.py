"""The quick way to read a command line: what is plainly right, and nothing else.

Everything it does not take (help, mistakes, old spellings) is for `broker.cli.full`, which reads
the same table with click and explains.
"""

from __future__ import annotations

from broker.cli.flags import (
    COMMANDS,
    DURATION,
    MANY,
    SECONDS,
    SWITCH,
    Command,
    Flag,
    Options,
    duration,
    seconds,
)


def parsed(arguments: list[str]) -> tuple[Command, Options] | None:
    """Return the command and what was said to it, or None where it is not plain."""
    command = COMMANDS.get(arguments[0]) if arguments else None
    if command is None:
        return None
    flags = {name: flag for flag in command.flags for name in (flag.name, *flag.aliases)}
    said: dict[str, object] = {}
    rest = arguments[1:]
    while rest and rest[0].startswith("--") and rest[0] != "--":
        name, equals, value = rest.pop(0)[2:].partition("=")
        flag = flags.get(name.replace("_", "-"))
        if flag is None:
            return None
        if flag.kind == SWITCH:
            if equals:
                return None
            said[flag.name] = True
            continue
        if not equals:
            if not rest:
                return None
            value = rest.pop(0)
        try:
            said[flag.name] = read(flag, value, said.get(flag.name))
        except ValueError:
            return None
    if rest[:1] == ["--"]:
        rest = rest[1:]
    elif rest and rest[0].startswith("-"):
        return None
    if bool(rest) != bool(command.words):
        return None
    return command, Options(command, said, tuple(rest))


def read(flag: Flag, text: str, before: object) -> object:
    """Return the flag's value by its kind. *before* is what it was given earlier on the line.

    Raises:
        ValueError: The text is no such value.
    """
    if not text or (flag.choices and text not in flag.choices):
        raise ValueError
    if flag.kind == SECONDS:
        return seconds(text)
    if flag.kind == DURATION:
        return duration(text)
    if flag.kind == MANY:
        return (*before, text) if isinstance(before, tuple) else (text,)
    return text
