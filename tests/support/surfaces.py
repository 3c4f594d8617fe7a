"""Leases, rules, a surface and a request, for the tests of surfaces without a socket."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from broker.access.caller import NO_GRANT, Caller, Grant
from broker.access.rules import Rules
from broker.credentials import AwsCredentials
from broker.http.guard import Guard
from broker.http.message import Answer, Request
from broker.lease import Lease, NotReady
from broker.surfaces.container import Container
from broker.surfaces.container_tokens import ContainerTokens
from broker.surfaces.documents import LeaseHolder
from broker.surfaces.imds import TOKEN_HEADER, TTL_HEADER, Imds
from broker.surfaces.imds_tree import Instance
from broker.surfaces.session_tokens import SessionKeys, SessionTokens
from tests.support.fakes import START, some_credentials

ROLE_LIST = "/latest/meta-data/iam/security-credentials/"
EXTENDED_LIST = "/latest/meta-data/iam/security-credentials-extended/"
TOKEN_PATH = "/latest/api/token"
DOCUMENT = "/latest/dynamic/instance-identity/document"
SECRET = "a-container-token-of-32-characters"

ALICE = Caller(uid=1000, gid=1000, pid=4711, address="127.0.0.1")
BOB = Caller(uid=1001, gid=1001, pid=4712, address="127.0.0.1")

DEPLOY_AND_AUDIT = Grant(
    roles=frozenset({"deploy", "audit"}), default_role="deploy", rule="rules[1]"
)

INSTANCE = Instance(
    instance_id="i-0123456789abcdef0",
    read_at=START,
    region="eu-central-1",
    account_id="123456789012",
    hostname="runner-7",
    local_ipv4="10.0.0.7",
    mac="02:00:00:00:00:07",
    architecture="x86_64",
)
NOWHERE = replace(INSTANCE, region=None)


@dataclass
class Holding:
    """A keeper as the surfaces see it: holds this lease, or nothing."""

    lease: Lease[AwsCredentials] | None = None

    def current(self, *, now: datetime | None = None) -> Lease[AwsCredentials]:
        if self.lease is None or not self.lease.is_live(now=now or START):
            raise NotReady("sts is down")
        return self.lease

    def attempt(self, *, now: datetime) -> None:
        """Say that none is under way."""


@dataclass(frozen=True)
class Rule:
    """Grants to that uid, or to everybody."""

    grant: Grant
    only_uid: int | None = None
    decide_by_process: bool = False

    def grant_for(self, caller: Caller) -> Grant:
        return self.grant if self.only_uid in (None, caller.uid) else NO_GRANT


EVERYBODY = Rule(DEPLOY_AND_AUDIT)
NOBODY = Rule(NO_GRANT)
ONLY_ALICE = Rule(DEPLOY_AND_AUDIT, only_uid=1000)


def lease_for(
    name: str = "deploy",
    *,
    serial: int = 1,
    issued_at: datetime = START,
    life: timedelta = timedelta(hours=1),
) -> Lease[AwsCredentials]:
    value = some_credentials(name, serial=serial)
    return Lease(value=value, issued_at=issued_at, expires_at=issued_at + life)


def all_roles_held() -> dict[str, LeaseHolder[AwsCredentials]]:
    """`deploy` and `audit`, which the rules here grant, and `vault`, which they do not."""
    return {name: Holding(lease_for(name)) for name in ("deploy", "audit", "vault")}


def nothing_held() -> dict[str, LeaseHolder[AwsCredentials]]:
    return {name: Holding() for name in ("deploy", "audit", "vault")}


def an_imds(
    keepers: Mapping[str, LeaseHolder[AwsCredentials]] | None = None,
    *,
    rules: Rules = EVERYBODY,
    instance: Instance = INSTANCE,
    v1: bool = False,
    keys: SessionKeys | None = None,
    guard: Guard | None = None,
) -> Imds:
    return Imds(
        all_roles_held() if keepers is None else keepers,
        rules=rules,
        guard=guard or Guard(),
        tokens=SessionTokens(keys or SessionKeys.in_memory(now=START)),
        instance=instance,
        v1=v1,
    )


def a_container(
    keepers: Mapping[str, LeaseHolder[AwsCredentials]] | None = None,
    *,
    rules: Rules = EVERYBODY,
    tokens: Mapping[str, tuple[str, ...]] | None = None,
) -> Container:
    return Container(
        all_roles_held() if keepers is None else keepers,
        rules=rules,
        guard=Guard(),
        container_tokens=ContainerTokens(tokens or {"default": (SECRET,)}),
    )


def request(method: str, path: str, *headers: tuple[str, str]) -> Request:
    return Request(method=method, path=path, headers=(("host", "127.0.0.1:8170"), *headers))


def session_token(imds: Imds, *, caller: Caller = ALICE, now: datetime = START) -> str:
    answer = imds.answer(request("PUT", TOKEN_PATH, (TTL_HEADER, "21600")), caller, now=now)
    assert answer.status == 200
    return answer.body.decode()


def v2_get(
    imds: Imds,
    path: str,
    *headers: tuple[str, str],
    caller: Caller = ALICE,
    now: datetime = START,
    method: str = "GET",
) -> Answer:
    """Ask with a fresh session token, as an SDK does."""
    token = session_token(imds, caller=caller, now=now)
    return imds.answer(request(method, path, (TOKEN_HEADER, token), *headers), caller, now=now)


def container_get(
    container: Container,
    path: str,
    *headers: tuple[str, str],
    caller: Caller = ALICE,
    now: datetime = START,
    method: str = "GET",
) -> Answer:
    """Ask with the good token."""
    return container.answer(
        request(method, path, ("authorization", SECRET), *headers), caller, now=now
    )
