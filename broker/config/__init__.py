"""What an operator may say: TOML, flags and environment become one frozen, validated `Config`."""

from broker.config.errors import ConfigError, NoRole
from broker.config.load import load
from broker.config.model import (
    Address,
    Config,
    ContainerConfig,
    Flags,
    GuardConfig,
    IdentityConfig,
    IdentitySource,
    ImdsConfig,
    LogConfig,
    LogFormat,
    LogLevel,
    OpsConfig,
    RoleConfig,
    Upstream,
)

__all__ = [
    "Address",
    "Config",
    "ConfigError",
    "ContainerConfig",
    "Flags",
    "GuardConfig",
    "IdentityConfig",
    "IdentitySource",
    "ImdsConfig",
    "LogConfig",
    "LogFormat",
    "LogLevel",
    "NoRole",
    "OpsConfig",
    "RoleConfig",
    "Upstream",
    "load",
]
