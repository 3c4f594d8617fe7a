"""Obtain credentials and tokens once, without a running broker."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from broker.cli.errors import Failure, Misuse
from broker.cli.parser import Options
from broker.clock import rfc3339
from broker.config import Config, ConfigError, Flags, NoRole, load, load_identity, load_roles
from broker.config.load import upstream_of
from broker.credentials import AwsCredentials
from broker.lease import Lease, SourceError

if TYPE_CHECKING:
    from broker.daemon.runtime import Runtime


def configured(flags: Flags, how: Callable[[Flags, Mapping[str, str]], Config] = load) -> Config:
    """Return the configuration, as *how* loads it.

    Raises:
        NoRole: As `load`.
        Misuse: It is invalid.
    """
    try:
        return how(flags, os.environ)
    except NoRole:
        raise
    except ConfigError as error:
        raise misuse(error) from error


def misuse(error: ConfigError) -> Misuse:
    return Misuse(error.place, error.what, error.next_step)


def warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"namespace-broker: warning: {warning}", file=sys.stderr)


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn the errors of sources and daemon into the error line of a command.

    Raises:
        Failure: A cloud refused or gave no answer; or a broker cannot start.
    """
    from broker.daemon.errors import CannotStart

    try:
        yield
    except Exception as error:
        match first_of(error):
            case SourceError() as trouble:
                raise Failure(place, str(trouble).removeprefix(f"{place}: ")) from error
            case CannotStart() as trouble:
                raise Failure("", str(trouble)) from error
            case ConfigError() as trouble:
                raise misuse(trouble) from error
        raise


def first_of(error: Exception) -> Exception:
    """Return the error itself, or the first of a task group's."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def one_off_flags(options: Options) -> Flags:
    """Return the configuration's flags for a command without a running broker: nothing listens."""
    role_arn = options.text("role-arn")
    return Flags(
        config=options.text("config"),
        role_arns=() if role_arn is None else (role_arn,),
        region=options.text("region"),
        imds=("off",),
        container=("off",),
        ops=("off",),
    )


def role_in(config: Config, name: str | None) -> str:
    """Return *name*, or the default role's.

    Raises:
        Misuse: There is no such role.
    """
    names = [role.role.name for role in config.roles]
    if name is not None and name not in names:
        raise Misuse("--role", f"no such role: {name!a}", f"the roles are {', '.join(names)}")
    return name or config.default_role or names[0]


def obtained_once(options: Options) -> tuple[Mapping[str, Any], str | None]:
    """Return credentials as the container document, and the configured region.

    Raises:
        NoRole: No role is configured.
        Misuse, Failure: Wrong configuration; or a cloud refused or gave no answer.
    """
    config = configured(one_off_flags(options), load_roles)
    role = role_in(config, options.text("role"))
    warn(config.warnings)

    from broker.daemon.offline import obtain
    from broker.daemon.runtime import Runtime
    from broker.telemetry.log import logger

    runtime = Runtime(log=logger(form="auto", level="warning"))
    with explained(f"role/{role}"):
        return document(asyncio.run(obtain(config, role, runtime))), config.region


def namespace_token_once(options: Options) -> Mapping[str, Any]:
    """Return the Namespace token of one identity, as the running broker would.

    Raises:
        Misuse, Failure: Wrong configuration; or a cloud refused or gave no answer.
    """
    config, identity, runtime = for_identity(options)

    from broker.daemon.offline import obtain_namespace_token

    with explained(f"identity/{identity}"):
        lease = asyncio.run(obtain_namespace_token(config, identity, runtime))
    token = lease.value
    return {
        "identity": identity,
        "token": token.bearer,
        "kind": token.bearer.partition("_")[0],
        "expires_at": ends_at(lease),
        "tenant_id": token.tenant_id,
        "instance_id": token.instance_id,
    }


def workspace_of(bearer: str) -> str | None:
    """Return the workspace of an opaque token, as Namespace tells it; else warn."""
    from broker.daemon.offline import tenant_of
    from broker.daemon.runtime import Runtime
    from broker.telemetry.log import logger

    runtime = Runtime(log=logger(form="auto", level="warning"))
    try:
        return asyncio.run(tenant_of(bearer, upstream_of(os.environ), runtime)).tenant_id
    except SourceError as error:
        warn([f"the workspace of the token is not known: {error}"])
        return None


def id_token_once(options: Options) -> Mapping[str, Any]:
    """Return an ID token for ``--audience``, as the running broker would; raises as above."""
    config, identity, runtime = for_identity(options)
    audience = str(options.text("audience"))

    from broker.daemon.offline import obtain_id_token

    with explained("--audience"):
        lease = asyncio.run(obtain_id_token(config, identity, audience, runtime))
    return {"token": lease.value.jwt, "expires_at": ends_at(lease)}


def for_identity(options: Options) -> tuple[Config, str, "Runtime"]:
    """Return the configuration of one identity, its name, and the runtime to obtain it with."""
    from broker.daemon.runtime import Runtime
    from broker.telemetry.log import logger

    flags, wanted = Flags(config=options.text("config")), options.text("identity")
    config = configured(flags, lambda flags, environ: load_identity(flags, environ, wanted))
    warn(config.warnings)
    (identity,) = config.identities
    return config, identity, Runtime(log=logger(form="auto", level="warning"))


def document(lease: Lease[AwsCredentials]) -> Mapping[str, Any]:
    """Return the lease as the container endpoint serves it."""
    credentials = lease.value
    return {
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Expiration": ends_at(lease),
        "AccountId": credentials.account_id,
        "RoleArn": credentials.role_arn,
    }


def ends_at(lease: Lease[object]) -> str | None:
    """Return the lease's end as RFC 3339."""
    ends = lease.expires_at
    return None if ends is None else rfc3339(ends)
