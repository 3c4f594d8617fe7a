"""Make upstream's words fit to be redacted: short, printable, without tokens. Pure."""

import re
from collections.abc import Iterable

LONGEST = 300
HIDDEN = "[hidden]"

_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:nsct|nscw|nsrt)_[\w.+/=-]*"  # Namespace's prefixes
    r"|(?:(?:st|cognito|oidc)_)?eyJ[\w.+/=-]*",  # a JWT: base64 of {"
    re.ASCII,
)


def redacted(text: object, *, hiding: Iterable[str] = ()) -> str:
    """Return *text* in at most 300 printable characters, without tokens and without *hiding*."""
    told = str(text)
    for secret in filter(None, hiding):
        told = told.replace(secret, HIDDEN)
    told = _TOKEN.sub(HIDDEN, told)
    told = " ".join("".join(c if c.isprintable() else " " for c in told).split())
    return told if len(told) <= LONGEST else told[: LONGEST - 1] + "…"
