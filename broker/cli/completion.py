"""Completion for bash, zsh and fish, made from the table of commands: static, so that a TAB starts
no Python. ``python -m broker.cli.completion SHELL`` prints one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from broker.cli.flags import COMMANDS, MANY, SHOWN, SWITCH, Command, Flag
from broker.cli.full import PROGRAM, places, summary_of

FILES, FOLDERS = "FILE", "DIR"
"""The two words for a value that shells can complete by themselves."""

PROGRAM_FOLLOWS = "CMD..."
"""What a command says of itself that runs another."""

ALONE = {"--help": "Say how it is used.", "--version": "Print the version."}
MADE = f"completion for {PROGRAM}; made from the program's own table of commands, do not edit."


# bash: one case over what stands before, then words.

BASH = """\
# bash @MADE@
_namespace_broker() {
    local cur=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD - 1]}
    local place= further next= words= i
    COMPREPLY=()
    # bash takes the = of --flag=VALUE for a word of its own.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $flag == = ]]; then
        flag=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        further=${place:+$place }${COMP_WORDS[i]//_/-}
        case $further in
        @PLACES@)
            place=$further
            ;;
        *) break ;;
        esac
    done
    case $place in
@OTHERS@)
        for ((; i < COMP_CWORD; i++)); do
            if [[ ${COMP_WORDS[i]} == -- ]]; then
                if declare -F _command_offset >/dev/null; then
                    _command_offset $((i + 1))
                elif ((i + 1 == COMP_CWORD)); then
                    mapfile -t COMPREPLY < <(compgen -c -- "$cur")
                else
                    _namespace_broker_paths -f
                fi
                return
            fi
        done
        ;;
    esac
    if [[ $flag == --* ]]; then
        case "$place ${flag//_/-}" in
@VALUES@
        esac
    fi
    case $place in
@WORDS@
    esac
    if ((i == COMP_CWORD)); then
        words="$next $words"
    elif [[ -n $next && ${COMP_WORDS[i]} != -* ]]; then
        return
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
_namespace_broker_paths() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}
complete -F _namespace_broker namespace-broker
"""


def bash() -> str:
    return filled(
        BASH,
        PLACES="|".join(map(quoted, places())),
        OTHERS="    " + "|".join(command.name for command in SHOWN if runs_another(command)),
        VALUES="\n".join(bash_values()),
        WORDS="\n".join(map(bash_words, ["", *places()])),
    )


def bash_words(place: str) -> str:
    flags = [*(f"--{flag.name}" for flag in flags_of(place)), *alone(place)]
    follows = f"next={quoted(' '.join(following(place)))} " if following(place) else ""
    return f"    {quoted(place)}) {follows}words={quoted(' '.join(flags))} ;;"


def bash_values() -> Iterator[str]:
    """Yield what to do after each flag that takes a value; the same thing in one line."""
    after: dict[str, list[str]] = {}
    for command, flag in taking_values():
        if flag.choices:
            act = f"mapfile -t COMPREPLY < <(compgen -W '{' '.join(flag.choices)}' -- \"$cur\")"
        elif flag.metavar in (FILES, FOLDERS):
            act = f"_namespace_broker_paths {'-f' if flag.metavar == FILES else '-d'}"
        else:
            act = ":"
        names = (flag.name, *flag.aliases)
        after.setdefault(act, []).extend(f"'{command.name} --{name}'" for name in names)
    for act, cases in after.items():
        yield f"        {' | '.join(cases)})"
        yield f"            {act}"
        yield "            return"
        yield "            ;;"


# zsh: _arguments knows it all, given one line for each flag.

ZSH = """\
#compdef namespace-broker
# zsh @MADE@
_namespace-broker() {
    local place further
    local -a next flags
    integer nothing=1
    while ((CURRENT > 2)); do
        further=${place:+$place }${words[2]//_/-}
        case $further in
        @PLACES@)
            place=$further
            ;;
        *) break ;;
        esac
        shift words
        ((CURRENT--))
    done
    case $place in
