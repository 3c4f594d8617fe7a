"""Make foreign text fit for a message: short, printable, without tokens."""

import re
from collections.abc import Iterable

MAX_CHARACTERS = 300
HIDDEN = "[hidden]"

_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:nsct|nscw|nsrt)_[\w.+/=-]*"  # Namespace's prefixes
    r"|(?:(?:st|cognito|oidc)_)?eyJ[\w.+/=-]*",  # a JWT: base64 of {"
    re.ASCII,
)


def redacted(text: object, *, hiding: Iterable[str] = ()) -> str:
    """Return *text* in at most 300 printable characters, without tokens and without *hiding*."""
    shown = str(text)
    for secret in filter(None, hiding):
        shown = shown.replace(secret, HIDDEN)
    shown = _TOKEN.sub(HIDDEN, shown)
    shown = " ".join("".join(c if c.isprintable() else " " for c in shown).split())
    return shown if len(shown) <= MAX_CHARACTERS else shown[: MAX_CHARACTERS - 1] + "…"
