"""Find out whether an identity source would lead back to what this broker serves or writes.

Follows the standard AWS chain as botocore does, without a request.
"""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from yarl import URL

from broker import aws
from broker.files.external import path_exists
from broker.sources.http_client import is_loopback
from broker.sources.namespace.identity import token_paths
from broker.sources.namespace.token_spec import InvalidTokenSpec, parse_token_spec
from broker.sources.redact import redacted

SPEC_LIMIT_BYTES = 1 << 16


Profile = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedFiles:
    """The profiles in AWS's two shared files, by name; either file may be missing or broken."""

    config: Mapping[str, Profile] = field(default_factory=dict)
    credentials: Mapping[str, Profile] = field(default_factory=dict)

    def profile(self, name: str) -> Profile:
        """Return one profile from both files; the credentials file has precedence."""
        return {**self.config.get(name, {}), **self.credentials.get(name, {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnOutputs:
    """What this broker serves and writes, each with its setting.

    ``{"http://127.0.0.1:8170": "container.listen"}``,
    ``{Path("/run/x/token.json"): "namespace_tokens.default.file"}``.
    """

    urls: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[Path, str] = field(default_factory=dict)

    def serve(self, url: str) -> str | None:
        """Return which of our listeners *url* is, and by which setting; None for another's."""
        other = _address(url)
        for own, setting in self.urls.items():
            if other is not None and _is_same(other, _address(own)):
                return f"{own}, which this broker itself serves ({setting})"
        return None

    def write(self, path: Path) -> str | None:
        """Return by which setting we write *path*, links followed; None where we do not."""
        other = os.path.realpath(path)
        for own, setting in self.files.items():
            if os.path.realpath(own) == other:
                return f"{path}, which this broker itself writes ({setting})"
        return None


def aws_self_reference(
    environ: Mapping[str, str],
    *,
    ours: OwnOutputs,
    profile: str | None = None,
    shared: SharedFiles | None = None,
) -> str | None:
    """Return how the standard AWS chain would lead back to us, naming both ends; None if not.

    *profile* is the identity's own. *shared* defaults to the files that *environ* names. What the
    chain does not get to, because something before it has credentials, does not count.
    """
    files = shared if shared is not None else shared_files(environ)
    chain = _Chain(environ, ours, files)
    return _endpoints(environ, ours) or chain.from_the_beginning(profile)


def identity_self_reference(
    environ: Mapping[str, str],
    *,
    ours: OwnOutputs,
    source: str,
    token_file: Path | None = None,
    token_spec: Path | None = None,
) -> str | None:
    """Return how a Namespace identity would lead back to us, naming both ends; None if not.

    *source* is auto, token-file or token-spec.
    """
    if reference := _named(environ, ours, "NSC_IAM_ENDPOINT", "NSC_GLOBAL_ENDPOINT"):
        return reference
    if source == "token-file" and token_file is not None:
        return _by_file(token_file, "token_file", ours)
    if source == "token-spec" and token_spec is not None:
        return _by_spec_file(token_spec, "token_spec", ours)
    if source != "auto":
        return None
    if spec := environ.get("NSC_TOKEN_SPEC"):
        return _by_spec(spec, "NSC_TOKEN_SPEC", ours)
    if path := environ.get("NSC_TOKEN_SPEC_FILE"):
        return _by_spec_file(Path(path), "NSC_TOKEN_SPEC_FILE", ours)
    if path := environ.get("NSC_TOKEN_FILE"):
        return _by_file(Path(path), "NSC_TOKEN_FILE", ours)
    return _first_there(environ, ours)


_PROFILE_KEYS = frozenset(
    {
        "web_identity_token_file",
        "sso_account_id",
        "sso_role_name",
        "aws_access_key_id",
        "login_session",
        "credential_process",
    }
)
"""Keys with which a profile ends the chain, beside a role to assume."""

_CONTAINER_VARIABLES = frozenset(
    {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"}
)


class _Chain:
    """The order in which botocore looks for credentials. Source: aws-api 2.1."""

    def __init__(self, environ: Mapping[str, str], ours: OwnOutputs, shared: SharedFiles) -> None:
        self._environ = environ
        self._ours = ours
        self._shared = shared

    def from_the_beginning(self, profile: str | None) -> str | None:
        if profile is None and self._environ.get("AWS_ACCESS_KEY_ID"):
            return None
        named = (
            profile
            or self._environ.get("AWS_DEFAULT_PROFILE")
            or self._environ.get("AWS_PROFILE")
            or "default"
        )
        settings = self._shared.profile(named)
        if _assumes_a_role(settings):
            return self._by_role(named, visited=())
        variable = "AWS_WEB_IDENTITY_TOKEN_FILE"
        if profile is None and self._environ.get(variable):
            return self._by_token_file(self._environ[variable], variable)
        if not _PROFILE_KEYS.isdisjoint(settings):
            return self._by_profile(named)
        if not _CONTAINER_VARIABLES.isdisjoint(self._environ):
            return self._by_container()
        return self._by_metadata(settings)

    def _by_role(self, profile: str, *, visited: tuple[str, ...]) -> str | None:
        settings = self._shared.profile(profile)
        match settings.get("credential_source", "").lower():
            case "ecscontainer":
                return self._by_container()
            case "ec2instancemetadata":
                return self._by_metadata(settings)
        source = settings.get("source_profile")
        if source is None or source in visited:
            return None
        further = self._shared.profile(source)
        if _assumes_a_role(further) and "aws_access_key_id" not in further:
            return self._by_role(source, visited=(*visited, source))
        return self._by_profile(source)

    def _by_profile(self, profile: str) -> str | None:
        settings = self._shared.profile(profile)
        if token_file := settings.get("web_identity_token_file"):
            return self._by_token_file(
                token_file, f"web_identity_token_file of the AWS profile {redacted(profile)}"
            )
        stands_before = {"sso_account_id", "sso_role_name", "login_session"}
        if not stands_before.isdisjoint(settings):
            return None
        if "aws_access_key_id" in self._shared.credentials.get(profile, {}):
            return None
        if _is_our_command(settings.get("credential_process", "")):
            return (
                f"credential_process of the AWS profile {redacted(profile)} is `namespace-broker "
                "credential-process`, which asks this broker itself; name another profile for "
                "the identity"
            )
        return None

    def _by_token_file(self, path: str, named_by: str) -> str | None:
        own = self._ours.write(Path(path))
        return own and f"{named_by} names {own}; name another identity"

    def _by_container(self) -> str | None:
        named_by = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
        if named_by in self._environ:
            url = f"http://{aws.CONTAINER_HOST}"
        else:
            named_by = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
            url = self._environ.get(named_by, "")
        own = self._ours.serve(url)
        return own and f"{named_by} leads to {own}; unset it for the broker, or set a profile"

    def _by_metadata(self, settings: Profile) -> str | None:
        if self._environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return None
        named_by, url = self._metadata_endpoint(settings)
        own = self._ours.serve(url)
        return own and (
            f"{named_by} leads to {own}; set AWS_EC2_METADATA_DISABLED=true for the broker, or "
            "a profile that has credentials"
        )

    def _metadata_endpoint(self, settings: Profile) -> tuple[str, str]:
        variable = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
        if url := self._environ.get(variable):
            return variable, url
        if url := settings.get("ec2_metadata_service_endpoint"):
            return "ec2_metadata_service_endpoint in the AWS profile", url
        mode = self._environ.get(f"{variable}_MODE") or settings.get(
            "ec2_metadata_service_endpoint_mode", ""
        )
        by_v6 = self._environ.get("AWS_IMDS_USE_IPV6") or settings.get("imds_use_ipv6", "")
        is_v6 = mode.lower() == "ipv6" if mode else by_v6.lower() == "true"
        host = f"[{aws.METADATA_HOST_V6}]" if is_v6 else aws.METADATA_HOST
        return "the end of the AWS chain, instance metadata,", f"http://{host}"


def _endpoints(environ: Mapping[str, str], ours: OwnOutputs) -> str | None:
    return _named(environ, ours, "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_COGNITO_IDENTITY")


def _named(environ: Mapping[str, str], ours: OwnOutputs, *variables: str) -> str | None:
    for variable in variables:
        if own := ours.serve(environ.get(variable, "")):
            return f"{variable} leads to {own}; unset it for the broker"
    return None


def _assumes_a_role(settings: Profile) -> bool:
    return "role_arn" in settings and "web_identity_token_file" not in settings


def _is_our_command(command: str) -> bool:
    words = words_of(command)
    program = Path(words[0]).name if words else ""
    is_ours = program == "namespace-broker" or any(
        pair == ["-m", "broker"] for pair in (words[i : i + 2] for i in range(len(words)))
    )
    return is_ours and not {"credential-process", "credential_process"}.isdisjoint(words)


# Namespace's own.


def _first_there(environ: Mapping[str, str], ours: OwnOutputs) -> str | None:
    """Check the places in the source's own order, up to the first that exists.

    One of ours may appear there later, when we write it.
    """
    for path, named_by in token_paths(environ):
        by = _by_spec_file if path.suffix == ".spec" else _by_file
        if reference := by(path, f"what {named_by} names", ours):
            return reference
        if path_exists(path):
            return None
    return None


def _by_file(path: Path, named_by: str, ours: OwnOutputs) -> str | None:
    own = ours.write(path)
    return own and f"{named_by} is {own}; name the identity that it comes from instead"


def _by_spec_file(path: Path, named_by: str, ours: OwnOutputs) -> str | None:
    if reference := _by_file(path, named_by, ours):
        return reference
    try:
        with path.open("rb") as file:
            text = file.read(SPEC_LIMIT_BYTES).decode("ascii", "replace")
    except (OSError, ValueError):
        return None
    return _by_spec(text, f"{named_by} ({path})", ours)


def _by_spec(text: str, named_by: str, ours: OwnOutputs) -> str | None:
    try:
        spec = parse_token_spec(text)
    except InvalidTokenSpec:
        return None
    own = ours.serve(str(spec.metadata_url)) if spec.metadata_url is not None else None
    return own and f"{named_by} leads to {own}; name the identity that it comes from instead"


# Addresses.


def _address(url: str) -> tuple[str, int] | None:
    try:
        parsed = URL(url)
    except ValueError:
        return None
    if not parsed.host or parsed.port is None:
        return None
    return _plain(parsed.host), parsed.port


def _plain(host: str) -> str:
    """Return one spelling of *host* for all that mean the same."""
    name = host.lower().rstrip(".").partition("%")[0]
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name
    return str(getattr(address, "ipv4_mapped", None) or address)


def _is_same(other: tuple[str, int], own: tuple[str, int] | None) -> bool:
    """Return whether *other* is *own*.

    A name for loopback is each of its addresses, and a wildcard listener has those too.
    """
    if own is None or other[1] != own[1]:
        return False
    everywhere = own[0] in ("0.0.0.0", "::")
    if everywhere or other[0] == "localhost":
        return is_loopback(other[0]) and (everywhere or is_loopback(own[0]))
    return other[0] == own[0]


# AWS's shared files, read without botocore.


def shared_files(environ: Mapping[str, str]) -> SharedFiles:
    """Read the shared files that *environ* names."""
    home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - a text, as the variables
    config = _sections(environ.get("AWS_CONFIG_FILE") or f"{home}/.aws/config", home)
    keys = _sections(environ.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials", home)
    named = {_profile_in(title): section for title, section in config.items()}
    named.pop(None, None)
    return SharedFiles(
        config={str(name): section for name, section in named.items()}, credentials=keys
    )


def words_of(text: str) -> list[str]:
    import shlex

    try:
        return shlex.split(text)
    except ValueError:
        return []


def _profile_in(title: str) -> str | None:
    """Return the profile that a section of the config file is about; None for other sections."""
    match words_of(title):
        case ["default"]:
            return "default"
        case ["profile", name]:
            return name
    return None


def _sections(path: str, home: str) -> dict[str, Profile]:
    """Return an INI file's sections; none if it cannot be read, which botocore will report."""
    expanded = os.path.expandvars(path)
    if expanded.startswith("~/"):
        expanded = home + expanded[1:]
    import configparser

    parser = configparser.RawConfigParser()
    try:
        parser.read([expanded])
    except (configparser.Error, OSError, UnicodeDecodeError, ValueError):
        return {}
    return {title: dict(parser.items(title)) for title in parser.sections()}
