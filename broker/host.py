"""What this machine says of itself, for the metadata that IMDS serves. Asks nobody else."""

import platform
import socket
from pathlib import Path
from uuid import getnode

MACHINE_ID = Path("/etc/machine-id")


def machine_id() -> str:
    """Return what stays the same over restarts of this machine; its name where it has no id."""
    try:
        text = MACHINE_ID.read_text().strip()
    except (OSError, UnicodeDecodeError):
        text = ""
    return text or socket.gethostname()


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
