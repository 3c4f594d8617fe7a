"""The Unix socket that our own commands speak to, as a function of what is asked and who asks."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs

from broker import __version__
from broker.access.caller import Caller, Grant
from broker.access.rules import Rules
from broker.credentials import AwsCredentials
from broker.keeper import Keeper
from broker.lease import NotReady
from broker.surfaces.documents import credentials_document
from broker.surfaces.message import Answer, Request
from broker.surfaces.ops import json_answer, lease_facts, lease_named, readiness


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where this daemon can be reached, for the commands that tell clients."""

    imds: tuple[str, ...]
    container: tuple[str, ...]
    ops: tuple[str, ...]
    imds_v1: bool
    region: str | None


class Control:
    """``/v1/ready``, ``/v1/status``, ``/v1/credentials`` and ``/v1/client``.

    Reasons are told here, unlike anywhere else: who may have a role may know why it is not there.
    """

    name = "control"

    def __init__(
        self,
        *,
        keepers: Iterable[Keeper[Any]],
        roles: Mapping[str, Keeper[AwsCredentials]],
        rules: Rules,
        owner_uid: int,
        container_token: str,
        endpoints: Endpoints,
        is_open: Callable[[], bool],
    ) -> None:
        """*is_open* tells whether the credential surfaces take connections yet."""
        self._keepers = list(keepers)
        self._roles = roles
        self._rules = rules
        self._owners = {0, owner_uid}
        self._container_token = container_token
        self._endpoints = endpoints
        self._is_open = is_open
        self._routes = {
            "/v1/ready": self._ready,
            "/v1/status": self._status,
            "/v1/credentials": self._credentials,
            "/v1/client": self._client,
        }

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        route = self._routes.get(request.path)
        if route is None:
            return problem(404, "not-found", "no such path")
        if request.method != "GET":
            return Answer(status=405, headers={"Allow": "GET"})
        role = parse_qs(request.query).get("role", [None])[0]
        return route(role, caller, now)

    def nothing(self) -> Answer:
        return problem(500, "internal", "the broker failed to answer; its log says why")

    def unreadable(self) -> Answer:
        return problem(400, "bad-request", "not HTTP")

    def _ready(self, role: str | None, _: Caller, now: datetime) -> Answer:
        statuses = [keeper.status(now=now) for keeper in self._keepers]
        if role is not None:
            status = lease_named(role, statuses)
            if status is None:
                return problem(404, "no-such-role", f"no role is named {role}")
            statuses = [status]
        ready, document = readiness(statuses)
        # Whoever waited must not meet a refused connection: leases come before the surfaces open.
        ready = ready and self._is_open()
        return json_answer(200 if ready else 503, {**document, "ready": ready}, route="ready")

    def _status(self, role: str | None, caller: Caller, now: datetime) -> Answer:
        grant = self._rules.grant_for(caller)
        if caller.uid not in self._owners and not grant.roles:
            return self._refused(caller)
        statuses = [keeper.status(now=now) for keeper in self._keepers]
        ready = readiness(statuses)[0]
        document = {
            "version": __version__,
            "pid": os.getpid(),
            "ready": ready,
            "region": self._endpoints.region,
            "default_role": grant.default_role,
            "roles": sorted(self._roles),
            "leases": [{**lease_facts(status), "reason": status.reason} for status in statuses],
        }
        return json_answer(200, document, route="status")

    def _credentials(self, role: str | None, caller: Caller, now: datetime) -> Answer:
        grant = self._rules.grant_for(caller)
        name = role or grant.default_role
        if name is None or name not in grant.roles:
            return self._refused(caller)
        try:
            lease = self._roles[name].current(now=now)
        except NotReady as reason:
            return problem(404, "not-ready", f"role/{name}: {reason}", route="credentials")
        document = credentials_document(lease)
        return json_answer(200, document, route="credentials", role=name)

    def _client(self, role: str | None, caller: Caller, now: datetime) -> Answer:
        grant = self._rules.grant_for(caller)
        if not grant.roles or (role is not None and role not in grant.roles):
            return self._refused(caller)
        document = client_facts(self._endpoints, grant, container_token=self._container_token)
        return json_answer(200, document, route="client")

    def _refused(self, caller: Caller) -> Answer:
        return problem(
            403, "forbidden", f"uid {caller.uid} may not have that here", refusal="not-granted"
        )


def client_facts(endpoints: Endpoints, grant: Grant, *, container_token: str) -> dict[str, Any]:
    """Return what a client of that grant needs to know to use us; it holds a secret."""
    return {
        "container_token": container_token,
        "imds": list(endpoints.imds),
        "container": list(endpoints.container),
        "imds_v1": endpoints.imds_v1,
        "region": endpoints.region,
        "roles": sorted(grant.roles),
        "default_role": grant.default_role,
    }


def problem(status: int, code: str, message: str, **known: Any) -> Answer:
    return json_answer(status, {"code": code, "message": message}, **known)
