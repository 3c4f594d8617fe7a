"""Facts about this machine, for the metadata that IMDS serves."""

import platform
import socket
from hashlib import sha256
from pathlib import Path
from uuid import getnode

MACHINE_ID = Path("/etc/machine-id")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def machine_id() -> str:
    """Return the id of this machine, which outlasts reboots; its name if it has none."""
    return _line_in(MACHINE_ID) or socket.gethostname()


def boot_id() -> str:
    """Return an id that differs on a clone of this machine, and after each boot.

    It is a hash, because the machine's own id is confidential (machine-id(5)).
    """
    both = f"{machine_id()} {_line_in(BOOT_ID)}"
    return sha256(both.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _line_in(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def architecture() -> str:
    """Return the architecture as EC2 spells it."""
    return {"aarch64": "arm64"}.get(platform.machine(), platform.machine())


def mac() -> str | None:
    """Return the hardware address, or None if the system shows none."""
    node = getnode()
    if node >> 40 & 1:  # Python made it up, and makes up another each time
        return None
    return ":".join(f"{node >> shift & 0xFF:02x}" for shift in range(40, -8, -8))


def local_ipv4() -> str | None:
    """Return the source address of packets to other hosts, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1; connecting UDP sends nothing
        except OSError:
            return None
        return str(probe.getsockname()[0])
