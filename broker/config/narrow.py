"""A configuration cut down to what a command without a daemon needs of it. Pure."""

from dataclasses import replace

from broker.config.errors import NoRole
from broker.config.model import AuditConfig, Config, IdentityConfig
from broker.config.warnings import warnings_of


def no_role() -> NoRole:
    return NoRole("--role-arn", "is not given, and no file names a role", "give --role-arn ARN")


def roles_only(config: Config) -> Config:
    """Return the configuration with its roles and their identities, and nothing handed on. It is
    for whoever runs the command, so no rules are left.

    Raises:
        NoRole: There is no role.
    """
    if not config.roles:
        raise no_role()
    used = {role.identity for role in config.roles}
    return warned(
        replace(
            config,
            namespace_tokens=(),
            id_tokens=(),
            rules=(),
            audit=AuditConfig(),
            container=replace(config.container, tokens={}),
            identities={n: identity for n, identity in config.identities.items() if n in used},
        )
    )


def identity_only(config: Config, identity: IdentityConfig) -> Config:
    """Return the configuration with that identity, and nothing else to obtain."""
    return warned(
        replace(
            config,
            default_role=None,
            roles=(),
            namespace_tokens=(),
            id_tokens=(),
            rules=(),
            audit=AuditConfig(),
            container=replace(config.container, tokens={}),
            identities={identity.name: identity},
        )
    )


def warned(config: Config) -> Config:
    return replace(config, warnings=warnings_of(config))
