"""What an operator said, validated: frozen values the daemon is wired from. No parsing here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from broker.credentials import Role

IdentitySource = Literal["auto", "token-file", "token-spec"]
LogFormat = Literal["auto", "console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What was said on the command line, as it was typed. None or empty: nothing was."""

    config: str | None = None
    role_arns: tuple[str, ...] = ()
    region: str | None = None
    imds: tuple[str, ...] = ()
    container: tuple[str, ...] = ()
    ops: tuple[str, ...] = ()
    container_token_file: str | None = None
    state_dir: str | None = None
    runtime_dir: str | None = None
    log_format: str | None = None
    log_level: str | None = None
    start_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: an IP address as text, and a port; port 0 picks one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityConfig:
    """Who we are at Namespace. The path that ``source`` names is set; with ``auto``, none."""

    name: str
    source: IdentitySource = "auto"
    token_file: Path | None = None
    token_spec: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleConfig:
    """A role, and with whose ID token for which audience it is assumed."""

    role: Role
    identity: str
    audience: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImdsConfig:
    listen: tuple[Address, ...] = ()
    v1: bool = False
    hop_limit: int | None = None
    instance_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerConfig:
    listen: tuple[Address, ...]
    token_file: Path
    token_group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsConfig:
    listen: tuple[Address, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardConfig:
    allowed_hosts: tuple[str, ...] = ()
    max_connections: int = 1024
    max_connections_per_caller: int = 64
    header_bytes: int = 16384
    header_timeout_s: float = 5
    idle_timeout_s: float = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    format: LogFormat = "auto"
    level: LogLevel = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where the clouds are, without trailing slash; ``sts_endpoint`` None: the regional one."""

    iam_endpoint: str
    sts_endpoint: str | None = None
    ca_bundle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a broker is wired from. ``region`` is None where nobody said one: none is served.

    The first of ``roles`` is not always the default; ``default_role`` is a name in ``roles``, and
    every role's ``identity`` is a key of ``identities``.
    """

    default_role: str | None
    roles: tuple[RoleConfig, ...]
    identities: Mapping[str, IdentityConfig]
    region: str | None
    availability_zone: str | None
    state_dir: Path | None
    runtime_dir: Path
    imds: ImdsConfig
    container: ContainerConfig
    ops: OpsConfig
    guard: GuardConfig
    log: LogConfig
    start_timeout_s: float
    upstream: Upstream
    warnings: tuple[str, ...] = field(default=())
