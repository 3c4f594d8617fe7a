"""Get the broker's own Namespace token from a token spec, a token file or the instance."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from yarl import URL

from broker.clock import Clock
from broker.credentials import NamespaceToken, json_object
from broker.files.external import (
    HalfWritten,
    Run,
    exists,
    original_of,
    read_text,
    read_when_complete,
)
from broker.files.off_loop import off_loop
from broker.lease import Lease, Refused, SourceError, Stale, Unavailable
from broker.sources.http_client import HttpClient, HttpResponse, may_be_plain, origin
from broker.sources.jwt import InvalidToken, bearer_lease, duration_text, session_expiry, to_local
from broker.sources.namespace.api import NamespaceIam
from broker.sources.namespace.token_spec import InvalidTokenSpec, TokenSpec, parse_token_spec

METADATA_DIR = "/var/run/nsc"
METADATA_LIMIT_S = 5.0
METADATA_REDIRECTS = 5
MINTED_TOKEN_S = 3600
"""How long a tenant token issued from a session is to last; the server's maximum is 8 h.

Source: namespace-api 3.2, 6.1.
"""

T = TypeVar("T")


class IdentitySource(Protocol):
    """A source of our Namespace token that knows which files it depends on."""

    async def fetch(self) -> Lease[NamespaceToken]:
        """Issue a lease; every file is read again.

        Raises:
            Unavailable: No proper answer.
            Refused: There is no usable identity.
        """

    def watched(self) -> tuple[Path, ...]:
        """Return the files, present or not, whose change should cause a fetch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityClients:
    """What an identity source uses besides files."""

    iam: NamespaceIam
    http: HttpClient
    clock: Clock
    metadata_limit_s: float = METADATA_LIMIT_S
    run: Run = off_loop

    async def read(self, read: Callable[[], T], path: Path) -> T:
        """Return the result of *read*, which reads *path*, once that is written completely."""
        return await read_when_complete(read, path=path, clock=self.clock, run=self.run)

    def cloud_now(self) -> datetime:
        """Return the time by Namespace's clock, as far as it is known."""
        return self.http.skew.to_cloud(self.clock.now())


def identity_source(  # noqa: PLR0913 - keyword-only, and each a part of its own
    *,
    source: str,
    token_file: Path | None,
    token_spec: Path | None,
    environ: Mapping[str, str],
    iam: NamespaceIam,
    http: HttpClient,
    clock: Clock,
    metadata_limit_s: float = METADATA_LIMIT_S,
    run: Run = off_loop,
) -> IdentitySource:
    """Return the source for *source*: auto, token-file or token-spec.

    Files are looked at by *run*, off the event loop.
    """
    clients = IdentityClients(
        iam=iam, http=http, clock=clock, metadata_limit_s=metadata_limit_s, run=run
    )
    if source == "token-file" and token_file is not None:
        return TokenFileIdentity(token_file, named_by="token_file", clients=clients)
    if source == "token-spec" and token_spec is not None:
        return SpecFileIdentity(token_spec, named_by="token_spec", clients=clients)
    return AutoIdentity(environ, clients=clients)


class AutoIdentity:
    """The first identity that exists, in the order of the interface, chosen at each fetch.

    A variable that is set counts, whatever it names, as for nsc: falling back to another identity
    because a file is late would be a surprise.
    """

    def __init__(self, environ: Mapping[str, str], *, clients: IdentityClients) -> None:
        self._environ = environ
        self._clients = clients

    async def fetch(self) -> Lease[NamespaceToken]:
        for place in self._places():
            if await place.is_there():
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
        clients = self._clients
        if spec := self._environ.get("NSC_TOKEN_SPEC"):
            yield InlineSpecIdentity(spec, clients=clients)
        elif path := self._environ.get("NSC_TOKEN_SPEC_FILE"):
            yield SpecFileIdentity(
                Path(path), named_by="NSC_TOKEN_SPEC_FILE", clients=clients, required=True
            )
        elif path := self._environ.get("NSC_TOKEN_FILE"):
            yield TokenFileIdentity(
                Path(path), named_by="NSC_TOKEN_FILE", clients=clients, required=True
            )
        else:
            for place, named_by in token_paths(self._environ):
                kind = SpecFileIdentity if place.suffix == ".spec" else TokenFileIdentity
                yield kind(place, named_by=named_by, clients=clients)


