"""Dispatch AWS requests: parse, check the signature, hand to the service, record.

One address serves every service; the scope of the signature says which one is meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from broker import aws
from broker.sandbox.aws import (
    cognito,
    cognito_protocol,
    query,
    s3,
    sigv4,
    sts,
)
from broker.sandbox.aws.accounts import Accounts
from broker.sandbox.aws.operations import Operation, QueryService, Signer
from broker.sandbox.aws.query import ApiError
from broker.sandbox.aws.sigv4 import SignatureError, WireRequest
from broker.sandbox.aws.web_identity_issuer import WebIdentityIssuer
from broker.sandbox.calls import Call, CallRecord, VerifiedIdentity
from broker.sandbox.faults import Fault, Faults
from broker.sandbox.issuers import PUBLISHED_BELOW, Issuers
from broker.sandbox.listening import play, scripted_document

IAM_VERSION = "2010-05-08"
IAM_XML_NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"
GLOBAL_HOSTS = frozenset({"sts.amazonaws.com"})

_COGNITO = "cognito-identity"
_ISSUER = "issuer"
_S3 = "s3"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRequest:
    """One parsed request: which service and operation, with which parameters."""

    service: str
    operation: str
    params: Mapping[str, object]
    wire: WireRequest

    @property
    def host(self) -> str:
        return re.sub(r":\d+$", "", self.wire.headers.get("host", ""))


class AwsHttp:
    """Answers every request for the AWS side."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        token_service: sts.Sts,
        federation: WebIdentityIssuer,
        iam_operations: Mapping[str, Operation],
        pools: cognito.Cognito,
        issuers: Issuers,
        moto_s3: s3.MotoS3 | None,
        faults: Faults,
        region: str | None,
        now: Callable[[], datetime],
        signing_clock: Callable[[], datetime],
    ) -> None:
        self.record = CallRecord()
        self.verified: list[VerifiedIdentity] = []
        self.global_hosts = GLOBAL_HOSTS
        self._accounts = accounts
        self._query_services: Mapping[str, QueryService] = {
            "sts": QueryService(
                version=sts.VERSION,
                xml_namespace=sts.XML_NAMESPACE,
                operations={**token_service.operations, **federation.sts_operations},
                region=region,
            ),
            "iam": QueryService(
                version=IAM_VERSION,
                xml_namespace=IAM_XML_NAMESPACE,
                operations={**iam_operations, **federation.iam_operations},
                region=aws.IAM_REGIONS[accounts.partition],
            ),
        }
        self._pools = pools
        self._issuers = issuers
        self._s3 = moto_s3
        self._faults = faults
        self._region = region
        self._now = now
        self._signing_clock = signing_clock

    async def handle(self, request: web.Request) -> web.StreamResponse:
        wire = WireRequest(
            method=request.method,
            target=request.raw_path,
            headers=_joined(request),
            body=await request.read(),
        )
        parsed = _parsed(wire)
        scope = sigv4.scope_of(wire)
        call = Call(
            operation=parsed.operation,
            method=request.method,
            path=wire.target,
            at=self._now(),
            access_key_id=scope.access_key_id if scope else None,
            session_token=wire.session_token,
            authorization_present="authorization" in wire.headers,
            headers=request.headers,
            params=parsed.params,
        )
        number = self.record.arrived(call)
        answer = await play(
            request,
            self._faults.take(parsed.operation),
            true_answer=lambda: self._answer(parsed),
            scripted=lambda fault: self._scripted(fault, parsed),
        )
        self.record.answered(number, answer.status)
        return answer

    async def _answer(self, request: ServiceRequest) -> web.Response:
        try:
            if request.service == _ISSUER:
                return self._published(request)
            if request.service == _S3:
                return await self._answer_s3(request)
            if request.service == _COGNITO:
                return await self._answer_cognito(request)
            return await self._answer_query(request)
        except ApiError as refusal:
            return self._refused(request, refusal)
        except SignatureError as error:
            codes = _SIGNATURE_CODES.get(request.service, _QUERY_SIGNATURE_CODES)
            code = codes.get(error.reason) or codes["else"]
            return self._refused(request, ApiError(code, str(error)))

    def _published(self, request: ServiceRequest) -> web.Response:
        document = self._issuers.document(request.wire.path)
        if document is None or request.wire.method != "GET":
            return web.Response(status=404, text="not found")
        return web.json_response(document)

    async def _answer_query(self, request: ServiceRequest) -> web.Response:
        form = query.parameters(request.wire)
        version = form.get("Version")
        service = self._query_services.get(request.service)
        operation = service.operations.get(request.operation) if service else None
        elsewhere = operation and operation.regional and request.host in self.global_hosts
        if service is None or operation is None or service.version != version or elsewhere:
            raise ApiError(
                "InvalidAction",
                f"Could not find operation {request.operation} for version {version}",
            )
        signer = None
        if operation.signed:
            signer = self._authenticated(request, region=service.region)
        elif "authorization" in request.wire.headers:
            # AWS ignores it; here it would hide a client that sends keys it should not.
            raise ApiError(
                "UnexpectedSignature", f"{request.operation} takes no Authorization header"
            )
        members = await operation.answer(form, signer)
        return query.result(request.operation, members, namespace=service.xml_namespace)

    async def _answer_cognito(self, request: ServiceRequest) -> web.Response:
        target, _ = cognito_protocol.target_of(request.wire)
        operation = self._pools.operations.get(request.operation)
        if target != cognito.TARGET or operation is None:
            raise ApiError("UnknownOperationException", "")
        params = cognito_protocol.members_of(request.wire)
        if params is None:
            raise ApiError("SerializationException", "the body is not a JSON object")
        signer = self._authenticated(request, region=self._region)
        return cognito_protocol.result(await operation(params, signer))

    async def _answer_s3(self, request: ServiceRequest) -> web.Response:
        signer = self._authenticated(request, region=self._region)
        if self._s3 is None:
            raise ApiError("NotImplemented", "this sandbox was started without s3=True", status=501)
        return await self._s3.forward(request.wire, account=signer.identity.account)

    def _authenticated(self, request: ServiceRequest, *, region: str | None) -> Signer:
        """Return who signed the request.

        Raises:
            SignatureError: The signature or the keys are not valid, or have expired.
        """
        wire = request.wire
        signature = sigv4.read(wire)
        identity = self._accounts.identity(signature.scope.access_key_id)
        if identity is None or identity.keys.session_token != wire.session_token:
            raise SignatureError("unknown-key", "The security token included is invalid")
        sigv4.verify(
            wire,
            signature,
            secret=identity.keys.secret_access_key,
            region=region,
            now=self._signing_clock(),
        )
        ends_at = identity.keys.expires_at
        if ends_at is not None and ends_at <= self._now():
            raise SignatureError("expired", "The security token included in the request is expired")
        self.verified.append(
            VerifiedIdentity(
                operation=request.operation,
                access_key_id=identity.keys.access_key_id,
                session_token=identity.keys.session_token,
                arn=identity.arn,
            )
        )
        policies = self._accounts.policies_in_force(identity.principal_arn)
        return Signer(identity=identity, region=signature.scope.region, policies=policies)

    def _refused(self, request: ServiceRequest, refusal: ApiError) -> web.Response:
        if request.service == _S3:
            method = request.wire.method
            return s3.error(
                refusal.code, refusal.message, method=method, status=refusal.stated_status
            )
        if request.service == _COGNITO:
            return cognito_protocol.error(refusal)
        service = self._query_services.get(request.service) or self._query_services["sts"]
        return query.error(refusal, namespace=service.xml_namespace)

    def _scripted(self, fault: Fault, request: ServiceRequest) -> web.Response:
        status = fault.status or 200
        if request.service == _ISSUER:
            return scripted_document(fault, status=500 if fault.code else status)
        if fault.body is not None:
            media_type = _MEDIA_TYPES.get(request.service, "text/xml")
            return web.Response(status=status, body=fault.body, content_type=media_type)
        code_of = _CODES_FOR_STATUS.get(request.service, query.code_for_status)
        code = str(fault.code) if fault.code is not None else code_of(fault.status or 500)
        message = fault.message or "scripted by the sandbox"
        return self._refused(request, ApiError(code, message, status=fault.status))


