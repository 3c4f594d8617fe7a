"""Serve Namespace and ID tokens over HTTP, and the token spec that points nsc to them."""

import hmac
import json
import os
import re
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qs

from broker.access.caller import Caller, Grant
from broker.access.rules import Rules
from broker.credentials import IdToken, NamespaceToken
from broker.files.private import read_private, write_private
from broker.http.guard import Guard
from broker.http.message import Answer, Request
from broker.surfaces.container import WAIT_S, Container, authenticate, path_and_tokens
from broker.surfaces.container_tokens import ContainerTokens
from broker.surfaces.documents import (
    LeaseHolder,
    issued,
    json_answer,
    live_lease,
    pending,
    problem,
    rfc3339_or_none,
)

MASTER_BYTES = 32
UID_BYTES = 4
SEAL_BYTES = 28

NAMESPACE_TOKEN = ("v1", "namespace-token")
ID_TOKEN = ("v1", "id-token")


class TokenSpecSigner:
    """Make and verify the secret path segment of each caller's token spec.

    A segment is the caller's uid and a MAC over it, 32 bytes in URL-safe characters, so none is
    stored.
    """

    def __init__(self, master: bytes) -> None:
        self._master = master

    def segment_for(self, uid: int) -> str:
        """Return that user's segment, always the same, 43 characters."""
        uid_bytes = uid.to_bytes(UID_BYTES, "big")
        seal = hmac.digest(self._master, b"token-spec" + uid_bytes, sha256)[:SEAL_BYTES]
        return urlsafe_b64encode(uid_bytes + seal).rstrip(b"=").decode("ascii")

    def caller_uid(self, segment: str) -> int | None:
        """Return the uid that *segment* was made for, or None; compared in constant time."""
        # As bytes: text that is not ASCII cannot be compared in constant time.
        raw = segment.encode("utf-8", "surrogatepass")
        try:
            uid = int.from_bytes(urlsafe_b64decode(raw[:8])[:UID_BYTES], "big")
        except ValueError:
            return None
        return uid if hmac.compare_digest(self.segment_for(uid).encode("ascii"), raw) else None


def load_token_spec_signer(path: Path) -> TokenSpecSigner:
    """Return the signer whose master secret is in *path*, made 0600 where there is none.

    Token specs stay valid as long as the file is kept.

    Raises:
        ValueError: The file may not be used; the sentence says what to do.
        OSError: It can be neither read nor written.
    """
    try:
        master = read_private(path, max_mode=0o600, max_bytes=MASTER_BYTES)
    except FileNotFoundError:
        master = os.urandom(MASTER_BYTES)
        write_private(path, master)
    if len(master) != MASTER_BYTES:
        raise ValueError(
            f"{path} holds {len(master)} bytes, not {MASTER_BYTES}; remove it and another is made"
        )
    return TokenSpecSigner(master)


def token_spec(base_url: str, segment: str) -> str:
    """Return the value of ``NSC_TOKEN_SPEC`` for the container endpoint at *base_url*.

    It is JSON in base64 of the standard alphabet without padding, and as secret as the token.

    Source: namespace-api 5.
    """
    spec = {"version": "v1", "metadata_url": f"{base_url.rstrip('/')}/nsc/v1/{segment}"}
    text = json.dumps(spec, separators=(",", ":")).encode("ascii")
    return b64encode(text).rstrip(b"=").decode("ascii")


