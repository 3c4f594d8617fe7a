"""Install: all checks, then all files, then the units; or nothing at all."""

import difflib
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from broker.config import Config, Flags, load
from broker.installer import host as hosts
from broker.installer import places, units
from broker.installer.changes import Changes
from broker.installer.config_text import Wanted, config_text, is_as_written, is_edited_from
from broker.installer.host import Host, Refusal
from broker.installer.systemctl import SystemdFailed

SERVICE_ENVIRONMENT = {
    "RUNTIME_DIRECTORY": str(places.RUNTIME),
    "STATE_DIRECTORY": str(places.STATE),
}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What an installation writes and starts. ``config_text`` is what the service will read;
    ``files`` has it too, unless the operator's own stays."""

    config: Config
    config_text: str
    keeps_edited: bool
    token_file: Path | None
    """The token file that is to be copied, where one is."""
    files: dict[Path, str]
    leftovers: tuple[Path, ...]
    """Files that an earlier installation wrote and this one has no use for."""
    enabled: tuple[str, ...]
    disabled: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What an installation did, and why the broker is not ready, None where it is."""

    written: tuple[Path, ...] = ()
    removed: tuple[Path, ...] = ()
    enabled: tuple[str, ...] = ()
    why_not_ready: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def changed(self) -> bool:
        return bool(self.written or self.removed or self.enabled)


def planned(wanted: Wanted | None, host: Host) -> Planned:
    """Return what is to be done for what is *wanted*; for None, with the configuration there is.

    Raises:
        Refusal: It cannot be done: see each check.
        ConfigError: The configuration would be no good.
    """
    text, keeps_edited = _config(wanted, host)
    config = _checked(text)
    if wanted is None and not config.rules:
        raise Refusal(
            str(places.CONFIG), "has no [[rules]]", "add one, or give --role-arn", misuse=True
        )
    token_file, token_spec = _identity_files(wanted, config, host)
    files: dict[Path, str] = {}
    if not host.is_packaged():
        written = units.unit_files(str(host.program))
        files |= {places.UNITS_WRITTEN / name: unit for name, unit in written.items()}
    added = units.drop_ins(token_file=token_file, token_spec=token_spec)
    files |= {_drop_in(unit): said for unit, said in added.items()}
    if wanted is not None and not keeps_edited:
        files[places.CONFIG] = text
    wants_copy = token_file is not None
    enabled = (places.SERVICE, *([places.TOKEN_PATH] if wants_copy else []))
    return Planned(
        config=config,
        config_text=text,
        keeps_edited=keeps_edited,
        token_file=token_file,
        files=files,
        leftovers=tuple(path for path in ours_on(host) if path not in files),
        enabled=enabled,
        disabled=() if wants_copy else (places.TOKEN_PATH,),
    )


def install(plan: Planned, host: Host, *, say: Say) -> Installed:
    """Carry *plan* out, and wait for the broker. Where systemd cannot start it, everything is
    as it was before.

    Raises:
        Refusal: It could not be started; the reason is the unit's own.
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
        _take_back(host, changes, done)
        raise Refusal(
            "install", f"is taken back: {reason}", "see journalctl -u namespace-broker"
        ) from error
    except BaseException:
        _take_back(host, changes, done)
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
    """Return every unit file and drop-in on the host that an installation wrote."""
    candidates = [
        *(places.UNITS_WRITTEN / unit for unit in places.UNITS),
        *(_drop_in(unit) for unit in places.UNITS),
    ]
    return [path for path in candidates if _is_ours(host.on_disk(path))]


def _is_ours(place: Path) -> bool:
    try:
        return place.read_text().startswith(units.MARK)
    except (OSError, UnicodeDecodeError):
        return False


def _drop_in(unit: str) -> Path:
    return places.UNITS_WRITTEN / f"{unit}.d" / places.DROP_IN


def _config(wanted: Wanted | None, host: Host) -> tuple[str, bool]:
    """Return the configuration that is to stand, and whether it is the operator's own."""
    there = Changes(host.root).content(places.CONFIG)
    if wanted is None:
        if there is None:
            raise Refusal(
                "--role-arn",
                "is missing",
                "give the role: arn:aws:iam::ACCOUNT:role/NAME",
                misuse=True,
            )
        return there, True
    text = config_text(wanted)
    if there is None or is_as_written(there):
        return text, False
    if is_edited_from(there, text):
        return there, True
    raise Refusal(
        str(places.CONFIG),
        f"was edited, so it is not replaced; these flags want {_difference(there, text)}",
        "edit it and `systemctl reload namespace-broker`, or move it away and install again",
    )


