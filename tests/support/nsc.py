"""nsc as a reader: which credential it picks and which token it then sends.

Stands for the vendor's binary, to the letter of its source.

Source: namespace-api 2.3 (which credential), 3 (files), 3.2 (the cache), 4 (tokens), 5 (specs).
"""

import base64
import binascii
import http.client
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from tests.support.nsc_claims import Claims, NotLoggedIn, claims_of

USUAL_NEED = timedelta(minutes=15)
METADATA_LIMIT_S = 5.0
REDIRECTS = 10


class WouldMint(Exception):
    """There is a session token: nsc would now ask Namespace for a tenant token."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What one source of credentials gave. ``cache`` is where derived tokens are kept."""

    bearer: str
    session: str | None = None
    revocable: bool = False
    cache: Path | None = None

    @property
    def claims(self) -> Claims:
        return claims_of(self.session or self.bearer)


@dataclass(kw_only=True)
class Nsc:
    """One run of nsc on Linux. *older*: of before 2026-08-21, which trips over a bad cache."""

    environ: Mapping[str, str]
    config: Path
    keychain: str | None = None
    workspace: str | None = None
    older: bool = False
    now: Callable[[], datetime] = _now
    warnings: list[str] = field(default_factory=list)

    def bearer(self, *, need: timedelta = USUAL_NEED) -> str:
        """Return what would go into ``Authorization`` of a call that wants *need* of validity.

        Raises:
            NotLoggedIn: There is nothing that nsc would use.
            WouldMint: Only a session token is left.
        """
        loaded = self._loaded()
        if loaded.revocable:
            return loaded.bearer
        until = self.now() + need
        if loaded.bearer and claims_of(loaded.bearer).outlives(until):
            return loaded.bearer
        cached = self._cached(loaded, until=until)
        if cached is not None:
            return cached
        if loaded.session:
            raise WouldMint
        # "Minting" without a session is the file's token again, however little of it is left.
        self._keep(loaded)
        return loaded.bearer

    def tenant_id(self) -> str | None:
        return self._loaded().claims.tenant_id

    def instance_id(self) -> str:
        """``nsc instance metadata read id``."""
        return _read(self._metadata_url(self._spec() or ""), "id")

    def _loaded(self) -> Loaded:
        if self.keychain is not None:
            return self._file(self.config / "keychain" / f"{self.keychain}.json")
        spec = self._spec()
        if spec is not None:
            return self._by_spec(spec)
        if named := self.environ.get("NSC_TOKEN_FILE"):
            return self._file(Path(named))
        name = "token.json" if self.workspace is None else f"token_{self.workspace}.json"
        return self._file(self.config / name)

    def _file(self, path: Path) -> Loaded:
        try:
            document = json.loads(path.read_text())
        except FileNotFoundError as error:
            raise NotLoggedIn("not logged in") from error
        if not isinstance(document, dict):
            raise TypeError("a token file that is no object")
        session = document.get("session_token") or None
        bearer = document.get("tenant_token") or document.get("bearer_token") or ""
        revocable = session is None and bearer.startswith("nsrt_")
        loaded = Loaded(
            bearer=bearer,
            session=session,
            revocable=revocable,
            cache=path.with_name("token.cache"),
        )
        if not revocable:
            self._require_live(loaded)
        return loaded

    def _by_spec(self, spec: str) -> Loaded:
        document = decoded_spec(spec)
        bearer = document.get("inline_token") or _read(self._metadata_url(spec), "workload_token")
        loaded = Loaded(bearer=bearer)
        self._require_live(loaded)
        return loaded

    def _require_live(self, loaded: Loaded) -> None:
        if not loaded.claims.outlives(self.now()):
            kind = "workload" if loaded.bearer.startswith("nscw_") else "login"
            raise NotLoggedIn(f"{kind} token expired")

    def _spec(self) -> str | None:
        if spec := self.environ.get("NSC_TOKEN_SPEC"):
            return spec
        if named := self.environ.get("NSC_TOKEN_SPEC_FILE"):
            return Path(named).read_text()
        return None

    def _metadata_url(self, spec: str) -> str:
        document = decoded_spec(spec)
        if document.get("version") != "v1":
            raise NotLoggedIn("a token spec of an unknown version")
        return document["metadata_url"]

    def _cached(self, loaded: Loaded, *, until: datetime) -> str | None:
        if loaded.cache is None or not loaded.cache.exists():
            return None
        cached = loaded.cache.read_text()
        try:
            claims = claims_of(cached)
        except NotLoggedIn:
            if self.older:
                raise
            return None
        same = claims.tenant_id == loaded.claims.tenant_id
        return cached if same and claims.outlives(until) else None

    def _keep(self, loaded: Loaded) -> None:
        if loaded.cache is None:
            return
        try:
            loaded.cache.touch(mode=0o600)
            loaded.cache.write_text(loaded.bearer)
        except OSError as error:
            self.warnings.append(f"token.cache: {error.strerror}")


def decoded_spec(spec: str) -> dict[str, str]:
    """Return the spec, decoded as Go's ``RawStdEncoding`` does.

    CR and LF are skipped; padding, spaces and URL-safe characters are errors.

    Raises:
        NotLoggedIn: It is something else.
    """
    letters = spec.replace("\r", "").replace("\n", "")
    if not re.fullmatch(r"[A-Za-z0-9+/]*", letters):
        raise NotLoggedIn("a token spec that is not base64")
    try:
        document = json.loads(base64.b64decode(letters + "=" * (-len(letters) % 4)))
    except (binascii.Error, ValueError) as error:
        raise NotLoggedIn("a token spec that cannot be decoded") from error
    assert isinstance(document, dict)
    return document


def _read(metadata_url: str, key: str) -> str:
    """Return the body, whatever the status, as it is; no header of our own is sent.

    Raises:
        OSError, http.client.HTTPException: There was no answer.
    """
    url = f"{metadata_url}/{key}"
    for _ in range(REDIRECTS):
        at = urlsplit(url)
        connection = http.client.HTTPConnection(at.netloc, timeout=METADATA_LIMIT_S)
        try:
            connection.request("GET", at.path)
            reply = connection.getresponse()
            body = reply.read()
        finally:
            connection.close()
        location = reply.getheader("Location")
        if location is None or reply.status not in (301, 302, 303, 307, 308):
            return body.decode()
        url = urljoin(url, location)
    raise NotLoggedIn("stopped after 10 redirects")
