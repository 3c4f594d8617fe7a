"""Completion for bash, zsh and fish, made from the table of commands: static, so that a TAB starts
no Python. ``python -m broker.cli.completion SHELL`` prints one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from broker.cli.flags import MANY, SHOWN, SWITCH, Command, Flag
from broker.cli.full import PROGRAM

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
    local cur=${COMP_WORDS[COMP_CWORD]} flag=${COMP_WORDS[COMP_CWORD - 1]} words= i
    local command=${COMP_WORDS[1]//_/-}
    COMPREPLY=()
    # bash takes the = of --flag=VALUE for a word of its own.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $flag == = ]]; then
        flag=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W '@COMMANDS@' -- "$cur")
        return
    fi
    case $command in
@OTHERS@)
        for ((i = 2; i < COMP_CWORD; i++)); do
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
        case "$command ${flag//_/-}" in
@VALUES@
        esac
    fi
    case $command in
@FLAGS@
    *) return ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words --help" -- "$cur")
}
_namespace_broker_paths() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}
complete -F _namespace_broker namespace-broker
"""


def bash() -> str:
    commands = " ".join([*(command.name for command in SHOWN), *ALONE])
    others = "|".join(command.name for command in SHOWN if runs_another(command))
    return filled(
        BASH,
        COMMANDS=commands,
        OTHERS=f"    {others}",
        VALUES="\n".join(bash_values()),
        FLAGS="\n".join(
            f"    {one.name}) words='{' '.join(f'--{flag.name}' for flag in one.flags)}' ;;"
            for one in SHOWN
        ),
    )


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
    local -a known=(
@COMMANDS@
    )
    if ((CURRENT == 2)); then
        _describe -t commands command known
        _arguments @ALONE@
        return
    fi
    local chosen=${words[2]//_/-}
    shift words
    ((CURRENT--))
    case $chosen in
@CASES@
    esac
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
        COMMANDS="\n".join(
            "        " + quoted(f"{command.name}:{command.summary}") for command in SHOWN
        ),
        ALONE=" ".join(quoted(f"{flag}[{says}]") for flag, says in ALONE.items()),
        CASES="\n".join(zsh_case(command) for command in SHOWN),
    )


def zsh_case(command: Command) -> str:
    lines = [quoted(zsh_flag(flag)) for flag in command.flags]
    lines.append(quoted(f"--help[{ALONE['--help']}]"))
    if runs_another(command):
        lines.append(quoted("*:::command: _normal"))
    inner = " \\\n            ".join(lines)
    return f"    {command.name})\n        _arguments -S : \\\n            {inner}\n        ;;"


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


def fish() -> str:
    return "\n".join([f"# fish {MADE}", *fish_lines()]) + "\n"


def fish_lines() -> Iterator[str]:
    base = f"complete -c {PROGRAM}"
    yield f"{base} -f"
    yield f"{base} -l help -d {quoted(ALONE['--help'])}"
    yield f"{base} -n __fish_is_first_token -l version -d {quoted(ALONE['--version'])}"
    for command in SHOWN:
        said = quoted(f"__fish_seen_subcommand_from {command.name}")
        says = quoted(command.summary)
        yield f"{base} -n __fish_is_first_token -a {command.name} -d {says}"
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
