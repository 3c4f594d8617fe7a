"""The patient way to read a command line: click, made from our table. Help, and what was wrong."""

import difflib
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import click

from broker import __version__
from broker.cli.errors import MISUSED, Misuse
from broker.cli.flags import (
    COMMANDS,
    DURATION,
    MANY,
    SECONDS,
    SHOWN,
    SWITCH,
    Command,
    Flag,
    Options,
    duration,
    seconds,
)

PROGRAM = "namespace-broker"

HELP = f"""Give every AWS client on this host credentials that never end.

The broker trades this machine's Namespace identity for AWS credentials, renews them long before
they end, and serves them the way AWS's own services do: unmodified SDKs and tools find them.

\b
Start:    {PROGRAM} run --role-arn arn:aws:iam::123456789012:role/deploy
Use:      eval "$({PROGRAM} env)"; aws s3 ls
See it:   {PROGRAM} demo
"""


class Text(click.ParamType[str]):
    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            self.fail("is empty; give a value", param, ctx)
        return str(value)


class Seconds(click.ParamType[float]):
    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            return seconds(str(value))
        except ValueError:
            self.fail(f"is {value!a}; give seconds, 0 or more", param, ctx)


class Duration(click.ParamType[float]):
    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value  # the default
        try:
            return duration(value)
        except ValueError:
            self.fail(f"is {value!a}; give a duration, like 15m, 1h30m or 2d", param, ctx)


class Word(click.ParamType[str]):
    """One of a few words."""

    name = "word"

    def __init__(self, choices: tuple[str, ...]) -> None:
        self.choices = choices

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return "|".join(self.choices)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self.choices:
            self.fail(f"is {value!a}; give one of {', '.join(self.choices)}", param, ctx)
        return str(value)


FAMILIES = {
    "setup": """Make both clouds trust each other, in one command.

Every one of them reads what stands, shows a plan, and asks before it changes anything; --dry-run
stops there. What is there already stays as it is.

\b
Namespace uses AWS:    namespace-broker setup to-aws --role-name deploy
AWS uses Namespace:    namespace-broker setup to-namespace --via sts --role-name builder
What stands of it:     namespace-broker setup show to-aws --role-name deploy
Take it back:          namespace-broker setup remove to-aws --role-name deploy
""",
    "setup show": "Show what stands, and whether it would let this identity in.",
    "setup remove": "Take back what a setup made.",
}
"""What commands of several words have in common, by the words that they begin with."""


def places() -> list[str]:
    """Return all the words that a command line may begin with: commands that are shown, and the
    families of those, each before its own."""
    lines = [command.name.split(" ") for command in SHOWN]
    begun = (" ".join(line[:count]) for line in lines for count in range(1, len(line) + 1))
    return list(dict.fromkeys(begun))


def summary_of(place: str) -> str:
    """Return the one line that says what a command or a family is for."""
    if place in COMMANDS:
        return COMMANDS[place].summary
    return FAMILIES[place].partition("\n")[0]


class Commands(click.Group):
    """Makes a command when it is asked for, so that only its own file is imported.

    *above* are the words before those that are chosen from here.
    """

    def __init__(self, name: str, *, above: str = "", **settings: Any) -> None:
        super().__init__(name, **settings)
        self._above = f"{above} " if above else ""

    def list_commands(self, ctx: click.Context) -> list[str]:
        below = [
            name
            for name, command in COMMANDS.items()
            if name.startswith(self._above) and not command.hidden
        ]
        return list(dict.fromkeys(name[len(self._above) :].split(" ")[0] for name in below))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = f"{self._above}{cmd_name}"
        if name in FAMILIES:
            return family(name)
        return click_command(COMMANDS[name]) if name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, known = args[0].replace("_", "-"), self.list_commands(ctx)
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            see = f"see {ctx.command_path} --help"
            next_step = f"did you mean {close[0]}?" if close else see
            raise Misuse(ascii(args[0]), "is no command", next_step)
        return name, self.get_command(ctx, name), args[1:]


def family(name: str) -> Commands:
    """Return the commands that begin with *name*, which may be one itself."""
    settings: dict[str, Any] = {"help": FAMILIES[name]}
    if name in COMMANDS:
        alone = click_command(COMMANDS[name])
        settings = {
            "help": alone.help,
            "short_help": alone.short_help,
            "params": alone.params,
            "callback": unless_another_follows(alone),
            "invoke_without_command": True,
        }
    return Commands(
        name.rpartition(" ")[2], above=name, context_settings=dict(SETTINGS), **settings
    )


