"""The configuration: one struct per table of the file, with the limits of its keys.

Where the table needs nothing else to be complete, the struct is also what the broker is built from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from broker.access.rules import Rule
from broker.config import validate
from broker.config.file import INTERNAL, Parsed
from broker.config.validate import Address, AuditStream
from broker.credentials import Role

Algorithm = Literal["ES384", "RS256"]
IdentitySource = Literal["auto", "token-file", "token-spec", "sts", "cognito"]
LogFormat = Literal["auto", "console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

STS_AUDIENCE = "sts.amazonaws.com"

Audience = Annotated[str, Meta(pattern=validate.VISIBLE, description=validate.GIVE_VISIBLE)]
Workspace = Annotated[str, Meta(pattern=validate.VISIBLE, description="give the workspace's id")]
SessionName = Annotated[str, Meta(pattern=validate.NAME, description=f"STS takes {validate.NAMES}")]
Letters = Annotated[
    str,
    Meta(pattern=r"\A[A-Za-z0-9_.-]{1,128}\Z", description=f"give 1 to 128 of {validate.LETTERS}"),
]
Region = Annotated[str, Parsed(str, validate.region)]
FilePath = Annotated[Path, Parsed(str, validate.path, "give the path of a file")]
TokenFilePath = Annotated[Path, Parsed(str, validate.token_file)]
Group = Annotated[str, Parsed(str, validate.group)]
Listen = Annotated[tuple[Address, ...], Parsed(list[str], validate.addresses)]
Seconds = Annotated[int, Meta(ge=900, le=43200, description="STS takes 900 to 43200")]
StartTimeout = Annotated[float, Meta(ge=0, le=86400)]
WebIdentitySeconds = Annotated[int, Meta(ge=60, le=3600, description="STS takes 60 to 3600")]


class BaseIdentityConfig(Struct, frozen=True, kw_only=True):
    """``[identities.NAME]``: who we are at Namespace; one subclass per ``source``."""

    name: Annotated[str, INTERNAL]

    @property
    def source(self) -> str:
        return str(self.__struct_config__.tag)

    @property
    def token_file(self) -> Path | None:
        return None

    @property
    def token_spec(self) -> Path | None:
        return None


class AutoIdentityConfig(BaseIdentityConfig, frozen=True, kw_only=True, tag="auto"):
    """What nsc would use."""


class TokenFileIdentityConfig(BaseIdentityConfig, frozen=True, kw_only=True, tag="token-file"):
    path: FilePath

    @property
    def token_file(self) -> Path | None:
        return self.path


class TokenSpecIdentityConfig(BaseIdentityConfig, frozen=True, kw_only=True, tag="token-spec"):
    path: FilePath

    @property
    def token_spec(self) -> Path | None:
        return self.path


class AwsIdentityConfig(BaseIdentityConfig, frozen=True, kw_only=True):
    """An AWS identity that is exchanged; ``region`` None is the AWS profile's own."""

    region: Region | None = None
    profile: Annotated[str, Parsed(str, validate.profile)] | None = None


class StsIdentityConfig(AwsIdentityConfig, frozen=True, kw_only=True, tag="sts"):
    """The defaults are those of Namespace's guide."""

    workspace: Workspace | None = None
    audience: Audience = "https://federation.namespaceapis.com"
    algorithm: Algorithm = "ES384"
    duration_s: WebIdentitySeconds = 300


class CognitoIdentityConfig(AwsIdentityConfig, frozen=True, kw_only=True, tag="cognito"):
    """``identity_pool`` is ``region:guid`` once the configuration is loaded."""

    workspace: Workspace
    identity_pool: Annotated[str, Parsed(str, validate.identity_pool, validate.GIVE_POOL)]
    developer_provider: Letters = "namespace.so"


IdentityConfig = (
    AutoIdentityConfig
    | TokenFileIdentityConfig
    | TokenSpecIdentityConfig
    | StsIdentityConfig
    | CognitoIdentityConfig
)
IDENTITY_SOURCES: Mapping[str, type[BaseIdentityConfig]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        AutoIdentityConfig,
        TokenFileIdentityConfig,
        TokenSpecIdentityConfig,
        StsIdentityConfig,
        CognitoIdentityConfig,
    )
}


class RoleTable(Struct, frozen=True, kw_only=True):
    """``[roles.NAME]``; a flag may give the ARN instead."""

    arn: Annotated[str, Parsed(str, validate.role_arn)] | None = None
    identity: str = "default"
    audience: Audience = STS_AUDIENCE
    duration_s: Seconds | Literal["max"] = 3600
    region: Region | None = None
    session_name: SessionName | None = None
    policy: Annotated[str, Parsed(str, validate.policy)] | None = None
    policy_file: str | None = None
    policy_arns: Annotated[tuple[str, ...], Parsed(list[str], validate.policy_arns)] = ()


class NamespaceTokenConfig(Struct, frozen=True, kw_only=True):
    """``[namespace_tokens.IDENTITY]``: an identity's token, exported to a file or over HTTP."""

    identity: Annotated[str, INTERNAL]
    file: TokenFilePath | None = None
    group: Group | None = None
    http: bool = False


class IdTokenConfig(Struct, frozen=True, kw_only=True):
    """``[id_tokens.NAME]``: an ID token that is kept fresh; ``role`` is the ARN it is for."""

    name: Annotated[str, INTERNAL]
    audience: Audience
    file: TokenFilePath | None = None
    identity: str = "default"
    role: str | None = None


