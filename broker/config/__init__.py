"""What an operator may say: TOML, flags and environment become one frozen, validated `Config`."""

from broker.config.errors import ConfigError, NoRole
from broker.config.load import load, load_identity, load_roles
from broker.config.login import load_login
from broker.config.model import (
    Address,
    Algorithm,
    Config,
    ContainerConfig,
    Flags,
    GuardConfig,
    IdentityConfig,
    IdentitySource,
    IdTokenConfig,
    ImdsConfig,
    LogConfig,
    LogFormat,
    Login,
    LoginFlags,
    LogLevel,
    NamespaceTokenConfig,
    OpsConfig,
    RoleConfig,
    Upstream,
)

__all__ = [
    "Address",
    "Algorithm",
    "Config",
    "ConfigError",
    "ContainerConfig",
    "Flags",
    "GuardConfig",
    "IdTokenConfig",
    "IdentityConfig",
    "IdentitySource",
    "ImdsConfig",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "Login",
    "LoginFlags",
    "NamespaceTokenConfig",
    "NoRole",
    "OpsConfig",
    "RoleConfig",
    "Upstream",
    "load",
    "load_identity",
    "load_login",
    "load_roles",
]
