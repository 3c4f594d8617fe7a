"""Who we are at Namespace: a token from a spec, a file or an instance. Renews nothing by itself."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from yarl import URL

from broker.clock import Clock
from broker.credentials import NamespaceToken, json_object
from broker.files.external import HalfWritten, read_text, read_when_complete
from broker.lease import Lease, Refused, Stale, Unavailable
from broker.sources.http_client import HttpClient, HttpResponse, may_be_plain, origin
from broker.sources.jwt import InvalidToken, bearer_lease, session_expiry, span
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.token_spec import InvalidTokenSpec, TokenSpec, parse_token_spec

METADATA_DIR = "/var/run/nsc"
METADATA_LIMIT_S = 5.0
METADATA_REDIRECTS = 5
MINTED_TOKEN_S = 3600
"""How long a tenant token minted from a session is to last; the server's maximum is 8 h.

Source: namespace-api 3.2, 6.1.
"""


class IdentitySource(Protocol):
    """A source of our Namespace token that knows which files its answer depends on."""

    async def fetch(self) -> Lease[NamespaceToken]:
        """Issue a lease, reading everything anew.

        Raises:
            Unavailable: No proper answer; worth asking again later.
            Refused: There is no identity, or none that is any good.
        """

    def watched(self) -> tuple[Path, ...]:
        """Return the files, present or not, whose change is a reason to fetch at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityClients:
    """What an identity may need besides files."""

    iam: NamespaceIam
    http: HttpClient
    clock: Clock
    metadata_limit_s: float = METADATA_LIMIT_S


def identity_source(
    *,
    source: str,
    token_file: Path | None,
    token_spec: Path | None,
    environ: Mapping[str, str],
    iam: NamespaceIam,
    http: HttpClient,
    clock: Clock,
    metadata_limit_s: float = METADATA_LIMIT_S,
) -> IdentitySource:
    """Return the source that the configuration names: auto, token-file or token-spec."""
    reach = IdentityClients(iam=iam, http=http, clock=clock, metadata_limit_s=metadata_limit_s)
    if source == "token-file" and token_file is not None:
        return TokenFileIdentity(token_file, named_by="token_file", reach=reach)
    if source == "token-spec" and token_spec is not None:
        return SpecFileIdentity(token_spec, named_by="token_spec", reach=reach)
    return AutoIdentity(environ, reach=reach)


class AutoIdentity:
    """The first identity there is, in the order of the public interface, chosen at each fetch.

    A variable that is set is there, whatever it names, as for nsc: falling through to another
    identity because a file is late would be a surprise.
    """

    def __init__(self, environ: Mapping[str, str], *, reach: IdentityClients) -> None:
        self._environ = environ
        self._reach = reach

    async def fetch(self) -> Lease[NamespaceToken]:
        places = list(self._places())
        for place in places:
            if place.is_there():
                return await place.fetch()
        looked_at = ", ".join(str(path) for path in self.watched())
        raise Refused(
            "there is no Namespace identity: NSC_TOKEN_SPEC, NSC_TOKEN_SPEC_FILE and "
            f"NSC_TOKEN_FILE are not set, and none of {looked_at} is there; "
            "run `nsc login`, or set one of them",
            word="no-identity",
        )

    def watched(self) -> tuple[Path, ...]:
        return tuple(path for place in self._places() for path in place.watched())

    def _places(
        self,
    ) -> Iterator["InlineSpecIdentity | SpecFileIdentity | TokenFileIdentity"]:
        reach = self._reach
        if spec := self._environ.get("NSC_TOKEN_SPEC"):
            yield InlineSpecIdentity(spec, reach=reach)
        elif path := self._environ.get("NSC_TOKEN_SPEC_FILE"):
            yield SpecFileIdentity(
                Path(path), named_by="NSC_TOKEN_SPEC_FILE", reach=reach, chosen=True
            )
        elif path := self._environ.get("NSC_TOKEN_FILE"):
            yield TokenFileIdentity(Path(path), named_by="NSC_TOKEN_FILE", reach=reach, chosen=True)
        else:
            for place, named_by in places(self._environ):
                kind = SpecFileIdentity if place.suffix == ".spec" else TokenFileIdentity
                yield kind(place, named_by=named_by, reach=reach)


