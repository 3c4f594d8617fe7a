"""Remove what an installation created."""

import shutil
from collections.abc import Callable
from pathlib import Path

from broker.installer import host as hosts
from broker.installer import units
from broker.installer.changes import Changes
from broker.installer.host import Host, Refusal
from broker.installer.install import ours_on
from broker.installer.systemctl import SystemdFailed

KEPT = (units.STATE, units.STATE.parent / "private" / units.STATE.name)
LOGGED = (units.LOGS, units.LOGS.parent / "private" / units.LOGS.name)
FLEETING = (units.RUNTIME, units.PRIVATE, units.ROOTS)


def uninstall(host: Host, *, purge: bool, say: Callable[[str], None]) -> list[Path]:
    """Stop and disable the units, remove our files, and return the paths that are kept.

    *purge* removes configuration, state and logs too.

    Raises:
        Refusal: It cannot be done here, or systemd cannot stop a unit.
    """
    hosts.require_powers(host)
    systemctl = host.systemctl
    try:
        if running := [unit for unit in units.UNITS if systemctl.is_active(unit)]:
            systemctl.stop(*running)
            say(f"stopped {', '.join(running)}")
        enabled = [
            unit
            for unit in (units.SERVICE, units.SOCKET, units.TOKEN_PATH)
            if systemctl.is_enabled(unit)
        ]
        if enabled:
            systemctl.disable(*enabled)
            say(f"disabled {', '.join(enabled)}")
        changes = Changes(host.root)
        for path in ours_on(host):
            changes.remove(path)
            say(f"removed {path}")
        if changes.removed:
            systemctl.reload()
        systemctl.forget_failures(*units.UNITS)
        for path in (*FLEETING, *((*KEPT, *LOGGED, units.CONFIG.parent) if purge else ())):
            if _removed(host.on_disk(path)):
                say(f"removed {path}")
    except (SystemdFailed, OSError) as error:
        raise Refusal("uninstall", str(error), "see systemctl status namespace-broker") from error
    left = (units.CONFIG, units.STATE, units.LOGS)
    return [path for path in left if host.on_disk(path).exists()]


def _removed(place: Path) -> bool:
    if place.is_symlink():
        place.unlink()
        return True
    if place.is_dir():
        shutil.rmtree(place)
        return True
    return False