def token_paths(environ: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """Yield the files to look for where no variable names one, and who defines each."""
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
    """A token spec in a variable."""

    def __init__(self, text: str, *, clients: IdentityClients) -> None:
        self._text = text
        self._clients = clients

    async def fetch(self) -> Lease[NamespaceToken]:
        try:
            spec = parse_token_spec(self._text)
        except InvalidTokenSpec as error:
            raise Refused(
                f"NSC_TOKEN_SPEC {error}; set it to what token.spec holds", word="bad-token-spec"
            ) from error
        return await _by_spec(spec, place="NSC_TOKEN_SPEC", clients=self._clients)

    async def is_there(self) -> bool:
        return True

    def watched(self) -> tuple[Path, ...]:
        return ()


class SpecFileIdentity:
    """A token spec in a file."""

    def __init__(
        self, path: Path, *, named_by: str, clients: IdentityClients, required: bool = False
    ) -> None:
        """With *required* the file was named explicitly, so its absence is an error."""
        self._path = path
        self._named_by = named_by
        self._clients = clients
        self._required = required

    async def fetch(self) -> Lease[NamespaceToken]:
        spec = await self._clients.read(self._read, self._path)
        return await _by_spec(spec, place=str(self._path), clients=self._clients)

    async def is_there(self) -> bool:
        return self._required or await exists(self._path, run=self._clients.run)

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
    """A token file holds a session, which has precedence, or a bearer."""

    session: str | None = field(default=None, repr=False)
    bearer: str | None = field(default=None, repr=False)


class TokenFileIdentity:
    """A token file as nsc and the SDKs write it: a bearer token, or a session that issues them."""

    def __init__(
        self, path: Path, *, named_by: str, clients: IdentityClients, required: bool = False
    ) -> None:
        """With *required* the file was named explicitly, so its absence is an error."""
        self._path = path
        self._named_by = named_by
        self._clients = clients
        self._required = required

    async def fetch(self) -> Lease[NamespaceToken]:
        try:
            content = await self._content()
            if content.session is not None:
                return await self._issue_from(content.session)
            assert content.bearer is not None
            return _kept_lease(content.bearer, place=str(self._path), clients=self._clients)
        except SourceError as error:
            named = await self._about_original(error)
            if named is error:
                raise
            raise named from error

    async def is_there(self) -> bool:
        return self._required or await exists(self._path, run=self._clients.run)

    def watched(self) -> tuple[Path, ...]:
        return (self._path,)

    async def _content(self) -> TokenFileContent:
        return await self._clients.read(self._read, self._path)

    async def _about_original(self, error: SourceError) -> SourceError:
        """Return *error*, about the file that people know where ours is a copy of it."""
        try:
            original, problem = await self._clients.run(lambda: original_of(self._path))
        except TimeoutError:
            return error
        if original == self._path:
            return error
        text = problem or str(error).replace(str(self._path), str(original))
        if isinstance(error, Unavailable):
            return Unavailable(text, word=error.word, retry_after_s=error.retry_after_s)
        return Refused(text, word=error.word)

    def _read(self) -> TokenFileContent:
        document = json_object(read_text(self._path, named_by=self._named_by))
        if document is None:
            raise HalfWritten(f"{self._path} holds no JSON object; is it a token file?")
        session = self._token_in(document, "session_token")
        if session is not None:
            return TokenFileContent(session=session)
        # The older name has precedence, as for nsc.
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
                f"{key} in {self._path} is not text; is it a token file?", word="bad-token-file"
            )
        return value or None

    async def _issue_from(self, session: str) -> Lease[NamespaceToken]:
        """Issue a tenant token; a session that was replaced meanwhile is read again, once."""
        try:
            return await self._issue_once(session)
        except Stale as error:
            newer = (await self._clients.read(self._read, self._path)).session
            if newer is None or newer == session:
                raise self._revoked(error) from error
            session = newer
        try:
            return await self._issue_once(session)
        except Stale as error:
            raise self._revoked(error) from error

    async def _issue_once(self, session: str) -> Lease[NamespaceToken]:
        now = self._clients.cloud_now()
        try:
            ends_at = session_expiry(session)
        except InvalidToken as error:
            raise Refused(
                f"the session_token in {self._path} {error}; run `nsc login`",
                word="bad-token-file",
            ) from error
        if ends_at is not None and ends_at <= now:
            raise Refused(
                f"the session in {self._path} ended {duration_text(now - ends_at)} ago; "
                "run `nsc login`",
                word="expired-token",
            )
        issued = await self._clients.iam.tenant_token_from_session(
            session, duration_s=MINTED_TOKEN_S
        )
        return _issued_lease(issued, upstream="Namespace IAM", clients=self._clients)

    def _revoked(self, error: Stale) -> Refused:
        return Refused(
            f"Namespace does not accept the session in {self._path} ({error}); run `nsc login`",
            word="unauthenticated",
        )


