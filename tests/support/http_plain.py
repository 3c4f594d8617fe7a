"""The simplest surface, which repeats the request it got."""

import json
from datetime import datetime

from broker.access.caller import Caller
from broker.http.message import Answer, Request

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Plain:
    """Answers any path with the request as JSON; a few paths with something else."""

    name = "plain"

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.callers: list[Caller] = []

    def answer(self, request: Request, caller: Caller, *, now: datetime) -> Answer:
        self.requests.append(request)
        self.callers.append(caller)
        match request.path:
            case "/bug":
                raise RuntimeError("a bug")
            case "/hang-up":
                return Answer(status=403, body=b"never seen", close=True)
            case "/large":
                return Answer(status=200, body=b"x" * 20_000)
            case "/empty":
                return Answer(status=405, headers={"Allow": "GET, HEAD"})
            case _:
                return Answer(
                    status=200,
                    body=json.dumps([request.method, request.path, request.query]).encode(),
                    content_type="application/json",
                    headers={"X-Order": "first", "Server": "plain"},
                )

    def nothing_to_serve(self) -> Answer:
        return Answer(status=404, body=b"nothing", content_type="text/plain")

    def bad_request(self) -> Answer:
        return Answer(status=400, body=b"unreadable", content_type="text/plain")

    def head_too_long(self) -> Answer:
        return Answer(status=431, body=b"too long", content_type="text/plain")
