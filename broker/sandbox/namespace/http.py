"""Receive requests for Namespace: parse, authenticate, dispatch, record."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime

from aiohttp import web

from broker.sandbox.calls import Call, CallRecord
from broker.sandbox.faults import ErrorShape, Fault, Faults
from broker.sandbox.keys import compact_json
from broker.sandbox.listening import play, scripted_document
from broker.sandbox.namespace.methods import PUBLIC, Anonymous, Document, Method, Params
from broker.sandbox.namespace.rpc_errors import (
    CODES,
    RpcError,
    code_for_status,
    code_name,
    error_response,
    permission_denied,
)
from broker.sandbox.namespace.tokens import Bearer, Tokens, Unauthenticated


class NamespaceHttp:
    """Answer every request: a POST is an RPC, anything else reads a *document*."""

    def __init__(
        self,
        *,
        methods: Mapping[str, Method],
        anonymous: Mapping[str, Anonymous],
        document: Callable[[str], web.Response],
        tokens: Tokens,
        faults: Faults,
        now: Callable[[], datetime],
    ) -> None:
        self.record = CallRecord()
        self.error_shape: ErrorShape = "status"
        self._methods = methods
        self._anonymous = anonymous
        self._document = document
        self._tokens = tokens
        self._faults = faults
        self._now = now

    async def handle(self, request: web.Request) -> web.StreamResponse:
        # nsc joins endpoint and path as they are, so an endpoint that ends in a slash gives two.
        segments = [segment for segment in request.path.split("/") if segment]
        params = _json_object(await request.read()) if request.method == "POST" else {}
        call = Call(
            operation=segments[-1].removesuffix(".json") if segments else "",
            method=request.method,
            path=request.path,
            at=self._now(),
            authorization_present="Authorization" in request.headers,
            headers=request.headers,
            params=params or {},
        )
        number = self.record.arrived(call)

        async def true_answer() -> web.Response:
            if request.method == "POST":
                return await self._rpc(request, "/".join(segments), params)
            return self._document("/".join(segments))

        answer = await play(
            request,
            self._faults.take(call.operation),
            true_answer=true_answer,
            scripted=self._scripted_rpc if request.method == "POST" else _scripted_document,
        )
        self.record.answered(number, answer.status)
        return answer

    async def _rpc(
        self, request: web.Request, name: str, params: dict[str, object] | None
    ) -> web.Response:
        try:
            if request.content_type != "application/json" or params is None:
                raise RpcError("INVALID_ARGUMENT", "the request is not a JSON object")
            document = await self._called(name, params, request.headers.get("Authorization"))
        except RpcError as error:
            return error_response(error, shape=self._shape_for(name))
        return web.Response(text=compact_json(document), content_type="application/json")

    async def _called(self, name: str, params: Params, authorization: str | None) -> Document:
        if anonymous := self._anonymous.get(name):
            if authorization is not None:
                raise RpcError("INVALID_ARGUMENT", f"{name} takes no Authorization header")
            return await anonymous(params)
        method = self._methods.get(name)
        if method is None:
            raise RpcError("UNIMPLEMENTED", f"no such method: {name}")
        return await method.answer(params, self._authenticated(authorization or "", method))

    def _shape_for(self, name: str) -> ErrorShape:
        """Return the shape of errors: the public API speaks Connect, which names codes."""
        is_connect = name.startswith(PUBLIC) and self.error_shape == "status"
        return "relaxed" if is_connect else self.error_shape

    def _authenticated(self, authorization: str, method: Method) -> Bearer:
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer" or not token:
            raise RpcError("UNAUTHENTICATED", "a bearer token is required")
        try:
            bearer = self._tokens.check(token)
        except Unauthenticated as error:
            raise RpcError("UNAUTHENTICATED", str(error)) from None
        if bearer.kind not in method.kinds:
            raise RpcError("UNAUTHENTICATED", f"this method takes no {bearer.kind}_ token")
        needed = method.permission
        granted = bearer.permissions
        if needed is not None and granted is not None and "/".join(needed) not in granted:
            raise permission_denied(*needed)
        return bearer

    def _scripted_rpc(self, fault: Fault) -> web.Response:
        if fault.body is not None:
            return _scripted_document(fault)
        if fault.code is None:
            code, shape = code_for_status(fault.status or 500), fault.shape or "http-status"
        else:
            code, shape = code_name(fault.code), fault.shape or self.error_shape
        message = fault.message or code.lower().replace("_", " ")
        if code not in CODES:
            shape = "relaxed"
        return error_response(RpcError(code, message), shape=shape, status=fault.status)


def _scripted_document(fault: Fault) -> web.Response:
    status = fault.status or (CODES.get(code_name(fault.code), (2, 500))[1] if fault.code else 200)
    return scripted_document(fault, status=status)


def _json_object(body: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
