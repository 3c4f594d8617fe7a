"""Where everything of an installation is on a host, and its units' names. Touches nothing."""

from pathlib import Path
from typing import Final

CONFIG: Final = Path("/etc/namespace-broker/config.toml")
UNITS_WRITTEN: Final = Path("/etc/systemd/system")
UNITS_PACKAGED: Final = (Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))

PROGRAM: Final = Path("/usr/bin/namespace-broker")
"""The program, as the unit files have it."""

STATE: Final = Path("/var/lib/namespace-broker")
LOGS: Final = Path("/var/log/namespace-broker")
RUNTIME: Final = Path("/run/namespace-broker")
PRIVATE: Final = Path("/run/namespace-broker-private")

TOKEN_SOURCE: Final = Path("/var/run/nsc/token.json")
SPEC_SOURCE: Final = Path("/var/run/nsc/token.spec")
"""Where a Namespace machine has them. Source: namespace-api 2.3, 5."""

TOKEN_COPY: Final = STATE / "identity" / "token.json"
"""The token file, as the service sees it."""

SPEC_CREDENTIAL: Final = Path("/run/credentials/namespace-broker.service/token.spec")
"""The token spec, as the service sees it. Source: systemd.exec(5), LoadCredential=."""

SERVICE: Final = "namespace-broker.service"
SOCKET: Final = "namespace-broker.socket"
ADDRESS: Final = "namespace-broker-address.service"
TOKEN_PATH: Final = "namespace-broker-token.path"  # noqa: S105 - a unit's name
TOKEN_SERVICE: Final = "namespace-broker-token.service"  # noqa: S105
TOKEN_TIMER: Final = "namespace-broker-token.timer"  # noqa: S105
SOCKETS: Final = (
    SOCKET,
    "namespace-broker-container.socket",
    "namespace-broker-ops.socket",
    "namespace-broker-control.socket",
)
UNITS: Final = (SERVICE, *SOCKETS, ADDRESS, TOKEN_PATH, TOKEN_SERVICE, TOKEN_TIMER)

DROP_IN: Final = "install.conf"
"""The file in a unit's drop-in directory that is ours; all others are the operator's."""
