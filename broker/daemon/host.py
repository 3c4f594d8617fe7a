"""What this machine says of itself, for the metadata that IMDS serves. Asks nobody else."""

import platform
import socket
from hashlib import sha256
from pathlib import Path
from uuid import getnode

MACHINE_ID = Path("/etc/machine-id")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def machine_id() -> str:
    """Return what stays the same over restarts of this machine; its name where it has no id."""
    return _line_in(MACHINE_ID) or socket.gethostname()


def boot_id() -> str:
    """Return what another machine has otherwise, a clone of this one too, and this one once it is
    started again. A hash: the machine's id is not for everybody (machine-id(5))."""
    both = f"{machine_id()} {_line_in(BOOT_ID)}"
    return sha256(both.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _line_in(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def architecture() -> str:
    """Return the processor as EC2 spells it."""
    return {"aarch64": "arm64"}.get(platform.machine(), platform.machine())


def mac() -> str | None:
    """Return the hardware address, or None where the system shows none."""
    node = getnode()
    if node >> 40 & 1:  # made up by Python, another one each time
        return None
    return ":".join(f"{node >> shift & 0xFF:02x}" for shift in range(40, -8, -8))


def local_ipv4() -> str | None:
    """Return the address that packets to elsewhere leave from, or None. Sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1; connecting UDP only looks up the route
        except OSError:
            return None
        return str(probe.getsockname()[0])
