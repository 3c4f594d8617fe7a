"""The Go and TypeScript SDKs as readers of token files, without specs or keychains.

Source: namespace-api 2.3, 3, 10.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from tests.support.nsc_claims import NotLoggedIn

METADATA_DIR = Path("/var/run/nsc")


class WouldMint(Exception):
    """There is a session token: the SDK would always ask Namespace for a tenant token."""


def load_defaults(
    environ: Mapping[str, str], *, config: Path, metadata_dir: Path = METADATA_DIR
) -> str:
    """Return the token that a process reads once, at its start.

    Raises:
        NotLoggedIn: There is no file, or none of the two tokens in it.
        WouldMint: The file holds a session token.
    """
    if named := environ.get("NSC_TOKEN_FILE"):
        return load_local_token(Path(named))
    on_an_instance = metadata_dir / "token.json"
    return load_local_token(on_an_instance if on_an_instance.exists() else config / "token.json")


def load_local_token(path: Path) -> str:
    """Return the token in *path* verbatim, without looking at its end.

    Go reads the file so on every call.
    """
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise NotLoggedIn("not logged in") from error
    if document.get("session_token"):
        raise WouldMint
    bearer = document.get("bearer_token")
    if not bearer:
        raise NotLoggedIn("not logged in")
    return str(bearer)
