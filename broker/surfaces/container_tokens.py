"""The secrets that admit to the container endpoint: comparing them, and the files they live in.
Knows no role and no request."""

import hmac
import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path

from broker.files.private_file import read_private, write_private

WIDEST_MODE = 0o640
LONGEST_TOKEN_BYTES = 4096


class ContainerTokens:
    """Each caller's name and the tokens that are good for it: the newest, and before it those that
    were rotated out a while ago (C-70)."""

    def __init__(self, tokens: Mapping[str, tuple[str, ...]]) -> None:
        self._tokens = {
            name: tuple(token.encode() for token in accepted) for name, accepted in tokens.items()
        }

    def __repr__(self) -> str:
        return f"ContainerTokens({', '.join(self._tokens)})"

    def caller_name(self, presented: str) -> str | None:
        """Return whose token *presented* is, or None. What a shell or an HTTP library left at its
        end is ignored; every known token is compared, in constant time.

        Source: sdk-client-contract C-68.
        """
        # As bytes: text that is not ASCII cannot be compared in constant time.
        raw = presented.rstrip("\r\n\t ").encode("utf-8", "surrogatepass")
        matches = [
            name
            for name, accepted in self._tokens.items()
            for token in accepted
            if hmac.compare_digest(token, raw)
        ]
        return matches[0] if matches else None


def container_token(path: Path, group: str | None = None) -> str:
    """Return the token in *path*, made where there is none.

    Raises:
        ValueError: What is there may not be used; the sentence says what to do.
        OSError: It can be neither read nor written.
    """
    try:
        content = read_private(path, not_wider_than=WIDEST_MODE, at_most=LONGEST_TOKEN_BYTES)
    except FileNotFoundError:
        return new_container_token(path, group)
    if content.endswith((b"\n", b"\r")):
        raise ValueError(
            f"{path} ends in a newline, which most AWS clients refuse; write it without (printf %s)"
        )
    if not re.fullmatch(rb"[!-~]+", content):
        raise ValueError(
            f"{path} holds more than visible ASCII characters; write 32 or more of these, "
            "or remove it and one is made"
        )
    if len(content) < 32:
        raise ValueError(f"{path} holds {len(content)} characters; 32 or more are wanted")
    return content.decode("ascii")


def new_container_token(path: Path, group: str | None = None) -> str:
    """Put a new token in *path* at once, 0600, or 0640 for *group*, and return it: 32 random bytes
    in URL-safe characters, no newline.

    Raises:
        ValueError: There is no such group.
        OSError: It cannot be written.

    Source: sdk-client-contract C-69, C-70.
    """
    token = urlsafe_b64encode(os.urandom(32)).rstrip(b"=")
    if group is None:
        write_private(path, token)
    else:
        write_private(path, token, mode=WIDEST_MODE, gid=gid_of(group))
    return token.decode("ascii")


def gid_of(group: str) -> int:
    """Return the number of that group, by name or number.

    Raises:
        ValueError: There is none of that name.
    """
    import grp  # Late: it is rarely wanted.

    if group.isascii() and group.isdecimal():  # containers often have numbers without names
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ValueError(f"there is no group {group!r}; create it or name another") from None
