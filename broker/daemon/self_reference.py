"""Refuse to be our own client: no source may lead to what we serve or write. Changes nothing."""

from collections.abc import Mapping

from broker.config import Config, IdentityConfig
from broker.daemon.errors import Misconfigured
from broker.daemon.fingerprints import FROM_AWS
from broker.sources.aws.self_reference import Ours, identity_leads_to, leads_to
from broker.surfaces.control import Endpoints


def refuse_circles(config: Config, endpoints: Endpoints, environ: Mapping[str, str]) -> None:
    """Raise where an identity of *config* would be had from ourselves.

    Raises:
        Misconfigured: A source would read what we serve or write; names both.
    """
    ours = Ours(
        urls={
            **dict.fromkeys(endpoints.imds, "imds.listen"),
            **dict.fromkeys(endpoints.container, "container.listen"),
            **dict.fromkeys(endpoints.ops, "ops.listen"),
        },
        files={
            **{
                each.file: f"namespace_tokens.{each.identity}.file"
                for each in config.namespace_tokens
                if each.file
            },
            **{each.file: f"id_tokens.{each.name}.file" for each in config.id_tokens if each.file},
        },
    )
    for name, identity in config.identities.items():
        if circle := circle_of(identity, ours, environ):
            raise Misconfigured(f"identities.{name}: {circle}")


def circle_of(identity: IdentityConfig, ours: Ours, environ: Mapping[str, str]) -> str | None:
    if identity.source in FROM_AWS:
        return leads_to(environ, ours=ours, profile=identity.profile)
    return identity_leads_to(
        environ,
        ours=ours,
        source=identity.source,
        token_file=identity.token_file,
        token_spec=identity.token_spec,
    )