def _difference(there: str, text: str) -> str:
    """Return in one line what *text* has that is not *there*, and what it lacks."""
    said = [
        line
        for line in difflib.ndiff(_lines(there), _lines(text))
        if line.startswith(("+ ", "- ")) and line[2:].strip()
    ]
    return ", ".join(said) or "the same in another order"


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith("#")]


def _checked(text: str) -> Config:
    """Return what the service will make of *text*."""
    with tempfile.TemporaryDirectory(prefix="namespace-broker-") as folder:
        file = Path(folder) / places.CONFIG.name
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
        return load(Flags(config=str(file)), SERVICE_ENVIRONMENT)


def _identity_files(
    wanted: Wanted | None, config: Config, host: Host
) -> tuple[Path | None, Path | None]:
    """Return the token file to be copied, and the token spec to be handed over, where the
    configuration wants them."""
    wants_copy = any(each.token_file == places.TOKEN_COPY for each in config.identities.values())
    wants_spec = any(
        each.token_spec == places.SPEC_CREDENTIAL for each in config.identities.values()
    )
    given = None if wanted is None else wanted.identity
    token_file = given.path if given and given.kind == "token-file" else places.TOKEN_SOURCE
    token_spec = given.path if given and given.kind == "token-spec" else places.SPEC_SOURCE
    if wants_copy:
        hosts.require_readable_by_root(host, token_file, place="--token-file")
    if wants_spec:
        hosts.require_readable_by_root(host, token_spec, place="--token-spec")
        if not host.on_disk(token_spec).exists():
            raise Refusal("--token-spec", f"{token_spec} is not there", "name another", misuse=True)
    return token_file if wants_copy else None, token_spec if wants_spec else None


def _write(plan: Planned, changes: Changes) -> None:
    for path in plan.leftovers:
        changes.remove(path)
    for path, text in plan.files.items():
        changes.write(path, text)


def _start(plan: Planned, host: Host, changes: Changes, done: list[str]) -> None:
    """Have systemd start what is not started, and start anew what changed. *done* takes the units
    that were not enabled before."""
    systemctl = host.systemctl
    changed = {path.name for path in changes.written} | {
        path.parent.name.removesuffix(".d")
        for path in (*changes.written, *changes.removed)
        if path.name == places.DROP_IN
    }
    if changes.written or changes.removed:
        systemctl.look_again()
    if gone := [unit for unit in plan.disabled if systemctl.is_enabled(unit)]:
        systemctl.disable(*gone)
        systemctl.stop(*gone)
    if fresh := [unit for unit in plan.enabled if not systemctl.is_enabled(unit)]:
        done.extend(fresh)
        systemctl.enable(*fresh)
    running = [unit for unit in (*places.SOCKETS, places.ADDRESS) if systemctl.is_active(unit)]
    if again := [unit for unit in running if unit in changed]:
        systemctl.restart(*again)
    copying = [unit for unit in plan.enabled if unit == places.TOKEN_PATH]
    if copying and (changed & {places.TOKEN_PATH, places.TOKEN_SERVICE}):
        systemctl.restart(*copying)
    if not systemctl.is_active(places.SERVICE):
        systemctl.start(*copying, places.SERVICE)
    elif changed & {places.SERVICE, places.CONFIG.name, places.TOKEN_SERVICE}:
        systemctl.restart(places.SERVICE)


def _reason(host: Host, error: SystemdFailed | OSError) -> str:
    """Return why it failed: what the unit's own program said of it, else what systemd did."""
    for unit in (places.ADDRESS, places.SERVICE):
        if not host.systemctl.is_active(unit) and (said := host.systemctl.last_words(unit)):
            return said.removeprefix("namespace-broker: ")
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _take_back(host: Host, changes: Changes, done: list[str]) -> None:
    """Put everything back as it was. What systemd has no part in is done whatever it says."""
    systemctl = host.systemctl
    steps: list[Callable[[], None]] = []
    if done:
        steps = [lambda: systemctl.disable(*done), lambda: systemctl.stop(*places.UNITS)]
    steps += [
        changes.undo,
        systemctl.look_again,
        lambda: systemctl.forget_failures(*places.UNITS),
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
