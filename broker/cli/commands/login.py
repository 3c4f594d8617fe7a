"""`login`: exchange an AWS identity for a Namespace token and save it for nsc."""

import asyncio
import os
import sys
from datetime import UTC, datetime, timedelta
from typing import Literal, cast

from broker.cli import login_file
from broker.cli.errors import Failure, Misuse
from broker.cli.isolation import active_profile, keys_of_profile
from broker.cli.login_file import Found
from broker.cli.offline import ends_at, explained, misuse, warn
from broker.cli.output import printable, span
from broker.cli.parser import DURATION, SWITCH, Flag, Options
from broker.config import Algorithm, ConfigError, Login, LoginFlags, load_login

DESCRIPTION = """Exchange this machine's AWS identity for a Namespace token and save it for nsc.

For AWS Lambda, a build step, or a laptop with an AWS profile; no broker is needed. The token is
written where nsc and the Namespace SDKs look for it, and it expires: for longer work, let a broker
keep one fresh (namespace_tokens in its configuration).

Prints the workspace's name and id.

    namespace-broker login --via sts --workspace WORKSPACE
    namespace-broker login --via cognito --workspace WORKSPACE --identity-pool REGION:GUID
"""

FLAGS = (
    Flag(
        "via",
        "How to prove the AWS identity: by an STS token, or by a Cognito identity pool.",
        choices=("sts", "cognito"),
    ),
    Flag(
        "workspace",
        "The workspace's id. Default with sts: Namespace picks one that trusts this identity."
        " Also --tenant_id.",
        metavar="ID",
        aliases=("tenant-id",),
    ),
    Flag("identity-pool", "The Cognito identity pool: its guid, or region:guid.", metavar="POOL"),
    Flag(
        "region",
        "The AWS region of STS or Cognito. Default: $AWS_REGION, $AWS_DEFAULT_REGION, the"
        " profile's. Also --aws_region.",
        metavar="REGION",
        aliases=("aws-region",),
    ),
    Flag(
        "profile",
        "The AWS profile. Default: as in every AWS tool. Also --aws_profile.",
        metavar="NAME",
        aliases=("aws-profile",),
    ),
    Flag(
        "audience",
        "The audience of STS's token. Default: https://federation.namespaceapis.com.",
        metavar="AUDIENCE",
    ),
    Flag(
        "algorithm",
        "The algorithm STS signs with. Default: ES384.",
        choices=("ES384", "RS256"),
    ),
    Flag(
        "ensure",
        "Do nothing while the token that is there lives longer than this. Default: always sign in.",
        kind=DURATION,
        metavar="DURATION",
    ),
    Flag(
        "output",
        "The token file. Default: $NSC_TOKEN_FILE, else token.json where nsc login writes it.",
        metavar="FILE",
    ),
    Flag(
        "replace-login",
        "Replace a person's own login too; a copy of it is kept.",
        kind=SWITCH,
    ),
)


DEFAULT_REGION = "us-east-1"


def run(options: Options) -> int:
    login = login_of(options)
    path = login_file.path_for(options.text("output"), os.environ)
    found = found_at(path, options)
    ensure_s = options.seconds("ensure") or 0.0
    if ensure_s and found.lasts(
        timedelta(seconds=ensure_s),
        workspace=login.identity.workspace,
        now=datetime.now(UTC),
    ):
        say(f"{path}: left as it is: its token is good for {left(found.expires_at)}")
        print(workspace(None, found.tenant_id))
        return 0
    warn(login.warnings)
    with explained("login"):
        from broker.daemon.offline import exchange
        from broker.daemon.runtime import Runtime
        from broker.telemetry.log import logger

        runtime = Runtime(log=logger(form="auto", level="warning"))
        exchanged = asyncio.run(exchange(login.upstream, login.identity, runtime))
    put(path, exchanged.lease.value.bearer, options)
    advice = login_file.advice(path, os.environ)
    say(f"{path}: written, good until {ends_at(exchanged.lease) or 'revoked'}{advice}")
    print(workspace(exchanged.tenant.name, exchanged.tenant.tenant_id))
    return 0


def login_of(options: Options) -> Login:
    """Return the login that the flags describe.

    Raises:
        Misuse: One is missing or invalid.
    """
    via = options.text("via")
    if via is None:
        raise Misuse("--via", "is not given", "give sts or cognito")
    flags = LoginFlags(
        via=cast(Literal["sts", "cognito"], via),
        workspace=options.text("workspace"),
        identity_pool=options.text("identity-pool"),
        region=options.text("region") or (region_of_none(options) if via == "sts" else None),
        profile=options.text("profile"),
        audience=options.text("audience"),
        algorithm=cast(Algorithm | None, options.text("algorithm")),
    )
    try:
        return load_login(flags, os.environ)
    except ConfigError as error:
        raise misuse(error) from error


def region_of_none(options: Options) -> str | None:
    """Return STS's region where nothing names one, and warn of it; None where something does."""
    if os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"):
        return None
    profile = options.text("profile") or active_profile(os.environ)
    if any(key == "region" for key in keys_of_profile(profile, os.environ)):
        return None
    warn([f"region: none is set: STS of {DEFAULT_REGION} is used; give --region or set AWS_REGION"])
    return DEFAULT_REGION


def found_at(path: str, options: Options) -> Found:
    """Return what the file has now.

    Raises:
        Failure: It is a person's login, or something else that must not be replaced.
    """
    found = login_file.look(path, is_named=options.text("output") is not None)
    if found.is_login and not options.switch("replace-login"):
        raise Failure(
            "--replace-login",
            f"{path} holds a person's login (session_token), which is not overwritten",
            "give --replace-login, which keeps a copy, or --output FILE",
        )
    return found


def put(path: str, bearer: str, options: Options) -> None:
    # Read again: somebody may have logged in while we did.
    found = found_at(path, options)
    if found.content:
        copy = login_file.keep_copy(path, found, now=datetime.now(UTC))
        what = "the login" if found.is_login else "the damaged file"
        say(f"{copy}: a copy of {what} that was there")
    login_file.write(path, bearer)


def say(text: str) -> None:
    print(f"namespace-broker: {text}", file=sys.stderr)


def left(end: datetime | None) -> str:
    return "ever" if end is None else span((end - datetime.now(UTC)).total_seconds())


def workspace(name: str | None, tenant_id: str | None) -> str:
    """Return the workspace's name and id."""
    if name and tenant_id:
        return printable(f"{name} ({tenant_id})")
    return printable(name or tenant_id or "a workspace without a name")
