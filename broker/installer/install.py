"""Install: run all checks, write all files, start the units; undo everything on failure."""

import difflib
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from broker.config import Config, Flags, load
from broker.installer import host as hosts
from broker.installer import units
from broker.installer.changes import Changes
from broker.installer.config_text import Desired, config_text, is_as_written, is_edited_from
from broker.installer.host import Host, Refusal
from broker.installer.systemctl import SystemdFailed

SERVICE_ENVIRONMENT = {
    "RUNTIME_DIRECTORY": str(units.RUNTIME),
    "STATE_DIRECTORY": str(units.STATE),
}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The files that an installation writes and the units that it starts.

    ``config_text`` is what the service will read; ``files`` has it too, unless the operator's own
    file stays.
    """

    config: Config
    config_text: str
    keeps_edited: bool
    token_file: Path | None
    """The token file to copy, where there is one."""
    files: dict[Path, str]
    leftovers: tuple[Path, ...]
    """Files of an earlier installation that this one does not need."""
    enabled: tuple[str, ...]
    disabled: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The changes an installation made, and why the broker is not ready (None where it is)."""

    written: tuple[Path, ...] = ()
    removed: tuple[Path, ...] = ()
    enabled: tuple[str, ...] = ()
    why_not_ready: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def changed(self) -> bool:
        return bool(self.written or self.removed or self.enabled)


def planned(desired: Desired | None, host: Host) -> Planned:
    """Return the plan for the *desired* installation; None keeps the existing configuration.

    Raises:
        Refusal: A check failed.
        ConfigError: The configuration would be invalid.
    """
    text, keeps_edited = _config(desired, host)
    config = _checked(text)
    if desired is None and not config.rules:
        raise Refusal(
            str(units.CONFIG), "has no [[rules]]", "add one, or give --role-arn", misuse=True
        )
    token_file, token_spec = _identity_files(desired, config, host)
    files: dict[Path, str] = {}
    if not host.is_packaged():
        written = units.unit_files(str(host.program))
        files |= {units.UNITS_WRITTEN / name: unit for name, unit in written.items()}
    added = units.drop_ins(token_file=token_file, token_spec=token_spec)
    files |= {_drop_in(unit): said for unit, said in added.items()}
    if desired is not None and not keeps_edited:
        files[units.CONFIG] = text
    wants_copy = token_file is not None
    enabled = (units.SERVICE, *([units.TOKEN_PATH] if wants_copy else []))
    return Planned(
        config=config,
        config_text=text,
        keeps_edited=keeps_edited,
        token_file=token_file,
        files=files,
        leftovers=tuple(path for path in ours_on(host) if path not in files),
        enabled=enabled,
        disabled=() if wants_copy else (units.TOKEN_PATH,),
    )


def install(plan: Planned, host: Host, *, say: Say) -> Installed:
    """Carry out *plan* and wait for the broker; undo everything where systemd cannot start it.

    Raises:
        Refusal: A unit failed to start; the reason is the unit's own.
    """
    hosts.require_powers(host)
    hosts.require_reachable(host)
    hosts.require_free_addresses(host)
    changes = Changes(host.root)
    done: list[str] = []
    try:
        _write(plan, changes)
        _start(plan, host, changes, done)
    except (SystemdFailed, OSError) as error:
        reason = _reason(host, error)
        _undo(host, changes, done)
        raise Refusal(
            "install", f"failed and was undone: {reason}", "see journalctl -u namespace-broker"
        ) from error
    except BaseException:
        _undo(host, changes, done)
        raise
    for path in changes.written:
        say(f"wrote {path}")
    for path in changes.removed:
        say(f"removed {path}")
    for unit in done:
        say(f"enabled {unit}")
    return Installed(
        written=tuple(changes.written),
        removed=tuple(changes.removed),
        enabled=tuple(done),
        why_not_ready=host.why_not_ready(),
        notes=tuple(_notes(host)),
    )


def ours_on(host: Host) -> list[Path]:
    """Return every unit file and drop-in that an earlier installation wrote."""
    candidates = [
        *(units.UNITS_WRITTEN / unit for unit in units.UNITS),
        *(_drop_in(unit) for unit in units.UNITS),
    ]
    return [path for path in candidates if _is_ours(host.on_disk(path))]


def _is_ours(place: Path) -> bool:
    try:
        return place.read_text().startswith(units.MARK)
    except (OSError, UnicodeDecodeError):
        return False


def _drop_in(unit: str) -> Path:
    return units.UNITS_WRITTEN / f"{unit}.d" / units.DROP_IN


def _config(desired: Desired | None, host: Host) -> tuple[str, bool]:
    """Return the configuration to use, and whether it is the operator's own."""
    there = Changes(host.root).content(units.CONFIG)
    if desired is None:
        if there is None:
            raise Refusal(
                "--role-arn",
                "is missing",
                "give the role: --role-arn arn:aws:iam::ACCOUNT:role/NAME",
                misuse=True,
            )
        return there, True
    text = config_text(desired)
    if there is None or is_as_written(there):
        return text, False
    if is_edited_from(there, text):
        return there, True
    raise Refusal(
        str(units.CONFIG),
        "was edited, so it is not replaced",
        "edit it and `systemctl reload namespace-broker`, or move it away and install again",
        detail=_difference(there, text),
    )


