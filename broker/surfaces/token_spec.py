"""The token spec that nsc is given, and the secret at the end of its address, which names whom it
was made for. Knows no token and no request."""

import hmac
import json
import os
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

from broker.files.private_file import read_private, write_private

MASTER_BYTES = 32
UID_BYTES = 4
SEAL_BYTES = 28


class SpecSecrets:
    """Makes each caller's segment and knows it again, without keeping any: the caller's uid and a
    seal over it, 32 bytes in URL-safe characters."""

    def __init__(self, master: bytes) -> None:
        self._master = master

    def segment_for(self, uid: int) -> str:
        """Return that user's segment, always the same, 43 characters."""
        named = uid.to_bytes(UID_BYTES, "big")
        seal = hmac.digest(self._master, b"token-spec" + named, sha256)[:SEAL_BYTES]
        return urlsafe_b64encode(named + seal).rstrip(b"=").decode("ascii")

    def caller_uid(self, segment: str) -> int | None:
        """Return whose segment that is, or None; compared in constant time."""
        # As bytes: text that is not ASCII cannot be compared in constant time.
        raw = segment.encode("utf-8", "surrogatepass")
        try:
            uid = int.from_bytes(urlsafe_b64decode(raw[:8])[:UID_BYTES], "big")
        except ValueError:
            return None
        return uid if hmac.compare_digest(self.segment_for(uid).encode("ascii"), raw) else None


def kept_spec_secrets(path: Path) -> SpecSecrets:
    """Return the secrets made from the master in *path*, made 0600 where there is none: specs that
    were handed out stay good as long as it is kept.

    Raises:
        ValueError: What is there may not be used; the sentence says what to do.
        OSError: It can be neither read nor written.
    """
    try:
        master = read_private(path, not_wider_than=0o600, at_most=MASTER_BYTES)
    except FileNotFoundError:
        master = os.urandom(MASTER_BYTES)
        write_private(path, master)
    if len(master) != MASTER_BYTES:
        raise ValueError(
            f"{path} holds {len(master)} bytes, not {MASTER_BYTES}; remove it and another is made"
        )
    return SpecSecrets(master)


def spec_for(base_url: str, segment: str) -> str:
    """Return what ``NSC_TOKEN_SPEC`` is set to, for the container endpoint at *base_url*: JSON in
    base64 of the standard alphabet without padding. It is as secret as the token.

    Source: namespace-api 5.
    """
    spec = {"version": "v1", "metadata_url": f"{base_url.rstrip('/')}/nsc/v1/{segment}"}
    text = json.dumps(spec, separators=(",", ":")).encode("ascii")
    return b64encode(text).rstrip(b"=").decode("ascii")