@CASES@
    esac
    if (($#next)); then
        if ((CURRENT == 2)); then
            _describe -t commands command next && nothing=0
        elif [[ $words[2] != -* ]]; then
            return 1
        fi
    fi
    _arguments -S : $flags && nothing=0
    return nothing
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _namespace-broker "$@"
else
    compdef _namespace-broker namespace-broker
fi
"""


def zsh() -> str:
    return filled(
        ZSH,
        PLACES="|".join(map(quoted, places())),
        CASES="\n".join(map(zsh_case, ["", *places()])),
    )


def zsh_case(place: str) -> str:
    follows = [f"{word}:{summary_of(below(place, word))}" for word in following(place)]
    flags = [
        *map(zsh_flag, flags_of(place)),
        *(f"{flag}[{says}]" for flag, says in alone(place).items()),
    ]
    if place in COMMANDS and runs_another(COMMANDS[place]):
        flags.append("*:::command: _normal")
    lines = [f"    {quoted(place)})"]
    for name, entries in (("next", follows), ("flags", flags)):
        if entries:
            lines += [
                f"        {name}=(",
                *(f"            {quoted(entry)}" for entry in entries),
                "        )",
            ]
    return "\n".join([*lines, "        ;;"])


def zsh_flag(flag: Flag) -> str:
    """Return it as _arguments reads it: ``--name=[says]:what:how to complete``."""
    says = first_sentence(flag).replace("\\", "\\\\")
    for special in "[]:":
        says = says.replace(special, f"\\{special}")
    if flag.kind == SWITCH:
        return f"--{flag.name}[{says}]"
    many = "*" if flag.kind == MANY else ""
    how = {FILES: "_files", FOLDERS: "_files -/"}.get(flag.metavar, " ")
    if flag.choices:
        how = f"({' '.join(flag.choices)})"
    return f"{many}--{flag.name}=[{says}]:{flag.metavar or flag.name}:{how}"


# fish: one line for each thing that can be said.

FISH = """\
# fish @MADE@
# Prints the command that the line has come to, then what else was said, in a line each.
function __namespace_broker_line
    set -l place
    set -l said (commandline -opc)
    set -e said[1]
    while set -q said[1]
        set -l further (string join -- ' ' $place (string replace -a -- _ - $said[1]))
        switch $further
            case @PLACES@
                set place $further
            case '*'
                break
        end
        set -e said[1]
    end
    printf '%s\\n' "$place" $said
end
function __namespace_broker_at
    set -l line (__namespace_broker_line)
    test "$argv" = "$line[1]"
end
function __namespace_broker_just_after
    set -l line (__namespace_broker_line)
    test "$argv" = "$line[1]" -a (count $line) = 1
end
@LINES@
"""


def fish() -> str:
    return filled(FISH, PLACES=" ".join(map(quoted, places())), LINES="\n".join(fish_lines()))


def fish_lines() -> Iterator[str]:
    base = f"complete -c {PROGRAM}"
    yield f"{base} -f"
    yield f"{base} -l help -d {quoted(ALONE['--help'])}"
    first = quoted("__namespace_broker_just_after")
    yield f"{base} -n {first} -l version -d {quoted(ALONE['--version'])}"
    for place in ["", *places()]:
        here = quoted(f"__namespace_broker_just_after {place}".rstrip())
        for word in following(place):
            yield f"{base} -n {here} -a {word} -d {quoted(summary_of(below(place, word)))}"
    for command in SHOWN:
        said = quoted(f"__namespace_broker_at {command.name}")
        for flag in command.flags:
            line = f"{base} -n {said} -l {flag.name} -d {quoted(first_sentence(flag))}"
            yield f"{line}{fish_value(flag)}"
        if runs_another(command):
            values = " ".join(f"--{flag.name}" for flag in command.flags if flag.kind != SWITCH)
            act = f"'(__fish_complete_subcommand --fcs-skip=2 {values})'"
            yield f"{base} -n {said} -x -a {act}"


def fish_value(flag: Flag) -> str:
    if flag.kind == SWITCH:
        return ""
    if flag.choices:
        return f" -x -a {quoted(' '.join(flag.choices))}"
    if flag.metavar == FILES:
        return " -r -F"
    return " -x -a '(__fish_complete_directories)'" if flag.metavar == FOLDERS else " -x"


# All three.


def following(place: str) -> list[str]:
    """Return the words that may come next, where a command's name goes on."""
    above = f"{place} " if place else ""
    further = (name.removeprefix(above) for name in places() if name.startswith(above))
    return [word for word in further if " " not in word]


def below(place: str, word: str) -> str:
    return f"{place} {word}" if place else word


def flags_of(place: str) -> tuple[Flag, ...]:
    return COMMANDS[place].flags if place in COMMANDS else ()


def alone(place: str) -> dict[str, str]:
    """Return the flags that are in no table, and what they do."""
    return {flag: says for flag, says in ALONE.items() if flag == "--help" or not place}


def taking_values() -> Iterator[tuple[Command, Flag]]:
    for command in SHOWN:
        for flag in command.flags:
            if flag.kind != SWITCH:
                yield command, flag


def runs_another(command: Command) -> bool:
    return command.words == PROGRAM_FOLLOWS


def first_sentence(flag: Flag) -> str:
    """Return what fits beside a flag in a list."""
    return flag.says.partition(". ")[0].partition("; ")[0].removesuffix(".")


def quoted(text: str) -> str:
    """Return *text* as one word, for any of the shells."""
    return "'" + text.replace("'", "'\\''") + "'"


def filled(template: str, **parts: str) -> str:
    for name, text in {"MADE": MADE, **parts}.items():
        template = template.replace(f"@{name}@", text)
    return template


SHELLS: dict[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        print(f"completion: name one shell: {', '.join(SHELLS)}", file=sys.stderr)
        return 2
    sys.stdout.write(SHELLS[arguments[0]]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
