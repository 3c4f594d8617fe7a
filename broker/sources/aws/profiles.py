"""Read the profiles in AWS's shared files, without botocore. Judges nothing that they say."""

import configparser
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

Profile = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedFiles:
    """The profiles in AWS's two shared files, by name; either file may be missing or damaged."""

    config: Mapping[str, Profile] = field(default_factory=dict)
    credentials: Mapping[str, Profile] = field(default_factory=dict)

    def profile(self, name: str) -> Profile:
        """Return one profile with what both files say; the credentials file stands over."""
        return {**self.config.get(name, {}), **self.credentials.get(name, {})}


def shared_files(environ: Mapping[str, str]) -> SharedFiles:
    """Read the shared files that *environ* names."""
    home = environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - a text, as the variables
    config = _sections(environ.get("AWS_CONFIG_FILE") or f"{home}/.aws/config", home)
    keys = _sections(environ.get("AWS_SHARED_CREDENTIALS_FILE") or f"{home}/.aws/credentials", home)
    named = {_profile_in(title): section for title, section in config.items()}
    named.pop(None, None)
    return SharedFiles(config={str(name): it for name, it in named.items()}, credentials=keys)


def words_of(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return []


def _profile_in(title: str) -> str | None:
    """Return which profile a section of the config file is; None for one of another kind."""
    match words_of(title):
        case ["default"]:
            return "default"
        case ["profile", name]:
            return name
    return None


def _sections(path: str, home: str) -> dict[str, Profile]:
    """Return an INI file's sections; none of one that cannot be read: botocore says why."""
    expanded = os.path.expandvars(path)
    if expanded.startswith("~/"):
        expanded = home + expanded[1:]
    parser = configparser.RawConfigParser()
    try:
        parser.read([expanded])
    except (configparser.Error, OSError, UnicodeDecodeError, ValueError):
        return {}
    return {title: dict(parser.items(title)) for title in parser.sections()}
