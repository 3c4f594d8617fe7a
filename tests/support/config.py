"""A configuration from a few lines of text, as tests give it."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.config import Config, ConfigError, Flags, load

ARN = "arn:aws:iam::123456789012:role/deploy"
ROLE = f'[roles.deploy]\narn = "{ARN}"\n'
NO_FILE = Path("/nonexistent/namespace-broker/config.toml")


class Given:
    """Loads what a test writes, in an environment that holds only what the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "config.toml"

    def load(
        self,
        text: str | bytes | None = None,
        *,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Config:
        """Return the configuration by a file with *text*, if any, and those flags."""
        said: dict[str, object] = dict(flags or {})
        if text is not None:
            self.file.write_bytes(text.encode() if isinstance(text, str) else text)
            said["config"] = str(self.file)
        known = {"XDG_RUNTIME_DIR": str(self.folder)} | dict(environ or {})
        return load(Flags(**said), known, system_file=NO_FILE)  # type: ignore[arg-type]

    def error(
        self,
        text: str | bytes | None = None,
        *,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> str:
        """Return the one line that says what is wrong, without the configuration's folder."""
        with pytest.raises(ConfigError) as raised:
            self.load(text, flags=flags, environ=environ)
        return str(raised.value).replace(f"{self.folder}/", "")
