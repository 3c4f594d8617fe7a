"""`install`: make the broker a systemd service."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from pathlib import Path

from broker.cli import control_client
from broker.cli.commands.wait import Progress
from broker.cli.errors import Failure, Misuse
from broker.cli.offline import misuse, warn
from broker.cli.output import without_repeats
from broker.cli.parser import MANY, REGION, SWITCH, Flag, Options
from broker.config import Config, ConfigError
from broker.config.roles import flag_roles
from broker.config.validate import region as checked_region
from broker.installer import addresses, units
from broker.installer.config_text import Allowed, Desired, Identity
from broker.installer.host import Host, Refusal
from broker.installer.install import Installed, Planned, install, planned
from broker.installer.systemctl import Systemctl

DESCRIPTION = """Make the broker a systemd service.

Every AWS client of the users who are allowed then finds credentials at EC2's own address, without
configuration.

It writes the units (unless a package installed them) and /etc/namespace-broker/config.toml with a
rule that says who is allowed, starts everything, and waits until it is ready. A second run changes
only what differs. A configuration that somebody has edited is not replaced.

    sudo namespace-broker install --role-arn arn:aws:iam::123456789012:role/deploy
"""

FLAGS = (
    Flag(
        "role-arn",
        "A role to serve; repeatable. NAME=ARN names it, else it has its role's name."
        " The first is the default.",
        kind=MANY,
        metavar="ARN",
    ),
    Flag(
        "allow",
        "Who gets credentials: user:NAME, repeatable, or any-local, which is every user of"
        " this host. Default: user:$SUDO_USER.",
        kind=MANY,
        metavar="WHO",
    ),
    REGION,
    Flag(
        "token-file",
        "The Namespace token file, readable by root. Default: /var/run/nsc/token.json, unless"
        " there is only a token.spec beside it.",
        metavar="FILE",
    ),
    Flag(
        "token-spec",
        "The token spec file, instead of a token file.",
        metavar="FILE",
    ),
    Flag("dry-run", "Print what would be written and change nothing.", kind=SWITCH),
)

READY_WITHIN_S = 60.0
IMPORT_PATH = """
import importlib.metadata, json, sys, urllib.parse
places = [entry for entry in sys.path if entry]
for distribution in importlib.metadata.distributions():
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        places.append(urllib.parse.unquote(urllib.parse.urlparse(origin["url"]).path))
print(json.dumps(places))
"""
USER = "user:"


def run(options: Options) -> int:
    host = this_host()
    try:
        plan = planned(desired_of(options, host), host)
    except ConfigError as error:
        raise misuse(error) from error
    except Refusal as refusal:
        raise failure_of(refusal) from refusal
    if plan.token_file is not None and not host.on_disk(plan.token_file).exists():
        warn([f"{plan.token_file} does not exist yet; it is used as soon as it does"])
    if options.switch("dry-run"):
        show(plan)
        return 0
    try:
        done = install(plan, host, say=say)
    except Refusal as refusal:
        raise failure_of(refusal) from refusal
    report(plan, done)
    if done.why_not_ready is not None:
        raise Failure(
            "install",
            f"done, but the broker is not ready: {done.why_not_ready}",
            "it goes on trying; see namespace-broker status",
        )
    return 0


def failure_of(refusal: Refusal) -> Failure:
    sys.stderr.write(refusal.detail)
    kind = Misuse if refusal.misuse else Failure
    return kind(refusal.place, refusal.what, refusal.next_step)


def this_host() -> Host:
    return Host(
        uid=os.geteuid(),
        program=this_program(),
        interpreter=Path(sys.executable).resolve(),
        systemctl=Systemctl(),
        is_user=is_user,
        answers=addresses.answers,
        why_not_ready=why_not_ready,
        import_path=import_path,
    )


def import_path() -> list[Path]:
    """Return every place that this Python imports from, editable installs among them."""
    command = [sys.executable, "-I", "-c", IMPORT_PATH]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")  # noqa: S603
    return [Path(place) for place in json.loads(done.stdout)]


def this_program() -> Path:
    """Return the program for a unit to start; for ``python -m broker`` the one beside Python."""
    started = Path(shutil.which(sys.argv[0]) or sys.argv[0]).absolute()
    if started.name == "__main__.py":
        return Path(sys.executable).with_name("namespace-broker")
    return started


def is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except (KeyError, ValueError):
        return False
    return True


def desired_of(options: Options, host: Host) -> Desired | None:
    """Return the installation that the flags describe; None where none is given.

    Raises:
        Misuse: A flag is missing or invalid.
        ConfigError: A role or region is invalid.
    """
    arns = options.many("role-arn")
    if not arns:
        others = ("allow", "region", "token-file", "token-spec")
        if given := [name for name in others if options.values[name]]:
            raise Misuse(f"--{given[0]}", "needs --role-arn", "give the role's ARN too")
        return None
    region = options.text("region")
    if region is None:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
    return Desired(
        roles={role.name: role.arn for role in flag_roles(arns).values()},
        allowed=allowed(options.many("allow"), host),
        identity=identity(options, host),
        region=None if region is None else checked_region(region, place="--region"),
    )


def allowed(callers: tuple[str, ...], host: Host) -> Allowed:
    """Return who is allowed; by default, the user who ran sudo."""
    if not callers:
        user = os.environ.get("SUDO_USER", "root")
        if user == "root":
            raise Misuse("--allow", "is missing", "give --allow user:NAME, or --allow any-local")
        callers = (f"{USER}{user}",)
    if "any-local" in callers:
        if len(set(callers)) > 1:
            raise Misuse("--allow", "is any-local and a user", "any-local is every user; give one")
        return Allowed(any_local=True)
    users = []
    for who in callers:
        name = who.removeprefix(USER)
        if name == who or not name:
            raise Misuse("--allow", f"is {who!a}", "give user:NAME, or any-local")
        if not host.is_user(name):
            raise Misuse("--allow", f"no such user: {name!a}", "create it, or name another")
        users.append(name)
    return Allowed(users=tuple(dict.fromkeys(users)))


def identity(options: Options, host: Host) -> Identity:
    """Return the identity's file: as the flags say, else as it is found."""
    file, spec = options.text("token-file"), options.text("token-spec")
    if file is not None and spec is not None:
        raise Misuse("--token-spec", "cannot be given with --token-file", "give one of them")
    if spec is not None:
        return Identity(kind="token-spec", path=Path(spec).absolute())
    if file is not None:
        return Identity(kind="token-file", path=Path(file).absolute())
    has_token, has_spec = (
        host.on_disk(place).exists() for place in (units.TOKEN_SOURCE, units.SPEC_SOURCE)
    )
    if has_spec and not has_token:
        return Identity(kind="token-spec", path=units.SPEC_SOURCE)
    return Identity(kind="token-file", path=units.TOKEN_SOURCE)


