"""Credentials for a command: from the running broker, else obtained once."""

from __future__ import annotations

from broker.cli import control_client
from broker.cli.errors import Failure, Misuse, NotRunning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from broker.cli.control_client import Reply
    from broker.cli.parser import Options


def credentials_for(options: Options) -> tuple[Mapping[str, Any], str | None]:
    """Return credentials as the container document, and the region to tell beside them, if any.

    With ``--role-arn`` no running broker is asked.

    Raises:
        NotRunning: None runs, and nothing says which role to obtain without one.
        Misuse, Failure: As what they say.
    """
    if options.text("role-arn") is not None:
        return once(options)
    try:
        return held(options)
    except NotRunning as not_running:
        return once(options, or_else=not_running)


def held(options: Options) -> tuple[Mapping[str, Any], str | None]:
    runtime_dir, role = options.text("runtime-dir"), options.text("role")
    reply = control_client.ask("/v1/credentials", runtime_dir, {"role": role})
    if reply.status != 200:
        raise denied(reply, role) if reply.roles else no_roles()
    return reply.document, None


def denied(reply: Reply, role: str | None) -> Failure:
    """Return what the broker's refusal means to the person who asked."""
    if role is not None and role not in reply.roles:
        return unknown_role(role, reply)
    place = "--role" if role is not None else "credentials"
    if reply.status == 404:
        return Failure(place, reply.message, "see namespace-broker status")
    return Failure(place, reply.message, "the owner of the broker may grant it")


def no_roles() -> Failure:
    return Failure(
        "credentials",
        "the broker has no roles: it hands on tokens",
        "name one in its configuration",
    )


def unknown_role(role: str, reply: Reply) -> Failure:
    if not reply.roles:
        return no_roles()
    return Misuse(
        "--role", f"the broker has no role {role}", f"its roles are {', '.join(reply.roles)}"
    )


def once(
    options: Options, *, or_else: NotRunning | None = None
) -> tuple[Mapping[str, Any], str | None]:
    # Dear imports, and needed only where no broker runs.
    from broker.cli.offline import misuse, obtained_once
    from broker.config import NoRole

    try:
        return obtained_once(options)
    except NoRole as error:
        raise or_else or misuse(error) from error
