"""Serve our own commands on the control socket: status, credentials, tokens, ``who``."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qs

from broker import __version__
from broker.access.caller import Caller, Grant
from broker.access.caller_lookup import CallerLookup
from broker.access.peer import identity_problems
from broker.access.rules import ExplainedRules, RuleResult
from broker.access.usage import Usage
from broker.credentials import AwsCredentials, IdToken, NamespaceToken
from broker.http.message import Answer, Request
from broker.keeper import Keeper, Status
from broker.lease import NotReady
from broker.surfaces.documents import (
    LeaseHolder,
    credentials_document,
    issued,
    json_answer,
    rfc3339_or_none,
)
from broker.surfaces.namespace import TokenSpecSigner, token_spec
from broker.surfaces.ops import lease_facts, lease_named, readiness

Query = Mapping[str, str]
"""The parameters of a request's query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerEndpoints:
    """The addresses that this daemon serves, for the commands that configure clients."""

    imds: tuple[str, ...]
    container: tuple[str, ...]
    ops: tuple[str, ...]
    imds_v1: bool
    region: str | None


def reason_of(result: RuleResult) -> str:
    """Return, for a person, why a rule matched or did not."""
    because = "; ".join(
        f"{mismatch.key} is {mismatch.found or 'unknown'}, not {mismatch.required}"
        for mismatch in result.mismatches
    )
    if result.outcome == "not known":
        return f"{because}: a caller that may match here gets nothing from later rules"
    return because or result.outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceExports:
    """How Namespace tokens are exported: by files, and over HTTP by token specs."""

    files: Mapping[str, str]
    """The file of each identity that has one."""
    http: Mapping[str, LeaseHolder[NamespaceToken]]
    """The identities whose token is served over HTTP."""
    token_spec_signer: TokenSpecSigner = field(repr=False)

    def facts_for(
        self, uid: int | None, endpoints: BrokerEndpoints, grant: Grant
    ) -> dict[str, str | None]:
        """Return the settings for nsc and the Namespace SDKs: ``{"token_file", "token_spec"}``.

        Whoever may read the file may use it; the spec holds a secret, so only a caller that is
        granted the token gets one. nsc prefers the spec and refuses a revocable token there, so
        there is none for such a token.

        Source: namespace-api 4, 5.
        """
        granted = [name for name in self.files if name in grant.namespace_tokens]
        file = next((self.files[name] for name in (*granted, *self.files)), None)
        spec = None
        served = next(
            (self.http[name] for name in self.http if name in grant.namespace_tokens), None
        )
        if served and endpoints.container and uid is not None and not is_revocable(served):
            spec = token_spec(endpoints.container[0], self.token_spec_signer.segment_for(uid))
        return {"token_file": file, "token_spec": spec}


def is_revocable(holder: LeaseHolder[NamespaceToken]) -> bool:
    """Return whether the newest token is opaque and valid until revoked."""
    try:
        return holder.current().value.bearer.startswith("nsrt_")
    except NotReady:
        return False


