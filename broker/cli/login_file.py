"""Find, read and write the file where nsc looks for its token."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from broker.cli.errors import Failure, Misuse
from broker.credentials import json_object, jwt_payload, numeric_date
from broker.files.private import read_private, write_output

TOKEN_FILE = "token.json"  # noqa: S105 - the name of a file
CACHE = "token.cache"
LARGEST_BYTES = 1 << 20
STAND_BEFORE = ("NSC_TOKEN_SPEC", "NSC_TOKEN_SPEC_FILE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The content of a token file: a person's login, a token with its claims, or nothing."""

    content: bytes = field(default=b"", repr=False)
    """What a copy is kept of: a login, or what is no token."""
    is_login: bool = False
    tenant_id: str | None = None
    expires_at: datetime | None = None

    def lasts(self, at_least: timedelta, *, workspace: str | None, now: datetime) -> bool:
        """Return whether a token of *workspace* (None: of any) is good for longer."""
        if self.expires_at is None or (workspace is not None and workspace != self.tenant_id):
            return False
        return now + at_least < self.expires_at


NOTHING = Found()


def path_for(output: str | None, environ: Mapping[str, str]) -> str:
    """Return the path of the token file: as given, else where nsc and the SDKs look.

    Raises:
        Misuse: Nothing says where that is.

    Source: namespace-api 2.3, 10: nsc itself writes below its configuration directory only, and
    then finds what ``NSC_TOKEN_FILE`` names.
    """
    if named := output or environ.get("NSC_TOKEN_FILE"):
        return os.path.abspath(named)
    home = environ.get("HOME")
    base = environ.get("XDG_CONFIG_HOME") or (home and os.path.join(home, ".config"))
    if base:
        return os.path.abspath(os.path.join(base, "ns", TOKEN_FILE))
    raise Misuse("--output", "is not given, and HOME is not set", "give --output FILE")


def advice(path: str, environ: Mapping[str, str]) -> str:
    """Return what to do so that nsc finds *path*, as the end of a sentence; empty where it does."""
    for variable in STAND_BEFORE:
        if environ.get(variable):
            return f"; nsc looks in {variable} first: unset it"
    with suppress(Misuse):
        if path_for(None, environ) == path:
            return ""
    return f"; for nsc and the SDKs set NSC_TOKEN_FILE={path}"


def look(path: str, *, is_named: bool) -> Found:
    """Return what the file has.

    What is no token, such as a half-written file, may be replaced in nsc's own place; where the
    user has named the file, it is somebody's.

    Raises:
        Failure: It must not be replaced, or cannot be read.
    """
    try:
        content = read_private(path, max_mode=0o7777, max_bytes=LARGEST_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING
    except (OSError, ValueError) as error:
        raise unusable(path, error) from error
    found = found_in(content)
    if found.content and not found.is_login and is_named:
        raise Failure("--output", f"{path} is not a token file", "name another file")
    return found


def found_in(content: bytes) -> Found:
    document = json_object(content) if content.strip() else {}
    known = {"bearer_token", "tenant_token", "session_token"}
    if document is None or (document and not known & set(document)):
        return Found(content=content)
    if document.get("session_token"):
        return Found(content=content, is_login=True)
    # The older name stands over the newer one, as for nsc.
    token = document.get("tenant_token") or document.get("bearer_token")
    return found_token(token if isinstance(token, str) else "")


def found_token(token: str) -> Found:
    """Return the claims of a token with its prefix; one that cannot be read has none."""
    claims = jwt_payload(token.partition("_")[2]) or {}
    tenant_id = claims.get("tenant_id")
    return Found(
        tenant_id=tenant_id if isinstance(tenant_id, str) else None,
        expires_at=numeric_date(claims.get("exp")),
    )


def write(path: str, bearer: str) -> None:
    """Write a token to *path*, readable by us alone, and remove nsc's cache of the last one.

    Raises:
        Failure: It cannot be written.

    Source: namespace-api 3.2, 3.3, 10.
    """
    directory = os.path.dirname(path)
    try:
        # As nsc makes its own; the token in it is 0600.
        os.makedirs(directory, mode=0o755, exist_ok=True)
        text = json.dumps({"bearer_token": bearer}, separators=(",", ":"))
        write_output(path, text)
    except (OSError, ValueError) as error:
        raise unusable(path, error) from error
    cache = os.path.join(directory, CACHE)
    try:
        with suppress(FileNotFoundError):
            os.unlink(cache)
    except OSError as error:
        raise Failure(
            cache, f"cannot be removed ({error.strerror}), and nsc may prefer it", "remove it"
        ) from error


def keep_copy(path: str, found: Found, *, now: datetime) -> str:
    """Keep a copy of a person's login beside its file, and return its path.

    Raises:
        Failure: It cannot be written.
    """
    copy = f"{path}.{now:%Y%m%dT%H%M%SZ}.saved"
    try:
        write_output(copy, found.content)
    except (OSError, ValueError) as error:
        raise unusable(copy, error) from error
    return copy


def unusable(path: str, error: OSError | ValueError) -> Failure:
    if isinstance(error, OSError):
        reason = f"{path} cannot be used ({error.strerror})"
        return Failure("--output", reason, "name another by --output FILE")
    what, _, next_step = str(error).partition("; ")
    return Failure("--output", what, next_step or "name another by --output FILE")
