"""Take back what an installation made."""

import shutil
from collections.abc import Callable
from pathlib import Path

from broker.installer import host as hosts
from broker.installer import places
from broker.installer.changes import Changes
from broker.installer.host import Host, Refusal
from broker.installer.install import ours_on
from broker.installer.systemctl import SystemdFailed

KEPT = (places.STATE, places.STATE.parent / "private" / places.STATE.name)
LOGGED = (places.LOGS, places.LOGS.parent / "private" / places.LOGS.name)
FLEETING = (places.RUNTIME, places.PRIVATE)


def uninstall(host: Host, *, purge: bool, say: Callable[[str], None]) -> list[Path]:
    """Stop and disable the units, remove those that we wrote, and return what is left on purpose.

    *purge* removes configuration, state and logs too.

    Raises:
        Refusal: It cannot be done here, or systemd cannot stop what runs.
    """
    hosts.require_powers(host)
    systemctl = host.systemctl
    try:
        if running := [unit for unit in places.UNITS if systemctl.is_active(unit)]:
            systemctl.stop(*running)
            say(f"stopped {', '.join(running)}")
        enabled = [
            unit
            for unit in (places.SERVICE, places.SOCKET, places.TOKEN_PATH)
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
            systemctl.look_again()
        systemctl.forget_failures(*places.UNITS)
        for path in (*FLEETING, *((*KEPT, *LOGGED, places.CONFIG.parent) if purge else ())):
            if _removed(host.on_disk(path)):
                say(f"removed {path}")
    except (SystemdFailed, OSError) as error:
        raise Refusal("uninstall", str(error), "see systemctl status namespace-broker") from error
    left = (places.CONFIG, places.STATE, places.LOGS)
    return [path for path in left if host.on_disk(path).exists()]


def _removed(place: Path) -> bool:
    if place.is_symlink():
        place.unlink()
        return True
    if place.is_dir():
        shutil.rmtree(place)
        return True
    return False
