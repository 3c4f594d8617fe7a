"""What arrives for AWS: taken apart, its signature checked, handed to its service, recorded.

One address serves every service; which one is meant is told by the scope that was signed for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from broker.sandbox.aws import (
    cognito,
    iam,
    json_protocol,
    query,
    s3,
    sigv4,
    sts,
    web_identity_issuer,
)
from broker.sandbox.aws.accounts import Accounts
from broker.sandbox.aws.operations import Operation, QueryService, Signer
from broker.sandbox.aws.query import AwsError
from broker.sandbox.aws.sigv4 import Arrived, SignatureError
from broker.sandbox.calls import Call, CallRecord, VerifiedIdentity
from broker.sandbox.faults import Fault, Faults
from broker.sandbox.issuers import PUBLISHED_BELOW, Issuers
from broker.sandbox.listening import play, scripted_document

GLOBAL_HOSTS = frozenset({"sts.amazonaws.com"})

_COGNITO = "cognito-identity"
_ISSUER = "issuer"
_S3 = "s3"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, taken apart: which service and operation, with which parameters."""

    service: str
    operation: str
    params: Mapping[str, object]
    arrived: Arrived

    @property
    def host(self) -> str:
        return re.sub(r":\d+$", "", self.arrived.headers.get("host", ""))