class Control:
    """The paths below ``/v1/`` that our own commands use.

    Unlike other surfaces this one gives reasons: a caller that is granted a
    role may know why it is unavailable.
    """

    name = "control"

    def __init__(  # noqa: PLR0913 - everything that commands may ask about, by name
        self,
        *,
        keepers: Iterable[Keeper[Any]],
        roles: Mapping[str, Keeper[AwsCredentials]],
        leases: Mapping[str, Keeper[AwsCredentials]],
        identities: Mapping[str, Keeper[NamespaceToken]],
        id_tokens: Mapping[str, Keeper[IdToken]],
        rules: ExplainedRules,
        callers: CallerLookup,
        usage: Usage,
        owner_uid: int,
        container_token: Callable[[], str],
        exports: NamespaceExports,
        endpoints: BrokerEndpoints,
        is_open: Callable[[], bool],
        files_written: Callable[[], bool] = lambda: True,
        problems: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Serve *leases*, by lease key, and *id_tokens*, by audience.

        *is_open* returns whether the credential surfaces answer yet, *files_written* whether every
        token file is written; *problems* are what
        is wrong at present beside leases, by name.
        """
        self._keepers = list(keepers)
        self._roles = roles
        self._leases = leases
        self._callers = callers
        self._usage = usage
        self._identities = identities
        self._id_tokens = id_tokens
        self._exports = exports
        self._rules = rules
        self._owners = {0, owner_uid}
        self._container_token = container_token
        self._endpoints = endpoints
        self._is_open = is_open
        self._files_written = files_written
        self._problems = problems
        self._routes = {
            "/v1/ready": self._ready,
            "/v1/status": self._status,
            "/v1/credentials": self._credentials,
            "/v1/client": self._client,
            "/v1/namespace-token": self._namespace_token,
            "/v1/id-token": self._id_token,
            "/v1/who": self._who,
        }

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        route = self._routes.get(request.path)
        if route is None:
            return failure(404, "not-found", "no such path")
        if request.method != "GET":
            return Answer(status=405, headers={"Allow": "GET"})
        query = {name: values[0] for name, values in parse_qs(request.query).items()}
        return route(query, caller, now)

    def nothing_to_serve(self) -> Answer:
        return failure(500, "internal", "the broker failed to answer; its log says why")

    def bad_request(self) -> Answer:
        return failure(400, "bad-request", "not HTTP")

    def head_too_long(self) -> Answer:
        return failure(431, "head-too-long", "the request's header fields are too long")

    def _ready(self, query: Query, _: Caller, now: datetime) -> Answer:
        role = query.get("role")
        statuses = [keeper.status(now=now) for keeper in self._keepers]
        if role is not None:
            status = lease_named(role, statuses)
            if status is None:
                return failure(404, "no-such-role", f"no role is named {role}")
            statuses = [status]
        files_written = role is not None or self._files_written()
        ready, document = readiness(statuses, files_written=files_written)
        # Leases may be there before the surfaces answer; a client must not start in between.
        ready = ready and self._is_open()
        return json_answer(200 if ready else 503, {**document, "ready": ready}, route="ready")

    def _status(self, _: Query, caller: Caller, now: datetime) -> Answer:
        grant = self._rules.grant_for(caller)
        if caller.uid not in self._owners and not grant.any:
            return self._refused(caller)
        statuses = [keeper.status(now=now) for keeper in self._keepers]
        ready = readiness(statuses, files_written=self._files_written())[0]
        if caller.uid not in self._owners:
            return self._status_for(grant, statuses, ready=ready)
        document = {
            "version": __version__,
            "pid": os.getpid(),
            "ready": ready,
            "region": self._endpoints.region,
            "default_role": grant.default_role,
            "roles": sorted(self._roles),
            "problems": [
                {"name": name, "reason": reason} for name, reason in self._problems.items()
            ],
            "leases": [{**lease_facts(status), "reason": status.reason} for status in statuses],
            "last_used": {
                role: {**use, "at": rfc3339_or_none(use["at"]), "user": self._user(use["uid"])}
                for role, use in self._usage.last_used().items()
            },
            "rules": [
                {**rule, "last_matched_at": rfc3339_or_none(rule["last_matched_at"])}
                for rule in self._usage.rule_matches()
            ],
        }
        return json_answer(200, document, route="status")

    def _status_for(self, grant: Grant, statuses: list[Status], *, ready: bool) -> Answer:
        """Answer a caller that is not an owner: its own roles and nothing else."""
        own = {f"role/{grant.lease_key(role)}" for role in grant.roles}
        document = {
            "version": __version__,
            "pid": os.getpid(),
            "ready": ready,
            "region": self._endpoints.region,
            "default_role": grant.default_role,
            "roles": sorted(grant.roles),
            "leases": [
                {**lease_facts(status), "reason": status.reason}
                for status in statuses
                if status.name in own
            ],
        }
        return json_answer(200, document, route="status")

    def _credentials(self, query: Query, caller: Caller, now: datetime) -> Answer:
        grant = self._rules.grant_for(caller)
        name = query.get("role") or grant.default_role
        if name is None or name not in grant.roles:
            return self._refused(caller, route="credentials")
        try:
            lease = self._leases[grant.lease_key(name)].current(now=now)
        except NotReady as reason:
            return failure(404, "not-ready", f"role/{name}: {reason}", route="credentials")
        document = credentials_document(lease)
        return json_answer(
            200,
            document,
            route="credentials",
            role=name,
            issued=issued("aws", lease),
            rule=grant.rule,
        )

    def _client(self, query: Query, caller: Caller, now: datetime) -> Answer:
        grant = self._rules.grant_for(caller)
        role = query.get("role")
        if not grant.any or (role is not None and role not in grant.roles):
            return self._refused(caller, route="client")
        document = client_facts(
            self._endpoints,
            grant,
            container_token=self._container_token(),
            namespace=self._exports.facts_for(caller.uid, self._endpoints, grant),
        )
        return json_answer(200, document, route="client")

    def _namespace_token(self, query: Query, caller: Caller, now: datetime) -> Answer:
        """Return facts about the token to owners, and the token to callers that are granted it.

        The token opens every role that trusts the workspace.
        """
        grant = self._rules.grant_for(caller)
        visible = self._identities if caller.uid in self._owners else grant.namespace_tokens
        name = query.get("identity") or next(
            (each for each in self._identities if each in visible), None
        )
        if name is None or name not in visible or name not in self._identities:
            return self._refused(caller, route="namespace-token")
        try:
            lease = self._identities[name].current(now=now)
        except NotReady as reason:
            return failure(404, "not-ready", f"identity/{name}: {reason}", route="namespace-token")
        token = lease.value
        document = {
            "identity": name,
            "token": token.bearer if name in grant.namespace_tokens else None,
            "kind": token.bearer.partition("_")[0],
            "expires_at": rfc3339_or_none(lease.expires_at),
            "tenant_id": token.tenant_id,
            "instance_id": token.instance_id,
        }
        record = issued("namespace-token", lease) if document["token"] else None
        return json_answer(200, document, route="namespace-token", issued=record, rule=grant.rule)

    def _id_token(self, query: Query, caller: Caller, now: datetime) -> Answer:
        audience = query.get("audience")
        grant = self._rules.grant_for(caller)
        if audience not in grant.id_token_audiences or audience not in self._id_tokens:
            return self._refused(caller, route="id-token")
        try:
            lease = self._id_tokens[audience].current(now=now)
        except NotReady as reason:
            return failure(404, "not-ready", str(reason), route="id-token")
        document = {"token": lease.value.jwt, "expires_at": rfc3339_or_none(lease.expires_at)}
        record = issued("id-token", lease)
        return json_answer(200, document, route="id-token", issued=record, rule=grant.rule)

    def _who(self, query: Query, caller: Caller, _: datetime) -> Answer:
        """Explain what another caller would get."""
        if caller.uid not in self._owners:
            return self._refused(caller)
        try:
            subject = self._callers.find(query)
        except LookupError as error:
            return failure(404, "no-such-caller", str(error), route="who")
        explanation = self._rules.explain(subject)
        grant = explanation.grant
        document = {
            "caller": self._callers.describe(subject),
            "rule": explanation.rule,
            "roles": sorted(grant.roles),
            "default_role": grant.default_role,
            "namespace_tokens": sorted(grant.namespace_tokens),
            "id_token_audiences": sorted(grant.id_token_audiences),
            "warnings": list(identity_problems()),
            "rules": [
                {
                    "name": result.rule,
                    "matches": result.outcome == "matched",
                    "because": reason_of(result),
                }
                for result in explanation.results
            ],
        }
        return json_answer(200, document, route="who")

    def _user(self, uid: int | None) -> str | None:
        return None if uid is None else self._callers.user_of(uid)

    def _refused(self, caller: Caller, *, route: str = "other") -> Answer:
        message = f"uid {caller.uid} may not have that here"
        return failure(403, "forbidden", message, refusal="not-granted", route=route)


def client_facts(
    endpoints: BrokerEndpoints,
    grant: Grant,
    *,
    container_token: str,
    namespace: Mapping[str, str | None],
) -> dict[str, Any]:
    """Return what a client with that grant needs to use the broker; it holds a secret."""
    return {
        "container_token": container_token,
        "imds": list(endpoints.imds),
        "container": list(endpoints.container),
        "imds_v1": endpoints.imds_v1,
        "region": endpoints.region,
        "roles": sorted(grant.roles),
        "default_role": grant.default_role,
        "namespace": dict(namespace),
    }


def failure(status: int, code: str, message: str, **known: Any) -> Answer:
    return json_answer(status, {"code": code, "message": message}, **known)