def why_not_ready() -> str | None:
    """Wait until the broker is ready; return what it lacks after a minute, a refusal at once."""
    progress = Progress()
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        reason, is_final = lacking()
        if reason is None or is_final or time.monotonic() > deadline:
            return reason
        progress.waits_for(reason)
        time.sleep(0.1)


def lacking() -> tuple[str | None, bool]:
    """Return what the broker lacks, None for nothing, and whether waiting cannot help."""
    try:
        status = control_client.ask("/v1/status", str(units.RUNTIME), {}).document
    except Failure as failure:
        return failure.line, False
    if status.get("ready"):
        return None, True
    leases = status.get("leases") or []
    reasons = without_repeats(
        (str(lease.get("name")), str(lease.get("reason") or "")) for lease in leases
    )
    absent = [
        f"{lease.get('name')}: {reason or lease.get('state')}"
        for lease, reason in zip(leases, reasons, strict=True)
        if lease.get("state") not in ("live", "unavailable")
    ]
    is_refused = any(lease.get("state") == "refused" for lease in leases)
    return ", ".join(absent) or "it has not started serving yet", is_refused


def show(plan: Planned) -> None:
    """Print every file that would be written and every unit that would be started."""
    for path, text in plan.files.items():
        print(f"==> {path}\n{text}")
    for path in plan.leftovers:
        print(f"==> {path} would be removed")
    print(f"==> enabled and started: {', '.join(plan.enabled)}")


def report(plan: Planned, done: Installed) -> None:
    """Print what was done, the rules, and what to type next."""
    warn(plan.config.warnings)
    for note in done.notes:
        warn([note])
    if plan.keeps_edited:
        say(f"{units.CONFIG} was edited and stays as it is")
    if not done.changed:
        say("everything is up to date; nothing was changed")
    print(f"Who gets credentials, by {units.CONFIG}:\n")
    print(rules_of(plan.config_text))
    if done.why_not_ready is None:
        region = "" if plan.config.region is None else f" --region {plan.config.region}"
        print(f"Ready. Next, {whose(plan.config)}:  aws sts get-caller-identity{region}")


def rules_of(text: str) -> str:
    """Return the rules of a configuration as they are written."""
    return text[text.index("[[rules]]") :] if "[[rules]]" in text else ""


def whose(config: Config) -> str:
    users = [str(rule.who.user) for rule in config.rules if rule.who.user is not None]
    return f"as {' or '.join(users)}" if users else "as any user of this host"


def say(text: str) -> None:
    print(f"namespace-broker: {text}", file=sys.stderr)
