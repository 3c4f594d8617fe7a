"""The paths and unit names of an installation, and the text of its unit files."""

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
ROOTS: Final = Path("/run/namespace-broker-root")
"""Where our own commands write for programs of root."""

TOKEN_SOURCE: Final = Path("/var/run/nsc/token.json")
SPEC_SOURCE: Final = Path("/var/run/nsc/token.spec")
"""Where a Namespace machine has them. Source: namespace-api 2.3, 5."""

TOKEN_COPY: Final = STATE / "identity" / "token.json"
"""The token file at the path where the service reads it."""

SPEC_CREDENTIAL: Final = Path("/run/credentials/namespace-broker.service/token.spec")
"""The token spec at the path where the service reads it. Source: systemd.exec(5)."""

SERVICE: Final = "namespace-broker.service"
SOCKET: Final = "namespace-broker.socket"
ADDRESS: Final = "namespace-broker-address.service"
READY: Final = "namespace-broker-ready.service"
TARGET: Final = "namespace-broker.target"
TOKEN_PATH: Final = "namespace-broker-token.path"  # noqa: S105 - a unit's name
TOKEN_SERVICE: Final = "namespace-broker-token.service"  # noqa: S105
TOKEN_TIMER: Final = "namespace-broker-token.timer"  # noqa: S105
SOCKETS: Final = (
    SOCKET,
    "namespace-broker-container.socket",
    "namespace-broker-ops.socket",
    "namespace-broker-control.socket",
)
UNITS: Final = (
    *(SERVICE, *SOCKETS, ADDRESS, TOKEN_PATH, TOKEN_SERVICE, TOKEN_TIMER),
    *(READY, TARGET),
)

DROP_IN: Final = "install.conf"
"""The name of our file in a unit's drop-in directory; all others are the operator's."""

PACKAGE = Path(__file__).parent.parent
MARK = "# Written by `namespace-broker install`; to change it: systemctl edit"


def unit_files(program: str) -> dict[str, str]:
    """Return the text of each unit, by name, for a program installed at *program*."""
    folder = shipped()
    return {
        name: f"{MARK} {name}\n" + (folder / name).read_text().replace(str(PROGRAM), program)
        for name in UNITS
    }


def shipped() -> Path:
    """Return the directory of the unit files: in the package, or beside it in a checkout."""
    packaged = PACKAGE / "units"
    return packaged if packaged.is_dir() else PACKAGE.parent / "systemd"


def drop_ins(*, token_file: Path | None, token_spec: Path | None) -> dict[str, str]:
    """Return the drop-in of each unit that must know an unusual path of the identity."""
    added: dict[str, str] = {}
    if token_file is not None and token_file != TOKEN_SOURCE:
        added[TOKEN_PATH] = f"[Path]\nPathChanged=\nPathChanged={escaped(token_file)}\n"
        added[TOKEN_SERVICE] = f'[Service]\nEnvironment="NSC_TOKEN_FILE={escaped(token_file)}"\n'
    if token_spec is not None:
        added[SERVICE] = f"[Service]\nLoadCredential={SPEC_CREDENTIAL.name}:{escaped(token_spec)}\n"
    return {name: f"{MARK} {name}\n{text}" for name, text in added.items()}


def escaped(path: Path) -> str:
    """Return a path for a unit file, where ``%`` begins a specifier."""
    return str(path).replace("%", "%%")
