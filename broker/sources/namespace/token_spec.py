"""Decode a Namespace token spec: where to get a token, or the token itself."""

import base64
import re
from dataclasses import dataclass, field

from yarl import URL

from broker.credentials import json_object
from broker.sources.http_client import may_be_plain
from broker.sources.jwt import text_field


class InvalidTokenSpec(ValueError):
    """The text is no token spec that can be used; the message continues its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpec:
    """Either the token itself, or the base URL of a metadata service.

    Both are secret: the URL's path may hold the only thing that protects the token.
    """

    inline_token: str | None = field(default=None, repr=False)
    metadata_url: URL | None = field(default=None, repr=False)


def parse_token_spec(text: str) -> TokenSpec:
    """Return the spec in *text*: unpadded standard base64 of a JSON object, CR and LF skipped.

    Raises:
        InvalidTokenSpec: It is something else, or of an unknown version.

    Source: namespace-api 5.
    """
    letters = text.replace("\r", "").replace("\n", "")
    if not re.fullmatch(r"[A-Za-z0-9+/]+", letters) or len(letters) % 4 == 1:
        raise InvalidTokenSpec("is not base64 of the standard alphabet without padding")
    document = json_object(base64.b64decode(letters + "=" * (-len(letters) % 4)))
    if document is None:
        raise InvalidTokenSpec("does not hold a JSON object")
    if inline_token := text_field(document, "inline_token"):
        return TokenSpec(inline_token=inline_token)
    if document.get("version") != "v1":
        raise InvalidTokenSpec('is not of version "v1", the only one known here')
    return TokenSpec(metadata_url=_metadata_url(text_field(document, "metadata_url") or ""))


def _metadata_url(address: str) -> URL:
    try:
        url = URL(address.rstrip("/"))
        usable = url.scheme in ("http", "https") and bool(url.host) and not url.query_string
    except ValueError:
        usable = False
    if not usable:
        raise InvalidTokenSpec("names no http or https metadata_url")
    if not may_be_plain(url):
        raise InvalidTokenSpec("has a plain-http metadata_url beyond this link; it must be https")
    return url