def unless_another_follows(command: click.Command) -> Callable[..., Any]:
    """Return what *command* does, or nothing where a command of its family is named."""

    @click.pass_context
    def act(context: click.Context, /, **values: Any) -> Any:
        another = context.invoked_subcommand
        if another is None:
            return command.callback(**values) if command.callback else None
        given = click.core.ParameterSource.COMMANDLINE
        for name in values:
            if context.get_parameter_source(name) is given:
                flag = f"--{name.replace('_', '-')}"
                raise Misuse(flag, f"stands before {another}", f"give it after {another}")
        return None

    return act


def click_command(command: Command) -> click.Command:
    module = importlib.import_module(command.module)

    def act(**values: Any) -> int:
        return int(module.run(options_of(command, values)))

    parameters: list[click.Parameter] = [click_option(flag) for flag in command.flags]
    if command.words:
        parameters.append(
            click.Argument(
                ["words"],
                nargs=-1,
                required=True,
                type=click.UNPROCESSED,
                metavar=f"-- {command.words}",
            )
        )
    return click.Command(
        command.name.rpartition(" ")[2],
        callback=act,
        params=parameters,
        help=module.DESCRIPTION,
        short_help=command.summary,
        # What follows the program to run is the program's.
        context_settings={"allow_interspersed_args": False} if command.words else {},
    )


def options_of(command: Command, values: Mapping[str, Any]) -> Options:
    """Return what click read, as our own parser would."""
    said = {flag.name: values[flag.name.replace("-", "_")] for flag in command.flags}
    return Options(command, said, values.get("words", ()))


def click_option(flag: Flag) -> click.Option:
    names = [f"--{name}" for name in (flag.name, *flag.aliases)]
    key = flag.name.replace("-", "_")
    if flag.kind == SWITCH:
        return click.Option([*names, key], is_flag=True, help=flag.says)
    kind: click.ParamType[Any] = Text()
    if flag.kind == SECONDS:
        kind = Seconds()
    elif flag.kind == DURATION:
        kind = Duration()
    elif flag.choices:
        kind = Word(flag.choices)
    return click.Option(
        [*names, key],
        type=kind,
        multiple=flag.kind == MANY,
        default=() if flag.kind == MANY else flag.default,
        show_default=flag.default is not None and flag.kind != DURATION,
        metavar=flag.metavar or None,
        help=flag.says,
    )


SETTINGS: Mapping[str, Any] = {
    "token_normalize_func": lambda name: name.replace("_", "-"),
    "help_option_names": ["--help", "-h"],
    "max_content_width": 100,
}

GROUP = Commands(
    PROGRAM,
    help=HELP,
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            help="Print the version.",
            callback=lambda ctx, _, wanted: print_version(ctx) if wanted else None,
        )
    ],
    context_settings=dict(SETTINGS),
)


def print_version(ctx: click.Context) -> None:
    click.echo(f"{PROGRAM} {__version__}")
    ctx.exit(0)


def dispatch(arguments: list[str]) -> int:
    """Run the command line, or explain what is wrong with it.

    Raises:
        Misuse: With one line that says what.
    """
    try:
        return int(GROUP.main(arguments, prog_name=PROGRAM, standalone_mode=False) or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return MISUSED
    except click.Abort as abort:  # what click makes of Ctrl-C
        raise abort.__cause__ or abort from None
    except click.UsageError as error:
        raise explained(error) from error


def explained(error: click.UsageError) -> Misuse:
    """Return click's complaint in our own form."""
    path = error.ctx.command_path if error.ctx else PROGRAM
    see = f"see {path} --help"
    match error:
        case click.exceptions.NoSuchOption():
            close = error.possibilities or []
            return Misuse(
                error.option_name,
                f"{path} has no such flag",
                f"did you mean {close[0]}?" if close else see,
            )
        case click.exceptions.BadOptionUsage():
            needs = "requires" in error.message
            return Misuse(error.option_name, "needs a value" if needs else "takes no value", see)
        case click.exceptions.MissingParameter():
            return Misuse(path, "is not told what to run", "give it after --")
        case click.exceptions.BadParameter() if error.param is not None:
            what, _, next_step = error.message.partition("; ")
            return Misuse(error.param.opts[0], what, next_step or see)
    return Misuse(path, error.format_message().rstrip(".").replace("\n", " "), see)