class NamespaceTokens:
    """Namespace and ID tokens for callers that present a secret, as the rules grant them.

    nsc can send no header and takes any body for the token, whatever the status: on its paths the
    secret is a segment, and every answer but the token is a closed connection. All other clients
    send ``Authorization`` and get JSON:
    ``{"token", "expires_at", "tenant_id", "instance_id"}`` for a Namespace token,
    ``{"token", "expires_at", "audience", "issuer", "subject"}`` for an ID token. Null is what is
    not known; an ``expires_at`` of null means that the token is valid until revoked.

    Source: namespace-api 5; interface, "Paths served".
    """

    name = "namespace"

    def __init__(
        self,
        tokens: Mapping[str, LeaseHolder[NamespaceToken]],
        *,
        id_tokens: Mapping[str, LeaseHolder[IdToken]],
        rules: Rules,
        guard: Guard,
        container_tokens: ContainerTokens,
        token_spec_signer: TokenSpecSigner,
    ) -> None:
        """Serve *tokens*, by identity name, and *id_tokens*, by audience.

        Of several tokens that a caller may have, the first is the default.
        """
        self._tokens = tokens
        self._id_tokens = id_tokens
        self._rules = rules
        self._guard = guard
        self._container_tokens = container_tokens
        self._token_spec_signer = token_spec_signer

    def serves(self, request: Request) -> bool:
        """Return whether the path is below one of ours; otherwise it is `Container`'s."""
        segments, _ = path_and_tokens(request)
        return segments[:1] == ("nsc",) or segments in (NAMESPACE_TOKEN, ID_TOKEN)

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        """Answer from memory."""
        segments, _ = path_and_tokens(request)
        if segments not in (NAMESPACE_TOKEN, ID_TOKEN):
            return self._answer_nsc(request, caller, now=now)
        route = segments[1]
        token = authenticate(
            request, guard=self._guard, container_tokens=self._container_tokens, route=route
        )
        if isinstance(token, Answer):
            return token
        grant = self._rules.grant_for(caller.with_token(token))
        document_of = self._namespace_token if segments == NAMESPACE_TOKEN else self._id_token
        answer = document_of(request, grant, now=now)
        return replace(answer, rule=grant.rule, caller_token=token)

    def nothing_to_serve(self) -> Answer:
        """Close the connection: nsc would take a body for the token."""
        return closed()

    def bad_request(self) -> Answer:
        return closed()

    def head_too_long(self) -> Answer:
        return closed()

    def _answer_nsc(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        if objection := self._guard.objection(request):
            return closed(objection)
        match request.path.split("/"):
            case ["", "nsc", "v1", segment, "workload_token" | "id" as name]:
                if request.method != "GET":
                    return closed()
            case _:
                return closed("segment-missing")
        uid = self._token_spec_signer.caller_uid(segment)
        # Root may be a relay of another network namespace, and where the uid is unknown the segment
        # says who it is. Any other known caller must be the user whom the segment was made for.
        if uid is None or caller.uid not in (uid, 0, None):
            return closed("segment-bad")
        grant = self._rules.grant_for(caller.as_user(uid))
        keeper = self._token_for(grant)
        lease = live_lease(keeper, now=now)
        if lease is None:
            absent = closed(None if grant.namespace_tokens else "not-granted")
            return replace(absent, pending=pending(keeper, within_s=WAIT_S, now=now))
        text = lease.value.bearer if name == "workload_token" else lease.value.instance_id
        if text is None or not is_visible(text):
            return closed()
        return Answer(
            status=200,
            body=text.encode("ascii"),
            content_type="text/plain",
            route="token-spec",
            issued=issued("namespace-token", lease) if name == "workload_token" else None,
            rule=grant.rule,
        )

    def _namespace_token(self, request: Request, grant: Grant, *, now: datetime) -> Answer:
        keeper = self._token_for(grant, query_values(request, "identity"))
        lease = live_lease(keeper, now=now)
        if lease is None:
            absent = _absent("namespace-token", granted=bool(grant.namespace_tokens))
            return replace(absent, pending=pending(keeper, within_s=WAIT_S, now=now))
        document = {
            "token": lease.value.bearer,
            "expires_at": rfc3339_or_none(lease.expires_at),
            "tenant_id": lease.value.tenant_id,
            "instance_id": lease.value.instance_id,
        }
        record = issued("namespace-token", lease)
        return json_answer(200, document, route="namespace-token", issued=record)

    def _id_token(self, request: Request, grant: Grant, *, now: datetime) -> Answer:
        named = query_values(request, "audience")
        granted = [audience for audience in grant.id_token_audiences if [audience] == named]
        keeper = self._id_tokens.get(granted[0]) if granted else None
        lease = live_lease(keeper, now=now)
        if lease is None:
            absent = _absent("id-token", granted=bool(grant.id_token_audiences))
            return replace(absent, pending=pending(keeper, within_s=WAIT_S, now=now))
        document = {
            "token": lease.value.jwt,
            "expires_at": rfc3339_or_none(lease.expires_at),
            "audience": lease.value.audience,
            "issuer": lease.value.issuer,
            "subject": lease.value.subject,
        }
        record = issued("id-token", lease)
        return json_answer(200, document, route="id-token", issued=record)

    def _token_for(
        self, grant: Grant, named: Sequence[str] = ()
    ) -> LeaseHolder[NamespaceToken] | None:
        granted = [name for name in self._tokens if name in grant.namespace_tokens]
        chosen = [name for name in granted if [name] == named] if named else granted[:1]
        return self._tokens[chosen[0]] if chosen else None


def closed(refusal: str | None = None) -> Answer:
    return Answer(status=0, close=True, route="token-spec", refusal=refusal)


def is_visible(text: str) -> bool:
    return re.fullmatch(r"[!-~]+", text) is not None


def query_values(request: Request, name: str) -> list[str]:
    """Return every value of that name in the query; more than one is always refused."""
    return parse_qs(request.query).get(name, [])


def _absent(route: str, *, granted: bool) -> Answer:
    # In the same words whatever the reason: the caller must not learn which tokens exist.
    return problem(404, "no such token", route=route, refusal=None if granted else "not-granted")


class ContainerRouter:
    """Route Namespace's paths on the container addresses to one surface, all others to the other.

    What cannot be read, or is too long, may be meant for either. nsc would take a body for its
    token, and a prober must learn nothing, so the connection is closed.
    """

    name = "container"
    takes_bodies = False
    """No ``100 Continue``: a prober of nsc's address gets not even that line."""

    def __init__(self, *, namespace: NamespaceTokens, container: Container) -> None:
        self._namespace = namespace
        self._container = container
        self._failed: NamespaceTokens | Container | None = None

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        surface = self._namespace if self._namespace.serves(request) else self._container
        try:
            return surface.answer(request, caller, now=now)
        except Exception:
            self._failed = surface  # the server asks `nothing_to_serve` next, before any other
            raise

    def nothing_to_serve(self) -> Answer:
        failed, self._failed = self._failed, None
        return (failed or self._namespace).nothing_to_serve()

    def bad_request(self) -> Answer:
        return self._namespace.bad_request()

    def head_too_long(self) -> Answer:
        return self._namespace.head_too_long()
