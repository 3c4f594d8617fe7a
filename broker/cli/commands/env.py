"""`env`: print the environment with which clients use the broker, or save the keys themselves."""

from __future__ import annotations

import os
import sys

from broker.cli.control_client import client_of, credentials_for
from broker.cli.environment import static_variables, variables_for
from broker.cli.errors import Failure, Misuse
from broker.cli.isolation import isolated, standing_before
from broker.cli.output import masks, rendered
from broker.cli.parser import CONFIG, REGION, ROLE, ROLE_ARN, RUNTIME_DIR, SWITCH, Flag
from broker.files.private import write_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from broker.cli.environment import Variables
    from broker.cli.parser import Options

DESCRIPTION = """Print the environment that lets AWS clients use the running broker.

It has no keys, only where to get them: programs started with it have fresh credentials as long as
the broker runs. With --isolate, what clients would use before the broker is set aside too:
variables and profiles in ~/.aws that name another identity. Their settings, such as the region,
stay.

In a shell:               eval "$(namespace-broker env)"
In a GitHub workflow:     namespace-broker env --for github >> "$GITHUB_ENV"
For a container:          namespace-broker env --for docker > broker.env
                          docker run --network host --env-file broker.env IMAGE

For programs that cannot ask an endpoint, --static writes the keys themselves, which expire; the
expiry is in a comment. They come from the running broker; where none runs, they are obtained once:

    ROLE=arn:aws:iam::123456789012:role/deploy
    namespace-broker env --static --output aws.env --role-arn $ROLE && source aws.env
"""

FLAGS = (
    Flag(
        "for",
        "The reader: eval of sh, bash or zsh; source of fish; $GITHUB_ENV; docker's --env-file; a"
        " program; with --static also ~/.aws/credentials.",
        choices=("shell", "fish", "github", "docker", "json", "credentials-file"),
        default="shell",
    ),
    Flag(
        "surface",
        "The endpoint that clients are to use.",
        choices=("container", "imds"),
        default="container",
    ),
    ROLE,
    Flag("isolate", "Also set aside what clients would use before the broker.", kind=SWITCH),
    Flag("static", "Write the keys themselves, which expire.", kind=SWITCH),
    Flag(
        "output",
        "The file for the keys, readable by you alone. Also --write_env.",
        metavar="FILE",
        aliases=("write-env",),
    ),
    ROLE_ARN,
    REGION,
    CONFIG,
    RUNTIME_DIR,
)


STDOUT = ("-", "/dev/stdout")


def run(options: Options) -> int:
    if options.switch("static"):
        return write_static(options)
    if options.text("output") is not None:
        raise Misuse("--output", "needs --static", "add --static, or use >")
    if options.text("role-arn") is not None:
        raise Misuse(
            "--role-arn",
            "needs --static: the running broker serves its own roles",
            "add --static, name a role of the broker with --role, or use exec",
        )
    if how(options) == "credentials-file":
        raise Misuse("--for", "credentials-file needs --static", "add --static --output FILE")
    role = options.text("role")
    variables = variables_for(
        client_of(options), options.text("surface"), role=role, environ=os.environ
    )
    # A container has no files of this host, and inherits no variables.
    if how(options) != "docker" and has_role(variables):
        variables = over_files(variables, options)
    text = rendered(variables, how(options), os.environ)
    mask(variables, options)
    sys.stdout.write(text)
    return 0


def has_role(variables: Variables) -> bool:
    return any(name.startswith("AWS_") for name in variables.set)


def over_files(variables: Variables, options: Options) -> Variables:
    """Return *variables* with what hides another identity in ``~/.aws``, or warn of that."""
    aside = standing_before(os.environ)
    if options.switch("isolate"):
        return variables.also(isolated(aside, os.environ))
    if aside.places:
        line = f"AWS clients use {', '.join(aside.places)} before the broker; add --isolate"
        print(f"namespace-broker: warning: {line}", file=sys.stderr)
    return variables


def mask(variables: Variables, options: Options) -> None:
    """Tell GitHub's runner what to hide; it reads commands from stderr too."""
    if how(options) == "github":
        sys.stderr.write(masks(variables))


def how(options: Options) -> str:
    return options.text("for") or "shell"


def write_static(options: Options) -> int:
    output = options.text("output")
    if output is None:
        raise Misuse("--static", "needs --output FILE", "give the file for the keys")
    credentials, region = credentials_for(options)
    if region is None and options.text("role-arn") is None:
        region = region_of(options)
    variables = static_variables(credentials, region=region)
    text = rendered(variables, how(options), os.environ)
    mask(variables, options)
    write(output, text)
    if output not in STDOUT:
        expiry = f"keys of {credentials['RoleArn']}, which expire at {credentials['Expiration']}"
        print(f"namespace-broker: {output}: {expiry}", file=sys.stderr)
    return 0


def region_of(options: Options) -> str | None:
    """Return the region of the flag or of the running broker, where there is one."""
    if region := options.text("region"):
        return region
    try:
        return client_of(options).get("region")
    except Failure:
        return None


def write(output: str, text: str) -> None:
    """Write keys to *output*, readable by us alone; on failure it stays as it was."""
    if output in STDOUT:
        sys.stdout.write(text)
        return
    try:
        write_output(output, text, durable=False)
    except OSError as error:
        raise Failure(
            "--output", f"{output} cannot be written ({error.strerror})", "name another"
        ) from error
    except ValueError as error:
        what, _, next_step = str(error).partition("; ")
        raise Failure("--output", what, next_step or "name another") from error
