"""How a token is written into a file, and what in its place may be overwritten. Pure."""

import json
import re
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from broker.credentials import IdToken, NamespaceToken

T_contra = TypeVar("T_contra", contravariant=True)


class Form(Protocol[T_contra]):
    """How a value is written, and what is known of files of that kind."""

    cache: str | None
    """A file beside it in which readers keep what they derived; to be removed after each write."""

    least_life: timedelta
    """How long a token must live at least, renewed at half of it, to serve every reader."""

    def content(self, value: T_contra) -> bytes: ...

    def token_in(self, content: bytes) -> str:
        """Return the token in a file that may be replaced.

        Raises:
            ValueError: It may not; the sentence goes on after the file's name.
        """


class TokenJson:
    """The file that nsc and the Namespace SDKs read: ``{"bearer_token":"nsct_..."}``.

    Source: namespace-api 3, 10.
    """

    cache: str | None = "token.cache"
    least_life = timedelta(minutes=40)

    def content(self, value: NamespaceToken) -> bytes:
        return json.dumps({"bearer_token": value.bearer}, separators=(",", ":")).encode("ascii")

    def token_in(self, content: bytes) -> str:
        document = _json_object(content.strip() or b"{}")
        if document is None:
            raise ValueError("holds something else than a token; move it away or name another file")
        if document.get("session_token"):
            raise ValueError(
                "holds a person's login (session_token), which is never overwritten; "
                "name another file, or end it with nsc auth logout"
            )
        return str(document.get("bearer_token") or "")


class BareJwt:
    """The file that ``AWS_WEB_IDENTITY_TOKEN_FILE`` names: the ID token, no newline."""

    cache: str | None = None
    least_life = timedelta(0)

    def content(self, value: IdToken) -> bytes:
        return value.jwt.encode("ascii")

    def token_in(self, content: bytes) -> str:
        text = content.decode("latin-1").strip()
        if text and not re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]*", text, re.ASCII):
            raise ValueError("holds something else than a JWT; move it away or name another file")
        return text


def end_of(token: str) -> datetime | None:
    """Return when a JWT says that it ends, whatever its prefix; None where it does not."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = _json_object(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        return datetime.fromtimestamp(float((claims or {})["exp"]), UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None


def _json_object(text: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
