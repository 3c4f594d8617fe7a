"""Serve AWS credentials as the ECS and EKS credentials endpoint does."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from broker.access.caller import Caller, Grant
from broker.access.rules import Rules
from broker.credentials import AwsCredentials
from broker.http.guard import Guard
from broker.http.message import Answer, Pending, Request
from broker.surfaces.container_tokens import ContainerTokens
from broker.surfaces.documents import (
    LeaseHolder,
    credentials_document,
    issued,
    json_answer,
    pending,
    problem,
    servable,
)

WAIT_S = 0.9
"""How long an answer may wait for a first lease: SDKs give up after a second or two."""

DEFAULT_ROLE_PATHS = (
    ("v1", "credentials"),
    ("creds",),
    # The only path that fluent-bit requests from a host named localhost (B.1).
    ("2016-11-01", "credentialprovider"),
)


class Container:
    """Credentials for callers that present a token, as the rules grant them."""

    name = "container"

    def __init__(
        self,
        keepers: Mapping[str, LeaseHolder[AwsCredentials]],
        *,
        rules: Rules,
        guard: Guard,
        container_tokens: ContainerTokens,
    ) -> None:
        self._keepers = keepers
        self._rules = rules
        self._guard = guard
        self._container_tokens = container_tokens

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        """Answer from memory; never 429 or 5xx, which make some clients hang (C-71)."""
        token = authenticate(request, guard=self._guard, container_tokens=self._container_tokens)
        if isinstance(token, Answer):
            return token
        grant = self._rules.grant_for(caller.with_token(token))
        segments, _ = path_and_tokens(request)
        answer = self._credentials(segments, grant, now=now)
        return replace(
            answer,
            rule=grant.rule,
            caller_token=token,
            unchanged_until=self._container_tokens.unchanged_until(now)
            if answer.status == 200 and not self._rules.decide_by_process
            else None,
        )

    def nothing_to_serve(self) -> Answer:
        """Return 404, as whenever there is nothing to serve (C-71)."""
        return problem(404, "no credentials at present")

    def bad_request(self) -> Answer:
        return problem(400, "not a readable request", route="other")

    def head_too_long(self) -> Answer:
        """Return "nothing to serve": the head may hold an over-long token (C-71)."""
        return self.nothing_to_serve()

    def _credentials(self, segments: tuple[str, ...], grant: Grant, *, now: datetime) -> Answer:
        role = self._role_at(segments, grant, now=now)
        if role is None or role not in self._keepers:
            refusal = None if grant.roles else "not-granted"
            absent = problem(404, "no such credentials", refusal=refusal)
            by_arn = segments[:1] == ("role-arn",)
            return replace(absent, pending=self._any_pending(grant, now=now) if by_arn else None)
        if role not in grant.roles:
            # In the same words, since the caller must not learn which other roles exist.
            return problem(404, "no such credentials", role=role, refusal="not-granted")
        lease = servable(self._keepers[grant.lease_key(role)], now=now)
        if lease is None:
            waiting = pending(self._keepers[grant.lease_key(role)], within_s=WAIT_S, now=now)
            return replace(self.nothing_to_serve(), role=role, pending=waiting)
        return json_answer(
            200,
            credentials_document(lease),
            route="container",
            role=role,
            issued=issued("aws", lease),
        )

    def _any_pending(self, grant: Grant, *, now: datetime) -> Pending | None:
        """Return an attempt for a granted role: only its lease tells the role's ARN."""
        keepers = [self._keepers[grant.lease_key(r)] for r in self._keepers if r in grant.roles]
        without = [each for each in keepers if servable(each, now=now) is None]
        waits = [pending(each, within_s=WAIT_S, now=now) for each in without]
        return next(filter(None, waits), None)

    def _role_at(self, segments: tuple[str, ...], grant: Grant, *, now: datetime) -> str | None:
        if segments in DEFAULT_ROLE_PATHS:
            return grant.default_role
        match segments:
            case ("role", name):
                return name
            case ("role-arn", *parts):
                return self._role_of("/".join(parts), grant, now=now)
            case _:
                return None

    def _role_of(self, arn: str, grant: Grant, *, now: datetime) -> str | None:
        """Return the granted, live role with that ARN, the default one first.

        Two roles may share an ARN and differ in their policies.
        """
        granted = [role for role in self._keepers if role in grant.roles]
        for role in sorted(granted, key=lambda role: role != grant.default_role):
            lease = servable(self._keepers[grant.lease_key(role)], now=now)
            if lease is not None and lease.value.role_arn == arn:
                return role
        return None


def authenticate(
    request: Request, *, guard: Guard, container_tokens: ContainerTokens, route: str = "container"
) -> str | Answer:
    """Return the name of the presented token, or the answer that refuses the request."""
    if objection := guard.objection(request):
        sentence = "not for browsers, proxies or other hosts"
        return problem(403, sentence, route=route, refusal=objection)
    if request.method not in ("GET", "HEAD"):
        return problem(405, "only GET and HEAD", route=route, allow="GET, HEAD")
    _, presented = path_and_tokens(request)
    if not presented:
        sentence = "the authorization token is missing"
        return problem(401, sentence, route=route, refusal="token-missing")
    token = container_tokens.caller_name(presented[0]) if len(presented) == 1 else None
    if token is None:
        return problem(401, "not a valid authorization token", route=route, refusal="token-bad")
    return token


def path_and_tokens(request: Request) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the path's segments, slashes collapsed, and the presented tokens.

    A token is the segment below ``/t/``, for clients that cannot send the header, or else each
    ``Authorization`` header, whole.

    Source: sdk-client-contract C-68, C-72.
    """
    segments = tuple(segment for segment in request.path.split("/") if segment)
    if segments[:1] == ("t",) and len(segments) > 1:
        return segments[2:], segments[1:2]
    return segments, request.all("authorization")
