"""What an operator said, validated: frozen values the daemon is wired from. No parsing here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from broker.access.rules import Rule
from broker.credentials import Role

IdentitySource = Literal["auto", "token-file", "token-spec", "sts", "cognito"]
Algorithm = Literal["ES384", "RS256"]
AuditStream = Literal["journald", "stdout"]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFlags:
    """What was said to `login` of the AWS identity, as it was typed."""

    via: Literal["sts", "cognito"]
    workspace: str | None = None
    identity_pool: str | None = None
    region: str | None = None
    profile: str | None = None
    audience: str | None = None
    algorithm: Algorithm | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: an IP address as text, and a port; port 0 picks one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_link_local(self) -> bool:
        return ip_address(self.host).is_link_local


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityConfig:
    """Who we are at Namespace. What ``source`` needs is set, and what has no meaning for it is not.

    ``region`` None: the AWS profile's own. ``identity_pool`` is ``region:guid``. The defaults are
    the guide's.
    """

    name: str
    source: IdentitySource = "auto"
    token_file: Path | None = None
    token_spec: Path | None = None
    workspace: str | None = None
    audience: str = "https://federation.namespaceapis.com"
    algorithm: Algorithm = "ES384"
    duration_s: int = 300
    region: str | None = None
    profile: str | None = None
    identity_pool: str | None = None
    developer_provider: str = "namespace.so"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleConfig:
    """A role, and with whose ID token for which audience it is assumed."""

    role: Role
    identity: str
    audience: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceTokenConfig:
    """An identity whose token is handed on: in ``file``, by ``http`` on the container addresses."""

    identity: str
    file: Path | None = None
    group: str | None = None
    http: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IdTokenConfig:
    """An ID token that is kept fresh. ``role`` is the ARN of the role that it is for, if said."""

    name: str
    audience: str
    file: Path | None = None
    identity: str
    role: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImdsConfig:
    """``hop_limit`` None: as `hop_limit_at` has it."""

    listen: tuple[Address, ...] = ()
    v1: bool = False
    hop_limit: int | None = None
    instance_id: str | None = None

    def hop_limit_at(self, address: Address) -> int | None:
        """Return how many routers an answer from there may pass: on a link-local address none,
        unless it was said; None: as many as the system lets it."""
        if self.hop_limit is None and address.is_link_local:
            return 1
        return self.hop_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerConfig:
    """``tokens`` are the files of those that name a caller, by name: each that the table or a rule
    names. ``listen_said``: somebody wished it so; it is not the default."""

    listen: tuple[Address, ...]
    listen_said: bool = True
    token_file: Path
    token_group: str | None = None
    tokens: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsConfig:
    """``listen_said`` as in `ContainerConfig`."""

    listen: tuple[Address, ...]
    listen_said: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardConfig:
    allowed_hosts: tuple[str, ...] = ()
    max_connections: int = 1024
    max_connections_per_caller: int = 64
    header_bytes: int = 16384
    header_timeout_s: float = 5
    idle_timeout_s: float = 75


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditConfig:
    """Where the audit goes: a file, a stream, or nowhere."""

    to: Path | AuditStream | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    format: LogFormat = "auto"
    level: LogLevel = "info"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Where the clouds are, without trailing slash; AWS's endpoints None: the regional ones."""

    iam_endpoint: str
    sts_endpoint: str | None = None
    cognito_endpoint: str | None = None
    ca_bundle: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a broker is wired from. ``region`` is None where nobody said one: none is served.

    The first of ``roles`` is not always the default; ``default_role`` is a name in ``roles``, and
    None where there are none. ``identities`` are those that a role or token uses, no others, and
    each ``identity`` is a key of it. Without ``rules`` it is the owner's broker; with them, roles,
    tokens and audiences that they name are there.
    """

    default_role: str | None
    roles: tuple[RoleConfig, ...]
    identities: Mapping[str, IdentityConfig]
    namespace_tokens: tuple[NamespaceTokenConfig, ...] = ()
    id_tokens: tuple[IdTokenConfig, ...] = ()
    region: str | None
    availability_zone: str | None
    state_dir: Path | None
    runtime_dir: Path
    imds: ImdsConfig
    container: ContainerConfig
    ops: OpsConfig
    rules: tuple[Rule, ...] = ()
    guard: GuardConfig
    audit: AuditConfig = field(default=AuditConfig())
    log: LogConfig
    start_timeout_s: float
    upstream: Upstream
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Which AWS identity becomes a Namespace token once, and where the clouds are."""

    identity: IdentityConfig
    upstream: Upstream
    warnings: tuple[str, ...] = ()
