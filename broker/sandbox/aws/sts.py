"""STS: what each operation checks, issues and refuses.

Source: aws-api.md 3 and 4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import aiohttp

from broker import policy
from broker.sandbox import oidc_verifier
from broker.sandbox.aws import constraints
from broker.sandbox.aws.accounts import Accounts, Principal
from broker.sandbox.aws.constraints import Params, invalid, named, sized
from broker.sandbox.aws.iam_records import ProviderRecord, RoleRecord
from broker.sandbox.aws.operations import Operation, Signer
from broker.sandbox.aws.query import ApiError, Result, members, structures
from broker.sandbox.issuers import IssuerLocation

XML_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
VERSION = "2011-06-15"

_ROLE_ARN = re.compile(r"arn:[a-z-]+:iam::\d{12}:role/[!-~]+", re.ASCII)
_POLICY_ARN = re.compile(r"arn:[a-z-]+:iam::(?:\d{12}|aws):policy/[!-~]+", re.ASCII)
_EXTERNAL_ID = r"[\w+=,.@:\/-]*"
_DURATION_MIN_S, _DURATION_MAX_S, _CHAINED_MAX_S = 900, 43200, 3600
_POLICY_CHARACTERS, _POLICY_ARNS = 2048, 10
_CLOCK_SKEW_S = 300


class Sts:
    """The operations, over the state in *accounts*."""

    def __init__(
        self,
        accounts: Accounts,
        *,
        now: Callable[[], datetime],
        jwks_timeout_s: float,
        location_of: Callable[[str], IssuerLocation | None],
    ) -> None:
        """*location_of* returns where an issuer is found, and its certificate."""
        self.max_token_age_s = 24 * 3600
        self._accounts = accounts
        self._location_of = location_of
        self._now = now
        self._jwks_timeout_s = jwks_timeout_s
        self._http: aiohttp.ClientSession | None = None
        self.operations: Mapping[str, Operation] = {
            "AssumeRoleWithWebIdentity": Operation(signed=False, answer=self._with_web_identity),
            "AssumeRole": Operation(signed=True, answer=self._assume_role),
            "GetCallerIdentity": Operation(signed=True, answer=self._get_caller_identity),
        }

    async def start(self) -> None:
        self._http = aiohttp.ClientSession()

    async def stop(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def _get_caller_identity(self, _: Params, signer: Signer | None) -> Result:
        assert signer is not None
        caller = signer.identity
        return {"Arn": caller.arn, "UserId": caller.user_id, "Account": caller.account}

    async def _with_web_identity(self, params: Params, _: Signer | None) -> Result:
        role_arn = _role_arn(params)
        session_name = named(params, "RoleSessionName", least=2, most=64)
        token = sized(params, "WebIdentityToken", least=4, most=20000, shown=False)
        duration_s = _duration_s(params)
        packed = _session_policy(params)
        provider, claims = await self._vouched(token, account=role_arn.split(":")[4])
        role = self._accounts.seen_role(role_arn)
        context = {"sts:RoleSessionName": session_name, **self._time_context()}
        if role is None or not policy.role_admits_web_identity(
            role.trust_policy,
            provider_arn=provider.arn,
            claims=claims,
            context=context,
            context_is_whole=True,
        ):
            raise ApiError(
                "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"
            )
        _check_role_maximum(role, duration_s)
        opened = self._accounts.open_session(role, session_name=session_name, lifetime_s=duration_s)
        return _session_result(opened, packed) | {
            "SubjectFromWebIdentityToken": claims["sub"],
            "Audience": _audiences(claims)[0],
            "Provider": provider.issuer,
        }

    async def _vouched(self, token: str, *, account: str) -> tuple[ProviderRecord, dict[str, Any]]:
        """Return the claims, verified by the account's provider for their issuer."""
        try:
            issuer = oidc_verifier.unverified_claims(token).get("iss")
        except oidc_verifier.NotAToken as error:
            raise ApiError(
                "InvalidIdentityToken", f"The ID Token provided is not a valid JWT: {error}"
            ) from error
        provider = self._accounts.seen_provider(str(issuer), account=account)
        if provider is None or provider.issuer != issuer:
            raise ApiError(
                "InvalidIdentityToken",
                f"No OpenIDConnect provider found in your account for {issuer}",
            )
        assert self._http is not None
        try:
            claims = await oidc_verifier.verified_claims(
                token,
                issuer=provider.issuer,
                resolve_at=self._address_of(provider),
                session=self._http,
                timeout_s=self._jwks_timeout_s,
            )
        except oidc_verifier.KeyUnavailable as error:
            raise ApiError(
                "InvalidIdentityToken",
                "Couldn't retrieve verification key from your identity provider, please "
                "reference AssumeRoleWithWebIdentity documentation for requirements",
            ) from error
        except oidc_verifier.BadSignature as error:
            raise ApiError("InvalidIdentityToken", "Token signature is not valid") from error
        self._check_times(claims)
        if not isinstance(claims.get("sub"), str):
            raise ApiError("InvalidIdentityToken", "Missing a required claim: sub")
        if not set(_audiences(claims)) & set(provider.client_ids):
            raise ApiError("InvalidIdentityToken", "Incorrect token audience")
        return provider, claims

    def _address_of(self, provider: ProviderRecord) -> str:
        """Return where the issuer's keys are read.

        A thumbprint counts only where the certificate is not one of a public authority.
        Source: aws-api.md 6.2.
        """
        location = self._location_of(provider.issuer)
        own = location.thumbprint if location else None
        if own is not None and own not in {one.lower() for one in provider.thumbprints}:
            raise ApiError(
                "InvalidIdentityToken",
                "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint",
            )
        address = provider.resolve_at or (location.resolve_at if location else None)
        if address is None:
            raise oidc_verifier.KeyUnavailable(f"nobody knows where {provider.issuer} is")
        return address

    def _time_context(self) -> dict[str, object]:
        now = self._now()
        return {"aws:CurrentTime": f"{now:%FT%TZ}", "aws:EpochTime": int(now.timestamp())}

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = int(self._now().timestamp())
        for claim in ("exp", "iat"):
            if claim not in claims:
                raise ApiError("InvalidIdentityToken", f"Missing a required claim: {claim}")
        for claim in ("exp", "iat", "nbf"):
            if type(claims.get(claim, 0)) is not int:
                raise ApiError("InvalidIdentityToken", f"Claim {claim} must be an integer")
        if claims["exp"] <= now:
            raise ApiError(
                "ExpiredTokenException",
                f"Token expired: current date/time {now} must be before the expiration "
                f"date/time {claims['exp']}",
            )
        if now - claims["iat"] > self.max_token_age_s:
            raise ApiError("ExpiredTokenException", f"Token too old: {now - claims['iat']} seconds")
        if max(claims["iat"], claims.get("nbf", 0)) > now + _CLOCK_SKEW_S:
            raise ApiError("InvalidIdentityToken", "Token is not yet valid")

    async def _assume_role(self, params: Params, signer: Signer | None) -> Result:
        """Assume a role from another identity: both sides have to allow it.

        A role of the same account that names its caller needs nothing of the caller's own policies.

        Source: IAM user guide, "Policy evaluation logic"; aws-api.md 4.
        """
        assert signer is not None
        caller = signer.identity
        role_arn = _role_arn(params)
        session_name = named(params, "RoleSessionName", least=2, most=64)
        duration_s = _duration_s(params)
        packed = _session_policy(params)
        tags, transitive = _tags(params)
        source_identity = self._source_identity(params, caller)
        role = self._accounts.seen_role(role_arn)
        context = _assume_context(params, caller, session_name, tags, source_identity)
        context |= self._time_context()
        actions = ["sts:AssumeRole"]
        actions += ["sts:TagSession"] if tags or caller.transitive_tags else []
        actions += ["sts:SetSourceIdentity"] if source_identity else []
        for action in actions:
            if role is None or not _may_assume(role, signer, action, context):
                raise ApiError(
                    "AccessDenied",
                    f"User: {caller.arn} is not authorized to perform: {action} "
                    f"on resource: {role_arn}",
                )
        assert role is not None
        if caller.is_role_session and duration_s > _CHAINED_MAX_S:
            raise ApiError(
                "ValidationError",
                "The requested DurationSeconds exceeds the 1 hour session limit for roles "
                "assumed by role chaining",
            )
        _check_role_maximum(role, duration_s)
        opened = self._accounts.open_session(
            role,
            session_name=session_name,
            lifetime_s=duration_s,
            source_identity=source_identity,
            transitive_tags={**{key: tags[key] for key in transitive}, **caller.transitive_tags},
        )
        return _session_result(opened, packed)

    def _source_identity(self, params: Params, caller: Principal) -> str | None:
        """Return the source identity: a later session may repeat it, not change it."""
        if "SourceIdentity" not in params:
            return caller.source_identity
        requested = named(params, "SourceIdentity", least=2, most=64)
        if caller.source_identity not in (None, requested):
            raise ApiError(
                "AccessDenied", "SourceIdentity is set by an earlier session and cannot be changed"
            )
        return requested


