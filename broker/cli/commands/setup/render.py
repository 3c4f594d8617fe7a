"""`--render` of a `setup` command: what it would make, as a file on the standard output."""

import sys

from broker.cli.errors import Misuse
from broker.cli.parser import Options
from broker.setup.render import Draft, rendered

PROGRAM = "namespace-broker"


def form_of(options: Options) -> str | None:
    """Return the form that was asked for, None where the clouds themselves are meant.

    Raises:
        Misuse: Beside it stands what has no meaning then.
    """
    form = options.text("render")
    if form is None:
        return None
    if options.switch("yes"):
        raise Misuse("--yes", "has no meaning with --render", "leave it out: nothing is changed")
    if options.switch("json") and form != "json":
        raise Misuse("--json", f"has no meaning with --render {form}", "give --render json")
    return form


def command_line() -> tuple[str, ...]:
    """Return the words that this was asked by."""
    return (PROGRAM, *sys.argv[1:])


def written(draft: Draft, form: str) -> int:
    sys.stdout.write(rendered(draft, form))
    return 0