def places(environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """Yield the files that are looked for where no variable names one, and by whose rule."""
    directory = Path(environ.get("NSC_METADATA_DIR") or METADATA_DIR)
    yield directory / "token.json", "NSC_METADATA_DIR"
    yield directory / "token.spec", "NSC_METADATA_DIR"
    if config := _user_config(environ):
        yield config / "ns" / "token.json", "nsc"


def _user_config(environ: Mapping[str, str]) -> Path | None:
    if named := environ.get("XDG_CONFIG_HOME"):
        return Path(named)
    home = environ.get("HOME")
    return Path(home) / ".config" if home else None


class InlineSpecIdentity:
    """A token spec held in a variable."""

    def __init__(self, text: str, *, reach: IdentityClients) -> None:
        self._text = text
        self._reach = reach

    async def fetch(self) -> Lease[NamespaceToken]:
        try:
            spec = parse_token_spec(self._text)
        except InvalidTokenSpec as error:
            raise Refused(
                f"NSC_TOKEN_SPEC {error}; set it to what token.spec holds", word="bad-token-spec"
            ) from error
        return await _by_spec(spec, place="NSC_TOKEN_SPEC", reach=self._reach)

    def is_there(self) -> bool:
        return True

    def watched(self) -> tuple[Path, ...]:
        return ()


class SpecFileIdentity:
    """A token spec held in a file."""

    def __init__(
        self, path: Path, *, named_by: str, reach: IdentityClients, chosen: bool = False
    ) -> None:
        """*chosen*: an operator named it, so that its absence is an error and no alternative."""
        self._path = path
        self._named_by = named_by
        self._reach = reach
        self._chosen = chosen

    async def fetch(self) -> Lease[NamespaceToken]:
        spec = await read_when_complete(self._read, clock=self._reach.clock)
        return await _by_spec(spec, place=str(self._path), reach=self._reach)

    def is_there(self) -> bool:
        return self._chosen or path_exists(self._path)

    def watched(self) -> tuple[Path, ...]:
        return (self._path,)

    def _read(self) -> TokenSpec:
        try:
            return parse_token_spec(read_text(self._path, named_by=self._named_by))
        except InvalidTokenSpec as error:
            raise HalfWritten(
                f"{self._path} {error}; is it a token spec?", word="bad-token-spec"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFileContent:
    """What a token file holds: a session, which stands over a bearer beside it, or a bearer."""

    session: str | None = field(default=None, repr=False)
    bearer: str | None = field(default=None, repr=False)


class TokenFileIdentity:
    """A token file as nsc and the SDKs keep it: a bearer token, or a session that mints them."""

    def __init__(
        self, path: Path, *, named_by: str, reach: IdentityClients, chosen: bool = False
    ) -> None:
        """*chosen*: an operator named it, so that its absence is an error and no alternative."""
        self._path = path
        self._named_by = named_by
        self._reach = reach
        self._chosen = chosen

    async def fetch(self) -> Lease[NamespaceToken]:
        held = await read_when_complete(self._read, clock=self._reach.clock)
        if held.session is not None:
            return await self._minted(held.session)
        assert held.bearer is not None
        return _usable(held.bearer, place=str(self._path), clock=self._reach.clock)

    def is_there(self) -> bool:
        return self._chosen or path_exists(self._path)

    def watched(self) -> tuple[Path, ...]:
        return (self._path,)

    def _read(self) -> TokenFileContent:
        document = json_object(read_text(self._path, named_by=self._named_by))
        if document is None:
            raise HalfWritten(f"{self._path} holds no JSON object; is it a token file?")
        session = self._token_in(document, "session_token")
        if session is not None:
            return TokenFileContent(session=session)
        # The older name stands over the newer one, as for nsc.
        bearer = self._token_in(document, "tenant_token") or self._token_in(
            document, "bearer_token"
        )
        if bearer is None:
            raise Refused(
                f"{self._path} holds neither a bearer_token nor a session_token; "
                "run `nsc login`, or name another file",
                word="bad-token-file",
            )
        return TokenFileContent(bearer=bearer)

    def _token_in(self, document: Mapping[str, object], key: str) -> str | None:
        value = document.get(key)
        if value is not None and not isinstance(value, str):
            raise Refused(
                f"{key} in {self._path} is no text; is it a token file?", word="bad-token-file"
            )
        return value or None

    async def _minted(self, session: str) -> Lease[NamespaceToken]:
        """Mint a tenant token; a session that was replaced meanwhile is given one more chance."""
        try:
            return await self._mint(session)
        except Stale as error:
            newer = (await read_when_complete(self._read, clock=self._reach.clock)).session
            if newer is None or newer == session:
                raise self._revoked(error) from error
            session = newer
        try:
            return await self._mint(session)
        except Stale as error:
            raise self._revoked(error) from error

    async def _mint(self, session: str) -> Lease[NamespaceToken]:
        now = self._reach.clock.now()
        try:
            ends_at = session_expiry(session)
        except InvalidToken as error:
            raise Refused(
                f"the session_token in {self._path} {error}; run `nsc login`",
                word="bad-token-file",
            ) from error
        if ends_at is not None and ends_at <= now:
            raise Refused(
                f"the session in {self._path} ended {span(now - ends_at)} ago; run `nsc login`",
                word="expired-token",
            )
        minted = await self._reach.iam.tenant_token_from_session(session, duration_s=MINTED_TOKEN_S)
        return _answered(minted, of="Namespace IAM", clock=self._reach.clock)

    def _revoked(self, error: Stale) -> Refused:
        return Refused(
            f"Namespace does not take the session in {self._path} ({error}); run `nsc login`",
            word="unauthenticated",
        )


async def _by_spec(spec: TokenSpec, *, place: str, reach: IdentityClients) -> Lease[NamespaceToken]:
    if spec.inline_token is not None:
        return _usable(spec.inline_token, place=place, clock=reach.clock)
    assert spec.metadata_url is not None
    return await _from_metadata(spec.metadata_url, reach=reach)


async def _from_metadata(metadata_url: URL, *, reach: IdentityClients) -> Lease[NamespaceToken]:
    """Ask the instance's metadata service. Stricter than nsc: an error page is no token.

    Source: namespace-api 5.
    """
    of = f"the Namespace metadata service ({origin(metadata_url)})"
    try:
        async with asyncio.timeout(reach.metadata_limit_s):
            reply = await _followed(metadata_url / "workload_token", of=of, reach=reach)
    except TimeoutError as error:
        raise Unavailable(
            f"{of} gave no answer within {reach.metadata_limit_s:g} s", word="timeout"
        ) from error
    if reply.status != 200:
        raise Unavailable(
            f"{of} answered HTTP {reply.status} instead of a token",
            word="upstream-error" if reply.status >= 500 else "bad-answer",
        )
    token = reply.body.decode("ascii", "replace").strip("\r\n")
    return _answered(token, of=of, clock=reach.clock)


async def _followed(url: URL, *, of: str, reach: IdentityClients) -> HttpResponse:
    for _ in range(METADATA_REDIRECTS + 1):
        reply = await reach.http.send("GET", url, upstream=of, limit_s=reach.metadata_limit_s)
        location = reply.headers.get("Location")
        if reply.status not in (301, 302, 303, 307, 308) or location is None:
            return reply
        url = _redirected(url, location, of=of)
    raise Unavailable(f"{of} redirects without end", word="bad-answer")


def _redirected(url: URL, location: str, *, of: str) -> URL:
    try:
        target = url.join(URL(location))
        followed = may_be_plain(target)
    except ValueError:
        followed = False
    if not followed:
        raise Unavailable(f"{of} redirects to where no token may come from", word="bad-answer")
    return target


def _answered(token: str, *, of: str, clock: Clock) -> Lease[NamespaceToken]:
    """Return what upstream issued as a lease."""
    try:
        return bearer_lease(token, now=clock.now())
    except InvalidToken as error:
        raise Unavailable(f"what {of} answered {error}", word="bad-answer") from error


def _usable(token: str, *, place: str, clock: Clock) -> Lease[NamespaceToken]:
    """Return what somebody keeps in *place* for us as a lease, unless it has ended."""
    now = clock.now()
    try:
        lease = bearer_lease(token, now=now)
    except InvalidToken as error:
        raise Refused(
            f"the token in {place} {error}; is it Namespace's?", word="bad-token"
        ) from error
    if lease.expires_at is not None and not lease.is_live(now=now):
        raise _ended(lease.expires_at, place=place, now=now)
    return lease


def _ended(ended_at: datetime, *, place: str, now: datetime) -> Refused:
    step = (
        "set a newer one, or name a token file, which is read again"
        if place == "NSC_TOKEN_SPEC"
        else "is its writer still running?"
    )
    return Refused(
        f"the token in {place} ended {span(now - ended_at)} ago; {step}", word="expired-token"
    )


def path_exists(path: Path) -> bool:
    """Say whether there is something at *path*, readable or not; a closed directory is nothing."""
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True