def _may_assume(
    role: RoleRecord, signer: Signer, action: str, context: Mapping[str, object]
) -> bool:
    caller = signer.identity
    verdict = policy.role_admits_principal(
        role.trust_policy,
        principal_arns=caller.names,
        action=action,
        context=context,
        context_is_whole=True,
    )
    names_the_caller = role.account == caller.account and any(
        check.element == "Principal" and not set(caller.names).isdisjoint(check.expected)
        for statement in verdict.statements
        if statement.effect == "Allow" and statement.applies
        for check in statement.checks
    )
    own = signer.verdict(action, resource=role.arn, context=context)
    return bool(verdict) and (bool(own) or (names_the_caller and not own.denied))


def _assume_context(
    params: Params,
    caller: Principal,
    session_name: str,
    tags: Mapping[str, str],
    source_identity: str | None,
) -> dict[str, object]:
    external_id = None
    if "ExternalId" in params:
        external_id = named(params, "ExternalId", least=2, most=1224, pattern=_EXTERNAL_ID)
    return {
        "sts:ExternalId": external_id,
        "sts:RoleSessionName": session_name,
        "sts:SourceIdentity": source_identity,
        "aws:PrincipalArn": caller.names[-1],
        "aws:PrincipalAccount": caller.account,
        "aws:TagKeys": list(tags),
        **{f"aws:RequestTag/{key}": value for key, value in tags.items()},
        **{f"aws:PrincipalTag/{key}": value for key, value in caller.transitive_tags.items()},
    }


