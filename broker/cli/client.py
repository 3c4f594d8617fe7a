"""What clients of the running broker are told, and this caller's copy of the container token."""

from __future__ import annotations

import os

from broker.cli import control_client
from broker.cli.environment import (
    Variables,
    container_variables,
    imds_variables,
    namespace_variables,
)
from broker.cli.errors import Failure
from broker.cli.obtain import denied
from broker.files import locations
from broker.files.private import write_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from broker.cli.parser import Options

TOKEN_FILE = "container.token"  # noqa: S105 - the name of a file


def client_of(options: Options) -> Mapping[str, Any]:
    """Return what the running broker says of itself (``/v1/client``).

    Raises:
        NotRunning, Failure: None runs; or it will not have us.
    """
    role = options.text("role")
    reply = control_client.ask("/v1/client", options.text("runtime-dir"), {"role": role})
    if reply.status != 200:
        raise denied(reply, role)
    return reply.document


def variables_for(
    client: Mapping[str, Any],
    surface: str | None,
    *,
    role: str | None,
    environ: Mapping[str, str],
) -> Variables:
    """Return the variables for one surface, and those for Namespace's tools; for the container's,
    our copy of the token is written.

    Raises:
        Failure: There is no such surface, or the copy cannot be written.
    """
    namespace = namespace_variables(client.get("namespace") or {})
    # Who has no role must not be pointed to where there is none, away from what they have.
    if namespace.set and not client.get("roles"):
        return namespace
    if surface == "imds":
        return imds_variables(client, role=role, environ=environ).also(namespace)
    path = token_path(environ)
    found = container_variables(client, role=role, token_file=path, environ=environ)
    write_token(path, str(client["container_token"]))
    return found.also(namespace)


def token_path(environ: Mapping[str, str]) -> str:
    return os.path.join(locations.user_dir(environ, os.getuid()), TOKEN_FILE)


def write_token(path: str, token: str) -> None:
    directory = os.path.dirname(path)
    try:
        locations.make_private_dir(directory, os.getuid())
        write_private(path, token, durable=False)
    except locations.UntrustedDirectory as error:
        raise Failure(
            "XDG_RUNTIME_DIR", f"{error}, so no token is written there", "set it to your own"
        ) from error
    except OSError as error:
        raise Failure(
            path, f"cannot be written ({error.strerror})", "set XDG_RUNTIME_DIR to your own"
        ) from error
