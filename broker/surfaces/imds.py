"""Serve EC2 instance metadata (IMDS): session tokens, credentials and facts of the machine."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from broker.access.caller import Caller, Grant
from broker.access.rules import Rules
from broker.credentials import AwsCredentials
from broker.http.guard import Guard
from broker.http.message import Answer, Issued, Request
from broker.lease import Lease
from broker.surfaces.documents import (
    EC2_SERVER,
    LeaseHolder,
    iam_info,
    imds_credentials,
    issued,
    not_allowed,
    page,
    pending,
    servable,
)
from broker.surfaces.imds_tree import LISTED_VERSIONS, Instance, Route, route_of, text_at, tree_of
from broker.surfaces.session_tokens import LONGEST_TTL_S, SessionTokens, whole_seconds

TOKEN_HEADER = "x-aws-ec2-metadata-token"  # noqa: S105 - a name, no secret
TTL_HEADER = "x-aws-ec2-metadata-token-ttl-seconds"

WAIT_S = 0.3
"""How long an answer may wait for a first lease: SDKs ask IMDS several times in a second or two."""


class Imds:
    """Session tokens for every caller, credentials as the rules grant them.

    With *v1*, a request without a session token is answered too (C-33).
    """

    name = "imds"

    def __init__(
        self,
        keepers: Mapping[str, LeaseHolder[AwsCredentials]],
        *,
        rules: Rules,
        guard: Guard,
        tokens: SessionTokens,
        instance: Instance,
        v1: bool = False,
    ) -> None:
        self._keepers = keepers
        self._rules = rules
        self._guard = guard
        self._tokens = tokens
        self._instance = instance
        self._v1 = v1
        self._tree = tree_of(instance, with_iam=False)
        self._tree_with_iam = tree_of(instance, with_iam=True)

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        """Answer from memory; never 429 or 5xx, which stop or hang clients (C-58)."""
        route = route_of(request.path)
        if objection := self._guard.objection(request):
            return _objected(request, route, objection)
        if route.label == "token" and request.method == "PUT":
            return self._issue(request, caller, now=now)
        if request.method not in ("GET", "HEAD"):
            return _not_allowed(route)
        return self._with_session_token(request, route, caller, now=now)

    def nothing_to_serve(self) -> Answer:
        """Return 401, the only status that is harmless on the credentials path (C-57)."""
        return page(401)

    def bad_request(self) -> Answer:
        return page(400)

    def head_too_long(self) -> Answer:
        """Return 401: an over-long session token is a bad token, not a bad request (C-34)."""
        return self.nothing_to_serve()

    def _issue(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        """Issue a session token to any caller, whatever there is to serve (C-20 to C-30)."""
        ttl_s = requested_ttl_s(request.all(TTL_HEADER))
        if ttl_s is None:
            return page(400, route="token")
        return Answer(
            status=200,
            body=self._tokens.issue(ttl_s, caller.binding, now).encode("ascii"),
            content_type="text/plain",
            headers={**EC2_SERVER, TTL_HEADER: str(ttl_s)},
            route="token",
        )

    def _with_session_token(
        self, request: Request, route: Route, caller: Caller, *, now: datetime
    ) -> Answer:
        """Check the session token before the path (C-31, C-32); the token path needs none."""
        presented = request.all(TOKEN_HEADER)
        if not presented:
            if route.label == "token":
                return _not_allowed(route)
            if not self._v1:
                return page(401, route=_shown(route), refusal="token-missing")
            return self._read(route, caller, now=now)
        end = (
            self._tokens.valid_until(presented[0], caller.binding, now)
            if len(presented) == 1
            else None
        )
        if end is None:
            return page(401, route=_shown(route), refusal="token-bad")
        answer = self._read(route, caller, now=now)
        left_s = whole_seconds(end, now)
        may_repeat = answer.status == 200 and not self._rules.decide_by_process
        return replace(
            answer,
            headers={**answer.headers, TTL_HEADER: str(left_s)},
            unchanged_until=end - timedelta(seconds=left_s) if may_repeat else None,
        )

    def _read(self, route: Route, caller: Caller, *, now: datetime) -> Answer:
        match route.label:
            case "token":
                return _not_allowed(route)
            case "other":
                return page(404)
            case "versions":
                return self._found("\n".join(LISTED_VERSIONS), route)
        grant = self._rules.grant_for(caller)
        match route.label:
            case "credentials":
                answer = self._credentials(route, grant, now=now)
            case "role-list" | "iam-info":
                answer = self._default_role(route, grant, now=now)
            case _:
                answer = self._metadata(route, grant, now=now)
        return replace(answer, rule=grant.rule)

    def _credentials(self, route: Route, grant: Grant, *, now: datetime) -> Answer:
        """Return the credentials of one role, by name.

        A role that is not granted looks like one that does not exist (404). A caller without any
        role, and one whose role has no lease now, gets the 401 of C-57.
        """
        role = route.role if route.role in self._keepers else "none"
        if not grant.roles:
            return page(401, route=route.label, role=role, refusal="not-granted")
        if route.role not in self._keepers:
            return page(404, route=route.label)
        if route.role not in grant.roles:
            return page(404, route=route.label, role=role, refusal="not-granted")
        keeper = self._keepers[grant.lease_key(role)]
        lease = servable(keeper, now=now)
        if lease is None:
            waiting = pending(keeper, within_s=WAIT_S, now=now)
            return replace(page(401, route=route.label, role=role), pending=waiting)
        body = imds_credentials(lease, now=now, with_account=route.extended)
        return self._found(
            body,
            route,
            role=role,
            changed_at=min(lease.issued_at, now),
            issued=issued("aws", lease),
        )

    def _default_role(self, route: Route, grant: Grant, *, now: datetime) -> Answer:
        """Return the role list, exactly one name (C-37), or ``iam/info``.

        404 while there is nothing to serve (C-56, C-60).
        """
        default = self._default_lease(grant, now=now)
        if default is None:
            refusal = None if grant.roles else "not-granted"
            keeper = self._default_keeper(grant)
            waiting = pending(keeper, within_s=WAIT_S, now=now)
            return replace(page(404, route=_shown(route), refusal=refusal), pending=waiting)
        role, lease = default
        info = route.label == "iam-info"
        body = iam_info(lease, role=role, now=now) if info else role
        return self._found(body, route, role=role, changed_at=min(lease.issued_at, now))

    def _metadata(self, route: Route, grant: Grant, *, now: datetime) -> Answer:
        # List iam/ only where a role is found below it: every listed entry must answer (C-15).
        with_iam = self._default_lease(grant, now=now) is not None
        text = text_at(self._tree_with_iam if with_iam else self._tree, route.segments)
        return page(404, route=route.label) if text is None else self._found(text, route)

    def _default_lease(
        self, grant: Grant, *, now: datetime
    ) -> tuple[str, Lease[AwsCredentials]] | None:
        keeper = self._default_keeper(grant)
        lease = None if keeper is None else servable(keeper, now=now)
        return None if lease is None else (str(grant.default_role), lease)

    def _default_keeper(self, grant: Grant) -> LeaseHolder[AwsCredentials] | None:
        role = grant.default_role
        if role is None or role not in grant.roles or role not in self._keepers:
            return None
        return self._keepers[grant.lease_key(role)]

    def _found(
        self,
        body: str | bytes,
        route: Route,
        *,
        role: str = "none",
        changed_at: datetime | None = None,
        issued: Issued | None = None,
    ) -> Answer:
        """Return 200 with the headers that the real service sets (C-36)."""
        return Answer(
            status=200,
            body=body if isinstance(body, bytes) else body.encode(),
            content_type="text/plain",
            headers={
                **EC2_SERVER,
                "Accept-Ranges": "none",
                "Last-Modified": http_date(changed_at or self._instance.read_at),
            },
            route=_shown(route),
            role=role,
            issued=issued,
        )


def requested_ttl_s(headers: tuple[str, ...]) -> int | None:
    """Return the life in seconds that a token PUT requests.

    None unless there is exactly one header, a decimal integer from 1 to 21600.

    Source: sdk-client-contract C-22, C-23.
    """
    if len(headers) != 1 or not re.fullmatch(r"[0-9]{1,20}", headers[0]):
        return None
    ttl_s = int(headers[0])
    return ttl_s if 1 <= ttl_s <= LONGEST_TTL_S else None


def http_date(instant: datetime) -> str:
    """Return *instant* (UTC) in HTTP's format, independent of the locale."""
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[instant.weekday()]
    month = (
        *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
        *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    )[instant.month - 1]
    return f"{day}, {instant:%d} {month} {instant:%Y %H:%M:%S} GMT"


def _objected(request: Request, route: Route, objection: str) -> Answer:
    """Refuse a browser's or a proxy's request.

    On the credentials path with 401: awscrt aborts on any status but 200 and 401 there.
    """
    reading = request.method in ("GET", "HEAD")
    status = 401 if reading and route.label == "credentials" else 403
    return page(status, route=_shown(route), refusal=objection)


def _not_allowed(route: Route) -> Answer:
    allow = "OPTIONS, PUT" if route.label == "token" else "GET, HEAD"
    return not_allowed(allow, route=_shown(route))


def _shown(route: Route) -> str:
    """Return the route's label for metrics."""
    return "metadata" if route.label in ("versions", "iam-info") else route.label