class AwsHttp:
    """Answers every request for the AWS side."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        token_service: sts.Sts,
        federation: web_identity_issuer.Outbound,
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
                version=iam.VERSION,
                xml_namespace=iam.XML_NAMESPACE,
                operations={**iam_operations, **federation.iam_operations},
                region=iam.signing_region(accounts.partition),
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
        arrived = Arrived(
            method=request.method,
            target=request.raw_path,
            headers=_joined(request),
            body=await request.read(),
        )
        asked = _asked(arrived)
        scope = sigv4.scope_of(arrived)
        call = Call(
            operation=asked.operation,
            method=request.method,
            path=arrived.target,
            at=self._now(),
            access_key_id=scope.access_key_id if scope else None,
            session_token=arrived.session_token,
            authorization_present="authorization" in arrived.headers,
            headers=request.headers,
            params=asked.params,
        )
        number = self.record.arrived(call)
        answer = await play(
            request,
            self._faults.take(asked.operation),
            true_answer=lambda: self._answer(asked),
            scripted=lambda fault: self._scripted(fault, asked),
        )
        self.record.answered(number, answer.status)
        return answer

    # True answers.

    async def _answer(self, asked: Asked) -> web.Response:
        try:
            if asked.service == _ISSUER:
                return self._published(asked)
            if asked.service == _S3:
                return await self._answer_s3(asked)
            if asked.service == _COGNITO:
                return await self._answer_cognito(asked)
            return await self._answer_query(asked)
        except AwsError as refusal:
            return self._refused(asked, refusal)
        except SignatureError as error:
            codes = _SIGNATURE_CODES.get(asked.service, _QUERY_SIGNATURE_CODES)
            code = codes.get(error.reason) or codes["else"]
            return self._refused(asked, AwsError(code, str(error)))

    def _published(self, asked: Asked) -> web.Response:
        document = self._issuers.document(asked.arrived.path)
        if document is None or asked.arrived.method != "GET":
            return web.Response(status=404, text="not found")
        return web.json_response(document)

    async def _answer_query(self, asked: Asked) -> web.Response:
        form = query.parameters(asked.arrived)
        version = form.get("Version")
        service = self._query_services.get(asked.service)
        operation = service.operations.get(asked.operation) if service else None
        elsewhere = operation and operation.regional and asked.host in self.global_hosts
        if service is None or operation is None or service.version != version or elsewhere:
            raise AwsError(
                "InvalidAction",
                f"Could not find operation {asked.operation} for version {version}",
            )
        signer = None
        if operation.signed:
            signer = self._authenticated(asked, region=service.region)
        elif "authorization" in asked.arrived.headers:
            # AWS would look away; here it would hide a client that sends keys it should not.
            raise AwsError(
                "UnexpectedSignature", f"{asked.operation} takes no Authorization header"
            )
        members = await operation.answer(form, signer)
        return query.result(asked.operation, members, namespace=service.xml_namespace)

    async def _answer_cognito(self, asked: Asked) -> web.Response:
        target, _ = json_protocol.target_of(asked.arrived)
        operation = self._pools.operations.get(asked.operation)
        if target != cognito.TARGET or operation is None:
            raise AwsError("UnknownOperationException", "")
        params = json_protocol.members_of(asked.arrived)
        if params is None:
            raise AwsError("SerializationException", "the body is not a JSON object")
        signer = self._authenticated(asked, region=self._region)
        return json_protocol.result(await operation(params, signer))

    async def _answer_s3(self, asked: Asked) -> web.Response:
        signer = self._authenticated(asked, region=self._region)
        if self._s3 is None:
            raise AwsError("NotImplemented", "this sandbox was started without s3=True", status=501)
        return await self._s3.forward(asked.arrived, account=signer.identity.account)

    def _authenticated(self, asked: Asked, *, region: str | None) -> Signer:
        """Return whose signature is on the request.

        Raises:
            SignatureError: The signature is not good, or the keys are not, or no longer.
        """
        arrived = asked.arrived
        signature = sigv4.read(arrived)
        identity = self._accounts.identity(signature.scope.access_key_id)
        if identity is None or identity.keys.session_token != arrived.session_token:
            raise SignatureError("unknown-key", "The security token included is invalid")
        sigv4.verify(
            arrived,
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
                operation=asked.operation,
                access_key_id=identity.keys.access_key_id,
                session_token=identity.keys.session_token,
                arn=identity.arn,
            )
        )
        policies = self._accounts.policies_in_force(identity.principal_arn)
        return Signer(identity=identity, region=signature.scope.region, policies=policies)

    # Refusals, true and scripted, as each protocol spells them.

    def _refused(self, asked: Asked, refusal: AwsError) -> web.Response:
        if asked.service == _S3:
            method = asked.arrived.method
            return s3.error(
                refusal.code, refusal.message, method=method, status=refusal.stated_status
            )
        if asked.service == _COGNITO:
            return json_protocol.error(refusal)
        service = self._query_services.get(asked.service) or self._query_services["sts"]
        return query.error(refusal, namespace=service.xml_namespace)

    def _scripted(self, fault: Fault, asked: Asked) -> web.Response:
        status = fault.status or 200
        if asked.service == _ISSUER:
            return scripted_document(fault, status=500 if fault.code else status)
        if fault.body is not None:
            media_type = _MEDIA_TYPES.get(asked.service, "text/xml")
            return web.Response(status=status, body=fault.body, content_type=media_type)
        code_of = _CODES_FOR_STATUS.get(asked.service, query.code_for_status)
        code = str(fault.code) if fault.code is not None else code_of(fault.status or 500)
        message = fault.message or "scripted by the sandbox"
        return self._refused(asked, AwsError(code, message, status=fault.status))


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
    _COGNITO: json_protocol.code_for_status,
}
_MEDIA_TYPES: Mapping[str, str] = {_COGNITO: "application/x-amz-json-1.1"}


def _asked(arrived: Arrived) -> Asked:
    """Take a request apart; what is unsigned and carries no action is meant for S3."""
    scope = sigv4.scope_of(arrived)
    form = query.parameters(arrived)
    _, target = json_protocol.target_of(arrived)
    params: Mapping[str, object] = form
    if arrived.path.startswith(f"{PUBLISHED_BELOW}/"):
        service, params = _ISSUER, {}
        operation = arrived.path.rpartition("/")[2].removesuffix(".json")
    elif (scope.service if scope else "") == _COGNITO or (scope is None and target):
        service, operation = _COGNITO, target
        params = json_protocol.members_of(arrived) or {}
    elif scope is None and "Action" in form:
        service = "iam" if form.get("Version") == iam.VERSION else "sts"
        operation = form["Action"]
    elif scope is None or scope.service == _S3:
        service, operation, params = _S3, s3.operation_name(arrived), {}
    else:
        service, operation = scope.service, form.get("Action", "")
    return Asked(service=service, operation=operation, params=params, arrived=arrived)


def _joined(request: web.Request) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in request.headers.items():
        lowered = name.lower()
        joined[lowered] = f"{joined[lowered]},{value}" if lowered in joined else value
    return joined
