"""Warnings: valid settings that are probably a mistake."""

from collections.abc import Iterable, Iterator

from broker.access.rules import evadable
from broker.config.file import below
from broker.config.model import Config, StsIdentityConfig
from broker.config.roles import STS_REGION_OF_NO_REGION

NO_REGION = (
    f"region: none is set: STS of {STS_REGION_OF_NO_REGION} is used and no region is served;"
    " give --region or set AWS_REGION"
)


def warnings_of(config: Config, *, unused: Iterable[str] = ()) -> tuple[str, ...]:
    """Return one line per warning; *unused* are identities of the file that nothing uses."""
    return (
        *([NO_REGION] if config.roles and config.region is None else []),
        *(no_workspace(below("identities", name)) for name in without_workspace(config)),
        *(
            f"{below('identities', name)}: nothing uses it, so no token is obtained for it;"
            " name it in a role or in namespace_tokens, or remove it"
            for name in unused
        ),
        *nowhere_served(config),
        *granted_to_nobody(config),
        *(f"{found.rule}: {found.reason}" for found in evadable(config.rules)),
    )


def without_workspace(config: Config) -> Iterator[str]:
    for identity in config.identities.values():
        if isinstance(identity, StsIdentityConfig) and identity.workspace is None:
            yield identity.name


def no_workspace(place: str) -> str:
    return (
        f"{place}: no workspace is named, so Namespace chooses one that trusts this AWS identity;"
        " name one to be sure which"
    )


def nowhere_served(config: Config) -> Iterator[str]:
    """Warn of tokens for the container addresses, where there are none."""
    if config.container.listen:
        return
    places = [
        *(
            below("namespace_tokens", token.identity)
            for token in config.namespace_tokens
            if token.http
        ),
        *(below("id_tokens", token.name) for token in config.id_tokens if token.file is None),
    ]
    for place in places:
        yield f"{place}: is for the container addresses, and they are off; set container.listen"


def granted_to_nobody(config: Config) -> Iterator[str]:
    """Warn of what no rule grants, where there are rules."""
    if not config.rules:
        return
    roles = {name for rule in config.rules for name in rule.roles}
    identities = {name for rule in config.rules for name in rule.namespace_tokens}
    audiences = {audience for rule in config.rules for audience in rule.id_token_audiences}
    named = {rule.who.token for rule in config.rules}
    left_out = [
        *(below("roles", role.role.name) for role in config.roles if role.role.name not in roles),
        *(
            f"{below('namespace_tokens', token.identity)}.http"
            for token in config.namespace_tokens
            if token.http and token.identity not in identities
        ),
        *(
            below("id_tokens", token.name)
            for token in config.id_tokens
            if token.file is None and token.audience not in audiences
        ),
    ]
    for place in left_out:
        yield f"{place}: no rule grants it, so nobody gets it; name it in a rule, or remove it"
    for name in config.container.tokens:
        if name not in named:
            yield (
                f"{below('container.tokens', name)}: no rule names it, so its holder gets nothing"
                f' by it; add one with who = {{ token = "{name}" }}, or remove it'
            )
