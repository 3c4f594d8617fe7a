"""The configuration file as a table. Says where the file is broken; knows no keys."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from broker.config.errors import ConfigError

SYSTEM_FILE = Path("/etc/namespace-broker/config.toml")
LARGEST_BYTES = 1 << 20


def config_file(flag: str | None, environ: Mapping[str, str], *, system_file: Path) -> Path | None:
    """Return which file to read: the flag's, the environment's, the system's if there, or none."""
    if named := flag or environ.get("NAMESPACE_BROKER_CONFIG"):
        return Path(named)
    try:
        system_file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass  # it may be there: reading it says what is wrong
    return system_file


def read_file(path: Path) -> dict[str, Any]:
    """Return the file's content as tables and values.

    Raises:
        ConfigError: Unreadable, over 1 MiB, not UTF-8, or no TOML; with line and column.
    """
    content = text_of(read_bounded(path), path)
    try:
        return tomllib.loads(content)
    except RecursionError as error:
        raise ConfigError(str(path), "is nested too deep", "write tables as [a.b]") from error
    except ValueError as error:
        raise broken(path, str(error)) from error


def read_bounded(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except PermissionError as error:
        raise ConfigError(
            str(path), "may not be read by this user", "give another by --config FILE"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is no file name"
        raise ConfigError(str(path), f"cannot be read ({reason})", "give --config FILE") from error
    if len(content) > LARGEST_BYTES:
        raise ConfigError(str(path), "is larger than 1 MiB", "is it the right file?")
    return content


def text_of(content: bytes, path: Path) -> str:
    try:
        # TOML's newlines are LF and CRLF; a byte order mark is what some editors leave.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise ConfigError(
            f"{path}:{line}:{column}", "is not UTF-8", "save the file as UTF-8"
        ) from error


def broken(path: Path, message: str) -> ConfigError:
    """Return the error for what the TOML parser said, with its place in front."""
    found = re.fullmatch(r"(?P<what>.*) \(at line (?P<line>\d+), column (?P<column>\d+)\)", message)
    if found is None:
        what = message.removesuffix(" (at end of document)")
        return ConfigError(f"{path}", f"is no TOML: {what}", "see the end of the file")
    return ConfigError(
        f"{path}:{found['line']}:{found['column']}",
        f"is no TOML: {found['what']}",
        "correct this line",
    )
