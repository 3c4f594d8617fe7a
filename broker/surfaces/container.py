"""The ECS and EKS credentials endpoint, as a function of what is asked and who asks. Fetches
nothing; knows no HTTP library."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from broker.access.caller import Caller, Grant
from broker.access.rules import Rules
from broker.http.guard import Guard
from broker.http.message import Answer, Request
from broker.surfaces.container_tokens import ContainerTokens
from broker.surfaces.documents import (
    CredentialHolder,
    credentials_document,
    handed_out,
    problem,
    servable,
)

DEFAULT_ROLE_PATHS = (
    ("v1", "credentials"),
    ("creds",),
    # The only path that fluent-bit takes under the name localhost (B.1).
    ("2016-11-01", "credentialprovider"),
)


class Container:
    """Credentials for whoever holds a token, as far as the rules go."""

    name = "container"

    def __init__(
        self,
        keepers: Mapping[str, CredentialHolder],
        *,
        rules: Rules,
        guard: Guard,
        secrets: ContainerTokens,
    ) -> None:
        self._keepers = keepers
        self._rules = rules
        self._guard = guard
        self._secrets = secrets

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        """Answer from memory; never 429 or 5xx, which make some clients hang (C-71)."""
        token = bearer(request, guard=self._guard, secrets=self._secrets)
        if isinstance(token, Answer):
            return token
        grant = self._rules.grant_for(replace(caller, token=token))
        answer = self._credentials(admission(request)[0], grant, now=now)
        return replace(answer, rule=grant.rule, caller_token=token)

    def nothing_to_serve(self) -> Answer:
        """404, as long as nothing else is known (C-71)."""
        return problem(404, "no credentials at present")

    def bad_request(self) -> Answer:
        return problem(400, "not a readable request", route="other")

    def head_too_long(self) -> Answer:
        """Nothing to serve: the head may hold an over-long token (C-71)."""
        return self.nothing_to_serve()

    def _credentials(self, segments: tuple[str, ...], grant: Grant, *, now: datetime) -> Answer:
        role = self._role_at(segments, grant, now=now)
        if role is None or role not in self._keepers:
            refusal = None if grant.roles else "not-granted"
            return problem(404, "no such credentials", refusal=refusal)
        if role not in grant.roles:
            # In the same words: which others there are is not this caller's business.
            return problem(404, "no such credentials", role=role, refusal="not-granted")
        lease = servable(self._keepers[grant.lease_key(role)], now=now)
        if lease is None:
            return replace(self.nothing_to_serve(), role=role)
        return Answer(
            status=200,
            body=json.dumps(credentials_document(lease)).encode("ascii"),
            content_type="application/json",
            route="container",
            role=role,
            issued=handed_out(lease),
        )

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
        """Return the role with that ARN among those granted and live, the default one first: two
        may share an ARN and differ in their policies."""
        granted = [role for role in self._keepers if role in grant.roles]
        for role in sorted(granted, key=lambda role: role != grant.default_role):
            lease = servable(self._keepers[grant.lease_key(role)], now=now)
            if lease is not None and lease.value.role_arn == arn:
                return role
        return None


def bearer(
    request: Request, *, guard: Guard, secrets: ContainerTokens, route: str = "container"
) -> str | Answer:
    """Return whose token was presented, by name, or the answer that says why that is not enough."""
    if objection := guard.objection(request):
        sentence = "not for browsers, proxies or other hosts"
        return problem(403, sentence, route=route, refusal=objection)
    if request.method not in ("GET", "HEAD"):
        return problem(405, "only GET and HEAD", route=route, allow="GET, HEAD")
    _, presented = admission(request)
    if not presented:
        sentence = "no authorization token came along"
        return problem(401, sentence, route=route, refusal="token-missing")
    token = secrets.caller_name(presented[0]) if len(presented) == 1 else None
    if token is None:
        return problem(401, "not a good authorization token", route=route, refusal="token-bad")
    return token


def admission(request: Request) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the path's segments, slashes collapsed, and the tokens presented: the one below
    ``/t/``, for clients that cannot send the header, else each ``Authorization``, whole.

    Source: sdk-client-contract C-68, C-72.
    """
    segments = tuple(segment for segment in request.path.split("/") if segment)
    if segments[:1] == ("t",) and len(segments) > 1:
        return segments[2:], segments[1:2]
    return segments, request.all("authorization")
