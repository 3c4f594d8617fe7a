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
from typing import Protocol, TypeVar
from urllib.parse import parse_qs

from broker.access.caller import Caller, Grant
from broker.access.rules import Rules
from broker.clock import rfc3339
from broker.credentials import IdToken, NamespaceToken
from broker.files.private import read_private, write_private
from broker.http.guard import Guard
from broker.http.message import Answer, Issued, Kind, Request
from broker.lease import Lease, NotReady
from broker.surfaces.container import Container, admission, bearer
from broker.surfaces.container_tokens import ContainerTokens
from broker.surfaces.documents import problem

MASTER_BYTES = 32
UID_BYTES = 4
SEAL_BYTES = 28


class TokenSpecSigner:
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


def load_token_spec_signer(path: Path) -> TokenSpecSigner:
    """Return the secrets made from the master in *path*, made 0600 where there is none: specs that
    were handed out stay good as long as it is kept.

    Raises:
        ValueError: What is there may not be used; the sentence says what to do.
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
    """Return what ``NSC_TOKEN_SPEC`` is set to, for the container endpoint at *base_url*: JSON in
    base64 of the standard alphabet without padding. It is as secret as the token.

    Source: namespace-api 5.
    """
    spec = {"version": "v1", "metadata_url": f"{base_url.rstrip('/')}/nsc/v1/{segment}"}
    text = json.dumps(spec, separators=(",", ":")).encode("ascii")
    return b64encode(text).rstrip(b"=").decode("ascii")


T_co = TypeVar("T_co", covariant=True)

NAMESPACE_TOKEN = ("v1", "namespace-token")
ID_TOKEN = ("v1", "id-token")


class TokenHolder(Protocol[T_co]):
    """What this surface needs of a keeper: the newest lease, from memory."""

    def current(self, *, now: datetime | None = None) -> Lease[T_co]: ...


class NamespaceTokens:
    """Tokens for whoever holds a secret, as far as the rules go.

    nsc can send no header and takes any body for the token, whatever the status: on its paths the
    secret is a segment, and everything but the token is a closed connection. All other clients send
    ``Authorization``, and get JSON with the token's end:
    ``{"token", "expires_at", "tenant_id", "instance_id"}`` for a Namespace token,
    ``{"token", "expires_at", "audience", "issuer", "subject"}`` for an ID token; null is what is
    not known, and an ``expires_at`` of null means that it ends by revocation.

    Source: namespace-api 5; interface, "Paths served".
    """

    name = "namespace"

    def __init__(
        self,
        tokens: Mapping[str, TokenHolder[NamespaceToken]],
        *,
        id_tokens: Mapping[str, TokenHolder[IdToken]],
        rules: Rules,
        guard: Guard,
        secrets: ContainerTokens,
        token_spec_signer: TokenSpecSigner,
    ) -> None:
        """*tokens* by the identity's name, *id_tokens* by audience. Of several that a caller may
        have, the first is the default."""
        self._tokens = tokens
        self._id_tokens = id_tokens
        self._rules = rules
        self._guard = guard
        self._secrets = secrets
        self._spec_secrets = token_spec_signer

    def is_for(self, request: Request) -> bool:
        """Say whether the path is one of ours, good or not; else it is the container endpoint's."""
        segments, _ = admission(request)
        return segments[:1] == ("nsc",) or segments in (NAMESPACE_TOKEN, ID_TOKEN)

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        """Answer from memory."""
        segments, _ = admission(request)
        if segments not in (NAMESPACE_TOKEN, ID_TOKEN):
            return self._to_nsc(request, caller, now=now)
        route = segments[1]
        token = bearer(request, guard=self._guard, secrets=self._secrets, route=route)
        if isinstance(token, Answer):
            return token
        grant = self._rules.grant_for(replace(caller, token=token))
        document_of = self._namespace_token if segments == NAMESPACE_TOKEN else self._id_token
        answer = document_of(request, grant, now=now)
        return replace(answer, rule=grant.rule, caller_token=token)

    def nothing_to_serve(self) -> Answer:
        """Nothing at all: a body would be taken for the token."""
        return closed()

    def bad_request(self) -> Answer:
        return closed()

    def head_too_long(self) -> Answer:
        return closed()

    def _to_nsc(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        if objection := self._guard.objection(request):
            return closed(objection)
        match request.path.split("/"):
            case ["", "nsc", "v1", segment, "workload_token" | "id" as wanted]:
                if request.method != "GET":
                    return closed()
            case _:
                return closed("segment-missing")
        uid = self._spec_secrets.caller_uid(segment)
        # Root may be a relay of another network namespace, and where the kernel could not tell, the
        # segment says who it is. Whoever else is known must be whom it was made for.
        if uid is None or caller.uid not in (uid, 0, None):
            return closed("segment-bad")
        grant = self._rules.grant_for(caller.as_user(uid))
        lease = live_lease(self._token_for(grant), now=now)
        if lease is None:
            return closed(None if grant.namespace_tokens else "not-granted")
        text = lease.value.bearer if wanted == "workload_token" else lease.value.instance_id
        if text is None or not is_visible(text):
            return closed()
        return Answer(
            status=200,
            body=text.encode("ascii"),
            content_type="text/plain",
            route="token-spec",
            issued=handed_token("namespace-token", lease) if wanted == "workload_token" else None,
            rule=grant.rule,
        )

    def _namespace_token(self, request: Request, grant: Grant, *, now: datetime) -> Answer:
        lease = live_lease(self._token_for(grant, asked(request, "identity")), now=now)
        if lease is None:
            return _absent("namespace-token", granted=bool(grant.namespace_tokens))
        members = {
            "token": lease.value.bearer,
            "expires_at": _end(lease),
            "tenant_id": lease.value.tenant_id,
            "instance_id": lease.value.instance_id,
        }
        issued = handed_token("namespace-token", lease)
        return _document(members, route="namespace-token", issued=issued)

    def _id_token(self, request: Request, grant: Grant, *, now: datetime) -> Answer:
        named = asked(request, "audience")
        granted = [audience for audience in grant.id_token_audiences if [audience] == named]
        lease = live_lease(self._id_tokens.get(granted[0]) if granted else None, now=now)
        if lease is None:
            return _absent("id-token", granted=bool(grant.id_token_audiences))
        members = {
            "token": lease.value.jwt,
            "expires_at": _end(lease),
            "audience": lease.value.audience,
            "issuer": lease.value.issuer,
            "subject": lease.value.subject,
        }
        return _document(members, route="id-token", issued=handed_token("id-token", lease))

    def _token_for(
        self, grant: Grant, named: Sequence[str] = ()
    ) -> TokenHolder[NamespaceToken] | None:
        granted = [name for name in self._tokens if name in grant.namespace_tokens]
        wanted = [name for name in granted if [name] == named] if named else granted[:1]
        return self._tokens[wanted[0]] if wanted else None


def handed_token(kind: Kind, lease: Lease[object]) -> Issued:
    """Return what our own channels say of a token when it is handed out."""
    return Issued(kind=kind, expires_at=lease.expires_at)


def live_lease(held: TokenHolder[T_co] | None, *, now: datetime) -> Lease[T_co] | None:
    """Return the lease to hand out, live also by its end as we write it; None where there is
    none."""
    if held is None:
        return None
    try:
        lease = held.current(now=now)
    except NotReady:
        return None
    if lease.expires_at is not None and lease.expires_at.replace(microsecond=0) <= now:
        return None
    return lease


def closed(refusal: str | None = None) -> Answer:
    return Answer(status=0, close=True, route="token-spec", refusal=refusal)


def is_visible(text: str) -> bool:
    return re.fullmatch(r"[!-~]+", text) is not None


def asked(request: Request, name: str) -> list[str]:
    """Return every value of that name in the query; more than one is never good."""
    return parse_qs(request.query).get(name, [])


def _end(lease: Lease[object]) -> str | None:
    return None if lease.expires_at is None else rfc3339(lease.expires_at)


def _document(members: Mapping[str, str | None], *, route: str, issued: Issued) -> Answer:
    body = json.dumps(members).encode("ascii")
    return Answer(
        status=200, body=body, content_type="application/json", route=route, issued=issued
    )


def _absent(route: str, *, granted: bool) -> Answer:
    # In the same words whatever the reason: what there is beside is not this caller's business.
    return problem(404, "no such token", route=route, refusal=None if granted else "not-granted")


class ContainerRouter:
    """Namespace's paths to one, everything else to the other.

    What could not be read, or was too long, may have been meant for either: nsc would take a body
    for its token, and a prober must learn nothing, so the connection is closed.
    """

    name = "container"
    takes_bodies = False
    """Nobody is invited to send one: a prober of nsc's address gets not even that line."""

    def __init__(self, *, namespace: NamespaceTokens, container: Container) -> None:
        self._namespace = namespace
        self._container = container
        self._failed: NamespaceTokens | Container | None = None

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        ours = self._namespace.is_for(request)
        surface = self._namespace if ours else self._container
        try:
            return surface.answer(request, caller, now=now)
        except Exception:
            self._failed = surface  # whose nothing is asked for next, before any other request
            raise

    def nothing_to_serve(self) -> Answer:
        failed, self._failed = self._failed, None
        return (failed or self._namespace).nothing_to_serve()

    def bad_request(self) -> Answer:
        return self._namespace.bad_request()

    def head_too_long(self) -> Answer:
        return self._namespace.head_too_long()
