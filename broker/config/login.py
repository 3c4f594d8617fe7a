"""What `login` is told, by flags and environment: an AWS identity, and where the clouds are. Reads
no file."""

from collections.abc import Mapping

from broker.config.identities import Said, identity_said
from broker.config.load import region_of_environment, upstream_of
from broker.config.model import Login, LoginFlags
from broker.config.tables import IdentityTable
from broker.config.warnings import no_workspace


def load_login(flags: LoginFlags, environ: Mapping[str, str]) -> Login:
    """Return what was said, whole and checked.

    Raises:
        ConfigError: A flag or a variable is no good, or missing.
    """
    keys = IdentityTable(
        source=flags.via,
        workspace=flags.workspace,
        audience=flags.audience,
        algorithm=flags.algorithm,
        region=flags.region,
        profile=flags.profile,
        identity_pool=flags.identity_pool,
    )
    region = None if flags.region else region_of_environment(environ)
    identity = identity_said(Said(name="login", keys=keys, place=flag_of, region=region))
    nowhere = identity.source == "sts" and identity.workspace is None
    return Login(
        identity=identity,
        upstream=upstream_of(environ),
        warnings=(no_workspace("--workspace"),) if nowhere else (),
    )


def flag_of(key: str) -> str:
    return "--" + key.replace("_", "-")
