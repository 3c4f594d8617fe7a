"""Variables as a shell, GitHub Actions, Docker or a program reads them. Pure."""

from __future__ import annotations

from broker.cli.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from broker.cli.environment import Variables


def rendered(variables: Variables, how: str, environ: Mapping[str, str]) -> str:
    """Return the whole text for *how*: ``shell``, ``github``, ``docker`` or ``json``.

    Raises:
        Failure: A value cannot be written that way.
    """
    if how == "shell":
        return shell(variables)
    if how == "github":
        return github(variables, environ)
    if how == "docker":
        return docker(variables)
    import json

    return json.dumps(dict(variables.set), indent=2) + "\n"


def shell(variables: Variables) -> str:
    """For ``eval`` or ``source`` in sh, bash and zsh."""
    gone = [f"unset {' '.join(variables.gone)}"] if variables.gone else []
    exports = [f"export {name}={shell_quoted(value)}" for name, value in variables.set.items()]
    return lines([*comment(variables.note), *gone, *exports])


def shell_quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def github(variables: Variables, environ: Mapping[str, str]) -> str:
    """For ``$GITHUB_ENV``, which cannot take variables away: those set now are emptied."""
    emptied = [f"{name}=" for name in variables.must_go if environ.get(name)]
    return lines([*emptied, *(github_line(*item) for item in variables.set.items())])


def github_line(name: str, value: str) -> str:
    if "\n" not in value and "\r" not in value:
        return f"{name}={value}"
    end = "END"
    while end in value:
        end += "_"
    return f"{name}<<{end}\n{value}\n{end}"


def docker(variables: Variables) -> str:
    """For ``--env-file``, which knows no quotes; a container inherits nothing to take away."""
    for name, value in variables.set.items():
        if "\n" in value or "\r" in value:
            raise Failure(name, "has a line break, which --env-file cannot carry", "unset it")
    notes = [*comment(variables.note), *comment(variables.docker_note)]
    return lines([*notes, *(f"{name}={value}" for name, value in variables.set.items())])


def comment(note: str) -> list[str]:
    return [f"# {' '.join(note.split())}"] if note else []


def lines(texts: list[str]) -> str:
    return "".join(f"{text}\n" for text in texts)