def _difference(there: str, text: str) -> str:
    """Return the diff from what is *there* to *text*."""
    names = (str(units.CONFIG), "what these flags would write")
    before, after = there.splitlines(keepends=True), text.splitlines(keepends=True)
    return "".join(difflib.unified_diff(before, after, *names))


def _checked(text: str) -> Config:
    """Return *text* as the service will read it."""
    with tempfile.TemporaryDirectory(prefix="namespace-broker-") as folder:
        file = Path(folder) / units.CONFIG.name
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
        return load(Flags(config=str(file)), SERVICE_ENVIRONMENT)


def _identity_files(
    desired: Desired | None, config: Config, host: Host
) -> tuple[Path | None, Path | None]:
    """Return the token file to copy and the token spec to load, where they are configured."""
    wants_copy = any(each.token_file == units.TOKEN_COPY for each in config.identities.values())
    wants_spec = any(
        each.token_spec == units.SPEC_CREDENTIAL for each in config.identities.values()
    )
    given = None if desired is None else desired.identity
    token_file = given.path if given and given.kind == "token-file" else units.TOKEN_SOURCE
    token_spec = given.path if given and given.kind == "token-spec" else units.SPEC_SOURCE
    if wants_copy:
        hosts.require_readable_by_root(host, token_file, place="--token-file")
    if wants_spec:
        hosts.require_readable_by_root(host, token_spec, place="--token-spec")
        if not host.on_disk(token_spec).exists():
            raise Refusal(
                "--token-spec", f"{token_spec} does not exist", "name another", misuse=True
            )
    return token_file if wants_copy else None, token_spec if wants_spec else None


def _write(plan: Planned, changes: Changes) -> None:
    for path in plan.leftovers:
        changes.remove(path)
    for path, text in plan.files.items():
        changes.write(path, text)


def _start(plan: Planned, host: Host, changes: Changes, done: list[str]) -> None:
    """Start what is stopped and restart what changed.

    *done* collects the units that were not enabled before.
    """
    systemctl = host.systemctl
    changed = {path.name for path in changes.written} | {
        path.parent.name.removesuffix(".d")
        for path in (*changes.written, *changes.removed)
        if path.name == units.DROP_IN
    }
    if changes.written or changes.removed:
        systemctl.reload()
    if gone := [unit for unit in plan.disabled if systemctl.is_enabled(unit)]:
        systemctl.disable(*gone)
        systemctl.stop(*gone)
    if fresh := [unit for unit in plan.enabled if not systemctl.is_enabled(unit)]:
        done.extend(fresh)
        systemctl.enable(*fresh)
    running = [unit for unit in (*units.SOCKETS, units.ADDRESS) if systemctl.is_active(unit)]
    if again := [unit for unit in running if unit in changed]:
        systemctl.restart(*again)
    copying = [unit for unit in plan.enabled if unit == units.TOKEN_PATH]
    if copying and (changed & {units.TOKEN_PATH, units.TOKEN_SERVICE}):
        systemctl.restart(*copying)
    if not systemctl.is_active(units.SERVICE):
        systemctl.start(*copying, units.SERVICE)
    elif changed & {units.SERVICE, units.CONFIG.name, units.TOKEN_SERVICE}:
        systemctl.restart(units.SERVICE)


def _reason(host: Host, error: SystemdFailed | OSError) -> str:
    """Return why it failed: the failed unit's own message, else systemd's."""
    failed = [unit for unit in units.UNITS if host.systemctl.is_failed(unit)]
    # A unit that systemd starts again and again is not failed, and not active.
    failed += [
        unit for unit in (units.ADDRESS, units.SERVICE) if not host.systemctl.is_active(unit)
    ]
    # What others wait for first: the service fails where its address or a socket does.
    for unit in sorted(failed, key=lambda unit: unit == units.SERVICE):
        if words := host.systemctl.last_words(unit):
            return words.removeprefix("namespace-broker: ").removeprefix(f"{unit}: ")
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _undo(host: Host, changes: Changes, done: list[str]) -> None:
    """Restore everything; a failure of systemd does not stop the steps that do not need it."""
    systemctl = host.systemctl
    steps: list[Callable[[], None]] = []
    if done:
        steps = [lambda: systemctl.disable(*done), lambda: systemctl.stop(*units.UNITS)]
    steps += [
        changes.undo,
        systemctl.reload,
        lambda: systemctl.forget_failures(*units.UNITS),
    ]
    for step in steps:
        with suppress(SystemdFailed):
            step()


def _notes(host: Host) -> list[str]:
    version = host.systemctl.version()
    if version is not None and version < hosts.KEEPS_LEASES_OVER_A_STOP:
        return [
            f"systemd {version} keeps leases over a restart, not over a stop and a later start; "
            f"{hosts.KEEPS_LEASES_OVER_A_STOP} does"
        ]
    return []
