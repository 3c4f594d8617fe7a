"""Issue and verify IMDS session tokens without storing any.

A token is an expiry and a MAC by a key that survives the process.
"""

import hmac
import json
import os
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broker.files.private import read_private, write_private

LONGEST_TTL_S = 21600
"""Source: sdk-client-contract C-22."""

OVERLAP = timedelta(hours=12)
"""How long a key is kept after a newer one replaced it: the longest life of a token, 6 h (C-24),
and as much again in case the clock moves."""

MOST_KEYS = 1024
"""Each jump of the clock makes a key; beyond this many the oldest are dropped."""

STATE_FILE_LIMIT = 1 << 20

# 42 bytes: key id, expiry in milliseconds since 1970, nonce, MAC of these and the binding.
KEY_ID_BYTES, EXPIRY_BYTES, NONCE_BYTES, MAC_BYTES = 4, 6, 8, 24
SIGNED_BYTES = KEY_ID_BYTES + EXPIRY_BYTES + NONCE_BYTES
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TOKEN = re.compile(r"[A-Za-z0-9_-]{56}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionKey:
    """One key; its id is public, since each token contains it."""

    key_id: bytes
    secret: bytes = field(repr=False)
    made_at: datetime


class SessionKeys:
    """The keys of session tokens, the newest first, in memory and optionally in a state file.

    If the file cannot be used, old tokens end with a restart; *warn* is called and the daemon goes
    on.
    """

    def __init__(
        self,
        keys: Iterable[SessionKey],
        *,
        path: Path | None = None,
        warn: Callable[[str], None] = lambda _: None,
        made_on: str = "",
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.made_on = made_on
        """The machine and boot on which the newest key was made."""
        self._keys = tuple(keys)
        self._path = path
        self._warn = warn
        self._random_bytes = random_bytes

    @classmethod
    def in_memory(cls, *, now: datetime, on: str = "") -> "SessionKeys":
        """Return one new key that is lost with this process."""
        keys = cls(())
        keys.add_key(now, on=on)
        return keys

    @classmethod
    def kept(
        cls,
        path: Path,
        *,
        now: datetime,
        on: str = "",
        warn: Callable[[str], None] = lambda _: None,
    ) -> "SessionKeys":
        """Return the keys in *path*, after adding one if needed.

        One is added where there are none, or the newest was made on another machine or boot than
        *on*: a clone needs a key of its own. A file that cannot be parsed is renamed and kept.

        Source: sdk-client-contract C-24.
        """
        found, made_on = _read(path, warn=warn)
        keys = cls(found, path=path, warn=warn, made_on=made_on)
        if not found or made_on != on:
            keys.add_key(now, on=on)
        return keys

    @property
    def all(self) -> tuple[SessionKey, ...]:
        """Every key that verifies tokens; the first one signs new ones."""
        return self._keys

    def add_key(self, now: datetime, *, on: str | None = None) -> None:
        """Sign with a new key from now on; tokens of the old keys stay valid until their end.

        A cloned machine needs this, since it resumes with the original's keys. *on* is the new
        ``made_on``, if that has changed.
        """
        if on is not None:
            self.made_on = on
        key = SessionKey(
            key_id=self._random_bytes(KEY_ID_BYTES), secret=self._random_bytes(32), made_at=now
        )
        self._keys = (key, *_needed(key, self._keys, now=now))[:MOST_KEYS]
        if self._path is not None:
            self._write(self._path)

    def _write(self, path: Path) -> None:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, _as_json(self._keys, made_on=self.made_on))
        except OSError as error:
            self._warn(
                f"{path} cannot be written ({error.strerror}), so IMDS session tokens end with "
                "this process; make its directory writable for the broker"
            )


def _needed(
    new: SessionKey, old: tuple[SessionKey, ...], *, now: datetime
) -> tuple[SessionKey, ...]:
    """Return those of *old* that may have signed a live token.

    Each was replaced when the one before it in the row was made.
    """
    replaced_at = (new.made_at, *(key.made_at for key in old))
    return tuple(key for key, end in zip(old, replaced_at, strict=False) if now < end + OVERLAP)


def _as_json(keys: tuple[SessionKey, ...], *, made_on: str) -> bytes:
    rows = [
        {"id": key.key_id.hex(), "secret": key.secret.hex(), "made_at": key.made_at.isoformat()}
        for key in keys
    ]
    document = {"version": 1, "made_on": made_on, "keys": rows}
    return json.dumps(document, indent=1).encode("ascii")


def _read(path: Path, *, warn: Callable[[str], None]) -> tuple[tuple[SessionKey, ...], str]:
    """Return the keys in *path*, and what the newest was made on, "" if not recorded."""
    try:
        content = read_private(path, max_mode=0o600, max_bytes=STATE_FILE_LIMIT)
        document = json.loads(content)
        keys = tuple(_key(row) for row in document["keys"])
        return keys, str(document.get("made_on", ""))
    except FileNotFoundError:
        return (), ""
    except OSError as error:
        warn(f"{path} cannot be read ({error.strerror}), so older IMDS session tokens are void")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # The error itself may quote the content, so it is not reported.
        _set_aside(path, warn=warn)
    return (), ""


def _key(row: dict[str, str]) -> SessionKey:
    """Return the key of that row.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: It is not a key.
    """
    key = SessionKey(
        key_id=bytes.fromhex(row["id"]),
        secret=bytes.fromhex(row["secret"]),
        made_at=datetime.fromisoformat(row["made_at"]).astimezone(UTC),
    )
    if len(key.key_id) != KEY_ID_BYTES or len(key.secret) != 32:
        raise ValueError("a key of another length")
    return key


def _set_aside(path: Path, *, warn: Callable[[str], None]) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    try:
        path.replace(aside)
    except OSError as error:
        warn(f"{path} holds no signing keys and cannot be moved ({error.strerror}); remove it")
    else:
        warn(
            f"{path} held no usable signing keys (damaged, or readable for others), so older IMDS "
            f"session tokens are void; it is now {aside}, remove it"
        )


class SessionTokens:
    """Issue and verify session tokens of 56 characters.

    Nothing is stored, so none is ever evicted, and any process with the keys can verify them.

    Source: sdk-client-contract C-21, C-24, C-25.
    """

    def __init__(
        self, keys: SessionKeys, *, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> None:
        self._keys = keys
        self._random_bytes = random_bytes

    def issue(self, ttl_s: int, binding: str, now: datetime) -> str:
        """Return a token valid for *ttl_s* seconds (1 to 21600) for callers with that *binding*."""
        key = self._keys.all[0]
        expiry_ms = _milliseconds(now) + ttl_s * 1000
        signed = (
            key.key_id + expiry_ms.to_bytes(EXPIRY_BYTES, "big") + self._random_bytes(NONCE_BYTES)
        )
        return urlsafe_b64encode(signed + _mac(key, signed, binding)).decode("ascii")

    def seconds_left(self, token: str, binding: str, now: datetime) -> int | None:
        """Return the whole seconds for which *token* is still valid, 0 in its last one.

        None when it is not ours, was issued to another binding, or has ended.
        """
        end = self.valid_until(token, binding, now)
        return None if end is None else whole_seconds(end, now)

    def valid_until(self, token: str, binding: str, now: datetime) -> datetime | None:
        """Return when *token* ends; None as for `seconds_left`."""
        # The decoder skips characters outside its alphabet, so reject them first.
        if not TOKEN.fullmatch(token):
            return None
        raw = urlsafe_b64decode(token)
        signed, mac = raw[:SIGNED_BYTES], raw[SIGNED_BYTES:]
        expiry_ms = int.from_bytes(signed[KEY_ID_BYTES : KEY_ID_BYTES + EXPIRY_BYTES], "big")
        left_ms = expiry_ms - _milliseconds(now)
        if left_ms <= 0 or not any(
            hmac.compare_digest(mac, _mac(key, signed, binding))
            for key in self._keys.all
            if key.key_id == signed[:KEY_ID_BYTES]
        ):
            return None
        return EPOCH + timedelta(milliseconds=expiry_ms)


def whole_seconds(end: datetime, now: datetime) -> int:
    """Return the seconds from *now*, which counts in milliseconds, to *end*, rounded down."""
    return (_milliseconds(end) - _milliseconds(now)) // 1000


def _milliseconds(instant: datetime) -> int:
    return (instant - EPOCH) // timedelta(milliseconds=1)


def _mac(key: SessionKey, signed: bytes, binding: str) -> bytes:
    return hmac.digest(key.secret, signed + binding.encode(), "sha256")[:MAC_BYTES]
