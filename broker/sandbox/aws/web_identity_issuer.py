"""Web identity tokens of an AWS account: the switch in IAM, and STS's GetWebIdentityToken.

Source: aws-api.md 5 and 6.1.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock

from broker.sandbox.aws import constraints
from broker.sandbox.aws.constraints import Params, check_length, invalid
from broker.sandbox.aws.operations import Operation, Signer, signed
from broker.sandbox.aws.query import ApiError, Result, members
from broker.sandbox.issuers import Issuers
from broker.sandbox.keys import SigningKey, compact_json

ALGORITHMS = ("ES384", "RS256")

_AUDIENCES, _AUDIENCE_CHARACTERS = 10, 1000
_DURATION_MIN_S, _DURATION_MAX_S, _DURATION_DEFAULT_S = 60, 3600, 300


@dataclass(slots=True)
class _AccountIssuer:
    """One account's issuer.

    It keeps its name and keys when it is switched off, so that tokens from before can still be
    verified.
    """

    name: str
    keys: Mapping[str, SigningKey] = field(repr=False)
    enabled: bool = True


class WebIdentityIssuer:
    """Outbound web identity federation of every account."""

    def __init__(self, issuers: Issuers, *, now: Callable[[], datetime]) -> None:
        self.payload_max_bytes = 16_384  # AWS does not document its limit
        self._issuers = issuers
        self._now = now
        self._lock = Lock()
        self._by_account: dict[str, _AccountIssuer] = {}
        self.sts_operations: Mapping[str, Operation] = {
            "GetWebIdentityToken": Operation(signed=True, regional=True, answer=self._get_token),
        }
        self.iam_operations: Mapping[str, Operation] = {
            "EnableOutboundWebIdentityFederation": signed(self._enable),
            "GetOutboundWebIdentityFederationInfo": signed(self._info),
            "DisableOutboundWebIdentityFederation": signed(self._disable),
        }

    def switch(self, account: str, *, enabled: bool) -> str | None:
        """Switch an account's issuer and return its name; None for one that was never on."""
        with self._lock:
            issuer = self._by_account.get(account)
            if issuer is None and enabled:
                name = f"https://{uuid.uuid4()}.tokens.sts.global.api.aws"
                keys = {algorithm: SigningKey(algorithm) for algorithm in ALGORITHMS}
                self._issuers.publish(name, *keys.values())
                issuer = self._by_account[account] = _AccountIssuer(name, keys)
            if issuer is None:
                return None
            issuer.enabled = enabled
            return issuer.name

    def _enabled(self, account: str) -> _AccountIssuer | None:
        issuer = self._by_account.get(account)
        return issuer if issuer is not None and issuer.enabled else None

    def _enable(self, _: Params, signer: Signer) -> Result:
        signer.require("iam:EnableOutboundWebIdentityFederation")
        account = signer.identity.account
        if self._enabled(account) is not None:
            raise ApiError("FeatureEnabled", "Outbound web identity federation is already enabled")
        return {"IssuerIdentifier": self.switch(account, enabled=True)}

    def _info(self, _: Params, signer: Signer) -> Result:
        signer.require("iam:GetOutboundWebIdentityFederationInfo")
        return {"IssuerIdentifier": self._required(signer).name, "JwtVendingEnabled": True}

    def _disable(self, _: Params, signer: Signer) -> None:
        signer.require("iam:DisableOutboundWebIdentityFederation")
        self._required(signer).enabled = False

    def _required(self, signer: Signer) -> _AccountIssuer:
        issuer = self._enabled(signer.identity.account)
        if issuer is None:
            raise ApiError("FeatureDisabled", "Outbound web identity federation is not enabled")
        return issuer

    async def _get_token(self, params: Params, signer: Signer | None) -> Result:
        assert signer is not None
        audiences = _audiences(params)
        algorithm = _algorithm(params)
        duration_s = constraints.whole(
            params,
            "DurationSeconds",
            least=_DURATION_MIN_S,
            most=_DURATION_MAX_S,
            default=_DURATION_DEFAULT_S,
        )
        tags = constraints.tags(params)
        context: dict[str, object] = {
            "sts:IdentityTokenAudience": audiences,
            "sts:SigningAlgorithm": algorithm,
            "sts:DurationSeconds": duration_s,
            "aws:TagKeys": list(tags),
            **{f"aws:RequestTag/{key}": value for key, value in tags.items()},
        }
        for action in ("sts:GetWebIdentityToken", *(["sts:TagGetWebIdentityToken"] * bool(tags))):
            if refusal := signer.refusal(action, context=context):
                raise ApiError("AccessDenied", refusal)
        issuer = self._enabled(signer.identity.account)
        if issuer is None:
            raise ApiError(
                "OutboundWebIdentityFederationDisabledException",
                "Outbound web identity federation is not enabled for this account",
            )
        issued_at = self._now().replace(microsecond=0)
        ends_at = issued_at + timedelta(seconds=duration_s)
        _check_session_end(signer, ends_at)
        claims = {
            "iss": issuer.name,
            "aud": audiences[0] if len(audiences) == 1 else audiences,
            "sub": signer.identity.principal_arn,
            "iat": int(issued_at.timestamp()),
            "exp": int(ends_at.timestamp()),
            "jti": secrets.token_hex(16),
            "https://sts.amazonaws.com/": _aws_claims(signer, tags),
        }
        if len(compact_json(claims)) > self.payload_max_bytes:
            raise ApiError(
                "JWTPayloadSizeExceededException",
                "The requested token payload size exceeds the maximum allowed size",
            )
        return {
            "WebIdentityToken": issuer.keys[algorithm].sign(claims),
            "Expiration": f"{ends_at:%Y-%m-%dT%H:%M:%SZ}",
        }


def _audiences(params: Params) -> list[str]:
    audiences = members(params, "Audience")
    if not audiences:
        raise invalid("null", "Audience", "not be null")
    if len(audiences) > _AUDIENCES:
        raise invalid("'[…]'", "Audience", f"have length less than or equal to {_AUDIENCES}")
    for audience in audiences:
        check_length(audience, "audience", least=1, most=_AUDIENCE_CHARACTERS)
    return audiences


def _algorithm(params: Params) -> str:
    algorithm = params.get("SigningAlgorithm")
    if algorithm is None:
        raise invalid("null", "SigningAlgorithm", "not be null")
    if algorithm not in ALGORITHMS:
        allowed = f"[{', '.join(ALGORITHMS)}]"
        constraint = f"satisfy enum value set: {allowed}"
        raise invalid(f"'{algorithm}'", "SigningAlgorithm", constraint)
    return algorithm


def _check_session_end(signer: Signer, ends_at: datetime) -> None:
    session_ends_at = signer.identity.keys.expires_at
    if session_ends_at is not None and ends_at > session_ends_at:
        raise ApiError(
            "SessionDurationEscalationException",
            "The requested token duration would extend the session beyond its original "
            "expiration time",
        )


def _aws_claims(signer: Signer, tags: Mapping[str, str]) -> dict[str, object]:
    claims: dict[str, object] = {
        "aws_account": signer.identity.account,
        "source_region": signer.region,
    }
    if signer.identity.transitive_tags:
        claims["principal_tags"] = dict(signer.identity.transitive_tags)
    if tags:
        claims["request_tags"] = dict(tags)
    return claims