async def _by_spec(
    spec: TokenSpec, *, place: str, clients: IdentityClients
) -> Lease[NamespaceToken]:
    if spec.inline_token is not None:
        return _kept_lease(spec.inline_token, place=place, clients=clients)
    assert spec.metadata_url is not None
    return await _from_metadata(spec.metadata_url, clients=clients)


async def _from_metadata(metadata_url: URL, *, clients: IdentityClients) -> Lease[NamespaceToken]:
    """Ask the instance's metadata service. Unlike nsc, take no error page for a token.

    Source: namespace-api 5.
    """
    upstream = f"the Namespace metadata service ({origin(metadata_url)})"
    try:
        async with asyncio.timeout(clients.metadata_limit_s):
            response = await _get_following(
                metadata_url / "workload_token", upstream=upstream, clients=clients
            )
    except TimeoutError as error:
        raise Unavailable(
            f"{upstream} gave no answer within {clients.metadata_limit_s:g} s", word="timeout"
        ) from error
    if response.status != 200:
        raise Unavailable(
            f"{upstream} answered HTTP {response.status} instead of a token",
            word="upstream-error" if response.status >= 500 else "bad-answer",
        )
    token = response.body.decode("ascii", "replace").strip("\r\n")
    return _issued_lease(token, upstream=upstream, clients=clients)


async def _get_following(url: URL, *, upstream: str, clients: IdentityClients) -> HttpResponse:
    for _ in range(METADATA_REDIRECTS + 1):
        response = await clients.http.send(
            "GET", url, upstream=upstream, limit_s=clients.metadata_limit_s
        )
        location = response.headers.get("Location")
        if response.status not in (301, 302, 303, 307, 308) or location is None:
            return response
        url = _redirect_target(url, location, upstream=upstream)
    raise Unavailable(f"{upstream} redirects without end", word="bad-answer")


def _redirect_target(url: URL, location: str, *, upstream: str) -> URL:
    try:
        target = url.join(URL(location))
        followed = may_be_plain(target)
    except ValueError:
        followed = False
    if not followed:
        raise Unavailable(
            f"{upstream} redirects to where no token may come from", word="bad-answer"
        )
    return target


def _issued_lease(token: str, *, upstream: str, clients: IdentityClients) -> Lease[NamespaceToken]:
    """Return the token that *upstream* issued as a lease."""
    try:
        return to_local(bearer_lease(token, now=clients.cloud_now()), clients.http.skew)
    except InvalidToken as error:
        raise Unavailable(f"what {upstream} answered {error}", word="bad-answer") from error


def _kept_lease(token: str, *, place: str, clients: IdentityClients) -> Lease[NamespaceToken]:
    """Return the token in *place* as a lease, unless it has ended."""
    now = clients.cloud_now()
    try:
        lease = bearer_lease(token, now=now)
    except InvalidToken as error:
        raise Refused(
            f"the token in {place} {error}; is it Namespace's?", word="bad-token"
        ) from error
    if lease.expires_at is not None and not lease.is_live(now=now):
        raise _ended(lease.expires_at, place=place, now=now)
    return to_local(lease, clients.http.skew)


def _ended(ended_at: datetime, *, place: str, now: datetime) -> Refused:
    step = (
        "set a newer one, or name a token file, which is read again"
        if place == "NSC_TOKEN_SPEC"
        else "is its writer still running?"
    )
    return Refused(
        f"the token in {place} ended {duration_text(now - ended_at)} ago; {step}",
        word="expired-token",
    )