_QUERY_SIGNATURE_CODES: Mapping[str, str] = {
    "missing": "MissingAuthenticationToken",
    "incomplete": "IncompleteSignature",
    "unknown-key": "InvalidClientTokenId",
    "expired": "ExpiredToken",
    "else": "SignatureDoesNotMatch",
}
_SIGNATURE_CODES: Mapping[str, Mapping[str, str]] = {
    _S3: {
        "missing": "AccessDenied",
        "incomplete": "AuthorizationHeaderMalformed",
        "unknown-key": "InvalidAccessKeyId",
        "expired": "ExpiredToken",
        "skewed": "RequestTimeTooSkewed",
        "body": "XAmzContentSHA256Mismatch",
        "scope": "AuthorizationHeaderMalformed",
        "unsigned-header": "AccessDenied",
        "else": "SignatureDoesNotMatch",
    },
    _COGNITO: {
        "missing": "MissingAuthenticationTokenException",
        "incomplete": "IncompleteSignatureException",
        "unknown-key": "UnrecognizedClientException",
        "expired": "ExpiredTokenException",
        "else": "InvalidSignatureException",
    },
}
_CODES_FOR_STATUS: Mapping[str, Callable[[int], str]] = {
    _S3: s3.code_for_status,
    _COGNITO: cognito_protocol.code_for_status,
}
_MEDIA_TYPES: Mapping[str, str] = {_COGNITO: "application/x-amz-json-1.1"}


def _parsed(wire: WireRequest) -> ServiceRequest:
    """Parse a request; one that is unsigned and has no action is for S3."""
    scope = sigv4.scope_of(wire)
    form = query.parameters(wire)
    _, target = cognito_protocol.target_of(wire)
    params: Mapping[str, object] = form
    if wire.path.startswith(f"{PUBLISHED_BELOW}/"):
        service, params = _ISSUER, {}
        operation = wire.path.rpartition("/")[2].removesuffix(".json")
    elif (scope.service if scope else "") == _COGNITO or (scope is None and target):
        service, operation = _COGNITO, target
        params = cognito_protocol.members_of(wire) or {}
    elif scope is None and "Action" in form:
        service = "iam" if form.get("Version") == IAM_VERSION else "sts"
        operation = form["Action"]
    elif scope is None or scope.service == _S3:
        service, operation, params = _S3, s3.operation_name(wire), {}
    else:
        service, operation = scope.service, form.get("Action", "")
    return ServiceRequest(service=service, operation=operation, params=params, wire=wire)


def _joined(request: web.Request) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in request.headers.items():
        lowered = name.lower()
        joined[lowered] = f"{joined[lowered]},{value}" if lowered in joined else value
    return joined