def _session_result(opened: Principal, packed_percent: int | None) -> dict[str, object]:
    keys = opened.keys
    assert keys.expires_at is not None
    return {
        "Credentials": {
            "AccessKeyId": keys.access_key_id,
            "SecretAccessKey": keys.secret_access_key,
            "SessionToken": keys.session_token,
            "Expiration": f"{keys.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        },
        "AssumedRoleUser": {"AssumedRoleId": opened.user_id, "Arn": opened.arn},
        "PackedPolicySize": packed_percent,
        "SourceIdentity": opened.source_identity,
    }


def _audiences(claims: Mapping[str, Any]) -> list[str]:
    """Return the token's audiences; ``azp`` wins over ``aud`` where both are there."""
    audiences = claims.get("azp", claims.get("aud"))
    return [str(one) for one in (audiences if isinstance(audiences, list) else [audiences])] or [""]


def _role_arn(params: Params) -> str:
    arn = sized(params, "RoleArn", least=20, most=2048)
    if not _ROLE_ARN.fullmatch(arn):
        raise ApiError("ValidationError", "Request ARN is invalid")
    return arn


def _duration_s(params: Params) -> int:
    return constraints.whole(
        params,
        "DurationSeconds",
        least=_DURATION_MIN_S,
        most=_DURATION_MAX_S,
        default=_CHAINED_MAX_S,
    )


def _check_role_maximum(role: RoleRecord, duration_s: int) -> None:
    if duration_s > role.max_session_duration_s:
        raise ApiError(
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        )


def _session_policy(params: Params) -> int | None:
    """Check policy, policy ARNs and tags; return their packed size in percent, None without any.

    AWS packs by a method of its own; here it is the characters over 2048, which is of the
    same order and refuses when several parts together are too much.
    """
    arns = [one.get("arn", "") for one in structures(params, "PolicyArns")]
    if len(arns) > _POLICY_ARNS:
        raise invalid("'[…]'", "PolicyArns", f"have length less than or equal to {_POLICY_ARNS}")
    if any(not _POLICY_ARN.fullmatch(arn) for arn in arns):
        raise ApiError("ValidationError", "ARN in PolicyArns is invalid")
    policy = ""
    if "Policy" in params:
        policy = sized(params, "Policy", least=1, most=_POLICY_CHARACTERS)
        _check_policy_document(policy)
    tags = [one.get("Key", "") + one.get("Value", "") for one in structures(params, "Tags")]
    parts = [policy, *arns, *tags]
    if not any(parts):
        return None
    percent = max(1, sum(map(len, parts)) * 100 // _POLICY_CHARACTERS)
    if percent > 100:
        raise ApiError(
            "PackedPolicyTooLarge",
            f"Packed size of session tags and policies consumes {percent}% of allotted space",
        )
    return percent


def _check_policy_document(text: str) -> None:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    statements = document.get("Statement") if isinstance(document, dict) else None
    listed = statements if isinstance(statements, list) else [statements]
    if not listed or not all(_is_statement(one) for one in listed):
        raise ApiError("MalformedPolicyDocument", "Syntax errors in policy.")


def _is_statement(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.get("Effect") in ("Allow", "Deny")
        and bool({"Action", "NotAction"} & value.keys())
        and bool({"Resource", "NotResource"} & value.keys())
    )


def _tags(params: Params) -> tuple[dict[str, str], list[str]]:
    """Return the session tags, and the keys of those that later sessions inherit."""
    tags = constraints.tags(params)
    transitive = members(params, "TransitiveTagKeys")
    if not set(transitive) <= set(tags):
        raise ApiError("ValidationError", "TransitiveTagKeys names a tag that is not in Tags")
    return tags, transitive
