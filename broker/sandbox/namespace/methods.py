"""The form of an RPC: who may call it, how its parameters are read, what tests may vary."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from broker.sandbox.namespace.rpc_errors import RpcError
from broker.sandbox.namespace.tokens import Bearer, Kind

TENANTS, SIGNIN = "nsl.tenants.TenantsService", "nsl.signin.SigninService"
PUBLIC = "namespace.cloud.iam.v1beta"
TENANT_TOKENS: tuple[Kind, ...] = ("nsct", "nscw", "nsrt")

Params = Mapping[str, object]
Document = Mapping[str, object]
Anonymous = Callable[[Params], Awaitable[Document]]
"""An RPC without a bearer. It refuses one, so that a client that sends it is noticed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """An RPC with a bearer: the kinds it takes, the permission it needs, and its answer."""

    kinds: tuple[Kind, ...]
    permission: tuple[str, str] | None
    answer: Callable[[Params, Bearer], Awaitable[Document]]


@dataclass(slots=True, kw_only=True)
class Choices:
    """Behaviour that the real API does not document; a test may choose it at any time.

    ``refusal_code`` is of a foreign token that is not admitted, ``stale_generation_code`` of an
    update that came too late (or ``ABORTED``). ``tenant_members`` are those that answers name
    the workspace by; None leaves the whole object out. A ``tenant_id`` that is not required
    and not given is found when exactly one workspace admits the token.
    """

    refusal_code: str = "PERMISSION_DENIED"
    stale_generation_code: str = "FAILED_PRECONDITION"
    tenant_id_required: bool = False
    tenant_members: tuple[str, ...] | None = ("tenant_id", "name", "app_url", "primary_region")
    exchanged_lifetime_s: float = 3600


def text(params: Params, name: str) -> str:
    """Return a required text member."""
    value = params.get(name)
    if not isinstance(value, str) or not value:
        raise RpcError("INVALID_ARGUMENT", f"{name} is required")
    return value


def optional_text(params: Params, name: str) -> str:
    value = params.get(name, "")
    if not isinstance(value, str):
        raise RpcError("INVALID_ARGUMENT", f"{name} must be a string")
    return value


def seconds(params: Params, name: str, default_s: int, most_s: int) -> int:
    value = params.get(name, default_s)
    if type(value) is not int or not 0 < value <= most_s:
        raise RpcError("INVALID_ARGUMENT", f"{name} must be a whole number from 1 to {most_s}")
    return value