class ImdsConfig(Struct, frozen=True, kw_only=True):
    """``[imds]``; ``hop_limit`` None is 1 on link-local addresses, elsewhere the system's."""

    listen: Listen = ()
    v1: bool = False
    hop_limit: Annotated[int, Meta(ge=1, le=255)] | None = None
    instance_id: Letters | None = None

    def hop_limit_at(self, address: Address) -> int | None:
        """Return the hop limit of answers from *address*; None leaves the system's."""
        if self.hop_limit is None and address.is_link_local:
            return 1
        return self.hop_limit


class ContainerTable(Struct, frozen=True, kw_only=True):
    """``[container]``, before flags and rules."""

    listen: Listen | None = None
    token_file: FilePath | None = None
    token_group: Group | None = None
    tokens: Annotated[Mapping[str, Path], Parsed(dict[str, str], validate.container_tokens)] = {}


class OpsTable(Struct, frozen=True, kw_only=True):
    """``[ops]``, before flags."""

    listen: Listen | None = None


class WhoTable(Struct, frozen=True, kw_only=True):
    """``who`` of ``[[rules]]``."""

    user: str | None = None
    uid: int | None = None
    group: str | None = None
    unit: str | None = None
    user_unit: str | None = None
    container: str | None = None
    exe: str | None = None
    cidr: str | None = None
    token: str | None = None
    any_local: bool | None = None


class RuleTable(Struct, frozen=True, kw_only=True):
    """``[[rules]]``."""

    who: Any = None
    roles: list[str] | None = None
    default_role: str | None = None
    policy: Annotated[str, Parsed(str, validate.policy)] | None = None
    tags: Annotated[tuple[tuple[str, str], ...], Parsed(dict[str, str], validate.tags)] = ()
    namespace_tokens: list[str] = []
    id_token_audiences: list[str] = []


class GuardConfig(Struct, frozen=True, kw_only=True):
    """``[guard]``; SDKs keep connections for a minute, so idle ones live longer: C-4."""

    allowed_hosts: tuple[Annotated[str, Parsed(str, validate.host)], ...] = ()
    max_connections: Annotated[int, Meta(ge=1, le=1_000_000)] = 1024
    max_connections_per_caller: Annotated[int, Meta(ge=1, le=1_000_000)] = 64
    header_bytes: Annotated[int, Meta(ge=1024, le=1 << 20)] = 16384
    header_timeout_s: Annotated[float, Meta(ge=0.1, le=600)] = 5
    idle_timeout_s: Annotated[float, Meta(ge=60, le=86400)] = 75


class AuditConfig(Struct, frozen=True, kw_only=True):
    """``[audit]``: a file, a stream, or nowhere."""

    to: Annotated[Path | AuditStream, Parsed(str, validate.audit_target)] | None = None


class LogConfig(Struct, frozen=True, kw_only=True):
    """``[log]``."""

    format: LogFormat = "auto"
    level: LogLevel = "info"


class File(Struct, frozen=True, kw_only=True):
    """The whole file. Roles, tokens and rules are read one by one, with what they refer to."""

    default_role: str | None = None
    region: Region | None = None
    availability_zone: str | None = None
    state_dir: FilePath | None = None
    identities: dict[str, Any] = {}
    roles: dict[str, Any] = {}
    namespace_tokens: dict[str, Any] = {}
    id_tokens: dict[str, Any] = {}
    imds: ImdsConfig = ImdsConfig()
    container: ContainerTable = ContainerTable()
    ops: OpsTable = OpsTable()
    rules: Any = ()
    guard: GuardConfig = GuardConfig()
    audit: AuditConfig = AuditConfig()
    log: LogConfig = LogConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The flags of `run`, as they were typed; None or empty where absent."""

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
    """The flags of `login` that name the AWS identity, as they were typed."""

    via: Literal["sts", "cognito"]
    workspace: str | None = None
    identity_pool: str | None = None
    region: str | None = None
    profile: str | None = None
    audience: str | None = None
    algorithm: Algorithm | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleConfig:
    """A role, and the identity and audience of the ID token that it is assumed with."""

    role: Role
    identity: str
    audience: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerConfig:
    """The container endpoint. ``tokens`` are the files of tokens that name a caller, by name.

    ``listen_explicit`` is whether ``listen`` was configured, not the default.
    """

    listen: tuple[Address, ...]
    listen_explicit: bool = True
    token_file: Path
    token_group: str | None = None
    tokens: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpsConfig:
    """The operators' endpoint; ``listen_explicit`` as in `ContainerConfig`."""

    listen: tuple[Address, ...]
    listen_explicit: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """Endpoints of the clouds, without trailing slash; None for AWS's regional ones."""

    iam_endpoint: str
    sts_endpoint: str | None = None
    cognito_endpoint: str | None = None
    ca_bundle: str | None = None
    use_fips: bool = False
    use_dualstack: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything a broker is built from; every name that it refers to exists.

    ``region`` None: none is configured, and none is served. ``default_role`` is a name in
    ``roles``, None where there are none. ``identities`` holds those that something uses. Without
    ``rules`` the broker is its owner's.
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
    """The AWS identity that `login` exchanges, and the clouds' endpoints."""

    identity: StsIdentityConfig | CognitoIdentityConfig
    upstream: Upstream
    warnings: tuple[str, ...] = ()
