"""Set aside what AWS clients would use before the broker: variables, and parts of ``~/.aws``.

Settings stay: region, output, retries, endpoints. Keys are never copied.

Source: sdk-client-contract C-86; the order of the AWS CLI and SDKs for JS, Go, Java and Rust.
"""

from __future__ import annotations

import os

from broker.cli.environment import PREFERRED_TO_OURS, Variables
from broker.cli.errors import Failure
from broker.files import locations
from broker.files.private import write_private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Sections = dict[str, list[str]]
    """The lines of each section of a file below ``~/.aws``, by profile."""

LARGEST_BYTES = 1 << 20
SECRET_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
IDENTITY_KEYS = frozenset(
    {
        *SECRET_KEYS,
        "aws_security_token",
        "credential_process",
        "credential_source",
        "duration_seconds",
        "external_id",
        "login_session",
        "mfa_serial",
        "role_arn",
        "role_session_name",
        "source_profile",
        "web_identity_token_file",
    }
)
"""The keys of a profile that say who a client is; so do all that begin with ``sso_``."""


class Aside:
    """What stands before the broker: variables that are set, and profiles in files.

    ``config`` is the text of a configuration file without it, None where the file may stay.
    """

    __slots__ = ("config", "credentials", "places", "variables")

    def __init__(
        self, variables: list[str], places: list[str], *, credentials: bool, config: str | None
    ) -> None:
        self.variables = variables
        self.places = places
        self.credentials = credentials
        self.config = config

    def __str__(self) -> str:
        return ", ".join([*self.variables, *self.places])


def standing_before(environ: Mapping[str, str]) -> Aside:
    """Return what AWS clients started with *environ* would use before the broker."""
    profile = active_profile(environ)
    credentials_path = path_of(environ, "AWS_SHARED_CREDENTIALS_FILE", "credentials")
    config_path = path_of(environ, "AWS_CONFIG_FILE", "config")
    credentials, config = sections_in(credentials_path), sections_in(config_path)
    profiles = dict.fromkeys((profile, "default"))
    in_credentials = [name for name in profiles if names_an_identity(credentials.get(name, []))]
    in_config = [name for name in profiles if names_an_identity(config.get(name, []))]
    must_rewrite = bool(in_config) or (profile != "default" and profile in config)
    return Aside(
        [name for name in PREFERRED_TO_OURS if environ.get(name)],
        [f"[{name}] in {credentials_path}" for name in in_credentials]
        + [f"[{name}] in {config_path}" for name in in_config],
        credentials=bool(in_credentials),
        config="".join(settings_of(config, profile)) if must_rewrite else None,
    )


def isolated(aside: Aside, environ: Mapping[str, str]) -> Variables:
    """Return the variables that hide the files' parts of *aside*; its settings are written.

    Raises:
        Failure: They cannot be written.
    """
    assigned: dict[str, str] = {}
    if aside.credentials:
        assigned["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    if aside.config is not None:
        assigned["AWS_CONFIG_FILE"] = write_settings(aside.config, environ) or os.devnull
    return Variables(assigned)


def active_profile(environ: Mapping[str, str]) -> str:
    return environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"


def keys_of_profile(profile: str, environ: Mapping[str, str]) -> set[str]:
    """Return the keys that a profile has in either file."""
    files = (("AWS_SHARED_CREDENTIALS_FILE", "credentials"), ("AWS_CONFIG_FILE", "config"))
    return {
        key
        for variable, name in files
        for key, _ in entries_of(sections_in(path_of(environ, variable, name)).get(profile, []))
    }


def path_of(environ: Mapping[str, str], variable: str, name: str) -> str:
    home = environ.get("HOME") or "~"
    return os.path.expanduser(environ.get(variable) or os.path.join(home, ".aws", name))


def sections_in(path: str) -> Sections:
    """Return the sections of a file, by profile; none where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read(LARGEST_BYTES).splitlines(keepends=True)
    except (OSError, ValueError):
        return {}
    sections: Sections = {}
    current: list[str] = []
    for line in lines:
        if line.startswith("["):
            name = line[1:].partition("]")[0].strip()
            current = sections.setdefault(profile_named(name), [])
        else:
            current.append(line)
    return sections


def profile_named(section: str) -> str:
    """Return the profile of ``[NAME]`` and ``[profile NAME]``; other sections keep their name."""
    first, _, rest = section.partition(" ")
    return rest.strip(" \"'") if first == "profile" and rest else section


def entries_of(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each key of a section with its lines; what is indented belongs to the key before."""
    entry: tuple[str, list[str]] = ("", [])
    for line in lines:
        if line[:1] in (" ", "\t", "\n", "#", ";") or "=" not in line:
            entry[1].append(line)
            continue
        yield entry
        entry = (line.partition("=")[0].strip().lower(), [line])
    yield entry


def is_identity(key: str) -> bool:
    return key in IDENTITY_KEYS or key.startswith("sso_")


def names_an_identity(lines: list[str]) -> bool:
    return any(is_identity(key) for key, _ in entries_of(lines))


def settings_of(config: Sections, profile: str) -> Iterator[str]:
    """Yield a configuration in which *profile*'s settings are the default ones.

    Other profiles stay, for programs that name one, but without keys.
    """
    for name, lines in {"default": config.get(profile, []), **without(config, profile)}.items():
        is_default = name in ("default", profile)
        yield f"[{section_named(name)}]\n"
        for key, text in entries_of(lines):
            if not (is_identity(key) if is_default else key in SECRET_KEYS):
                yield from text
        yield "\n"


def without(config: Sections, profile: str) -> Sections:
    return {name: lines for name, lines in config.items() if name not in ("default", profile)}


def section_named(profile: str) -> str:
    is_other = profile == "default" or profile.split(" ")[0] in ("sso-session", "services")
    return profile if is_other else f"profile {profile}"


def write_settings(text: str, environ: Mapping[str, str]) -> str:
    """Write the settings where the program finds them, and return the path.

    Raises:
        Failure: They cannot be written.
    """
    import hashlib

    uid = os.getuid()
    # A program that root starts may become another user; nothing in there is secret.
    directory, mode = locations.commands_dir(environ, uid), 0o644 if uid == 0 else 0o600
    content = text.encode("utf-8", "surrogateescape")
    path = os.path.join(directory, f"aws-config-{hashlib.sha256(content).hexdigest()[:16]}")
    try:
        if uid == 0:
            os.makedirs(directory, mode=0o755, exist_ok=True)
            locations.require_owned(directory, uid, forbidden=0o022)
            os.chmod(directory, 0o755)  # noqa: S103 - nothing in it is secret but the 0600 token
        else:
            locations.make_private_dir(directory, uid)
        write_private(path, content, mode=mode, durable=False)
    except (OSError, locations.UntrustedDirectory) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise Failure(path, f"cannot be written ({reason})", "set XDG_RUNTIME_DIR") from error
    return path
