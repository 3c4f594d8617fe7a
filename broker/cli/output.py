"""Results as text: tables, lengths of time, and variables for shells and programs."""

from __future__ import annotations

from broker.cli.errors import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from broker.cli.environment import Variables

HOST_FILES = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "NSC_TOKEN_FILE")


SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "NSC_TOKEN_SPEC",
)
"""The variables whose values must not be shown."""


LEASES = ("role/", "identity/", "id-token/")
"""How the names of leases begin."""


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an aligned table as lines; control characters become blanks."""
    table = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[index]) for row in table) for index in range(len(header))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )
    return "".join(f"{line}\n" for line in lines)


def printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def span(seconds: float) -> str:
    """Return a length of time in at most two units."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return two_units(whole, (60, "min"), (1, "s"))
    if whole < 86400:
        return two_units(whole, (3600, "h"), (60, "min"))
    return two_units(whole, (86400, "d"), (3600, "h"))


def two_units(seconds: int, *units: tuple[int, str]) -> str:
    parts = []
    for length_s, name in units:
        count, seconds = divmod(seconds, length_s)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts)


def without_repeats(reasons: Iterable[tuple[str, str]]) -> list[str]:
    """Return the reason of each (lease, reason), in order.

    A reason that is another lease's, which is in the table too, becomes ``waits for LEASE``.
    """
    rows = [(lease, *cause_of(lease, reason)) for lease, reason in reasons]
    explained = {lease for lease, _, cause in rows if cause}
    return [
        cause if not other else f"waits for {other}" if other in explained else f"{other}: {cause}"
        for _, other, cause in rows
    ]


def cause_of(lease: str, reason: str) -> tuple[str, str]:
    """Return the other lease that *reason* is about, "" for none, and what it says of it.

    Each lease on the way to the cause has put its name before it.
    """
    other = ""
    while reason.startswith(LEASES) and ": " in reason:
        other, _, reason = reason.partition(": ")
    return ("" if other == lease else other), reason


def rendered(variables: Variables, how: str, environ: Mapping[str, str]) -> str:
    """Return the variables as text for a reader: see ``env --for``.

    Raises:
        Failure: A value cannot be written that way.
    """
    if how == "shell":
        return shell(variables)
    if how == "fish":
        return fish(variables)
    if how == "credentials-file":
        return credentials_file(variables)
    if how == "github":
        return github(variables, environ)
    if how == "docker":
        return docker(variables)
    import json

    return json.dumps(dict(variables.set), indent=2) + "\n"


def shell(variables: Variables) -> str:
    """Return the text for ``eval`` or ``source`` in sh, bash and zsh."""
    gone = [f"unset {' '.join(variables.gone)}"] if variables.gone else []
    exports = [f"export {name}={shell_quoted(value)}" for name, value in variables.set.items()]
    return lines([*comment(variables.note), *gone, *exports])


def shell_quoted(value: str) -> str:
    return "'" + value.replace("'", "'\\''") + "'"


def fish(variables: Variables) -> str:
    """Return the text for ``source`` in fish."""
    gone = [f"set -e {name}" for name in variables.gone]
    exports = [f"set -gx {name} {fish_quoted(value)}" for name, value in variables.set.items()]
    return lines([*comment(variables.note), *gone, *exports])


def fish_quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def credentials_file(variables: Variables) -> str:
    """Return the keys as a shared credentials file, for ``~/.aws/credentials``."""
    names = {
        "aws_access_key_id": "AWS_ACCESS_KEY_ID",
        "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY",
        "aws_session_token": "AWS_SESSION_TOKEN",
        "region": "AWS_REGION",
    }
    keys = [
        f"{key} = {variables.set[name]}" for key, name in names.items() if name in variables.set
    ]
    return lines([*comment(variables.note), "[default]", *keys])


def github(variables: Variables, environ: Mapping[str, str]) -> str:
    """Return the text for ``$GITHUB_ENV``, which cannot unset variables: they are emptied."""
    emptied = [f"{name}=" for name in variables.must_go if environ.get(name)]
    return lines([*emptied, *(github_line(*item) for item in variables.set.items())])


def github_line(name: str, value: str) -> str:
    if "\n" not in value and "\r" not in value:
        return f"{name}={value}"
    end = "END"
    while end in value:
        end += "_"
    return f"{name}<<{end}\n{value}\n{end}"


def masks(variables: Variables) -> str:
    """Return GitHub's commands that hide every secret of *variables* in the logs of later steps."""
    secrets = [variables.set[name] for name in SECRETS if name in variables.set]
    parts = [line for secret in secrets for line in secret.splitlines()]
    return lines([f"::add-mask::{part.replace('%', '%25')}" for part in parts])


def docker(variables: Variables) -> str:
    """Return the text for ``--env-file``, which has no quotes; containers inherit no variables.

    Files of this host are left out: they are not in the container, and 0600 for another user's
    there, and the SDKs that prefer a file then fail although they have the value too.
    """
    assigned = {name: value for name, value in variables.set.items() if name not in HOST_FILES}
    for name, value in assigned.items():
        if "\n" in value or "\r" in value:
            raise Failure(name, "has a line break, which --env-file cannot carry", "unset it")
    notes = [*comment(variables.note), *comment(variables.docker_note)]
    return lines([*notes, *(f"{name}={value}" for name, value in assigned.items())])


def comment(note: str) -> list[str]:
    return [f"# {' '.join(note.split())}"] if note else []


def lines(texts: list[str]) -> str:
    return "".join(f"{text}\n" for text in texts)
