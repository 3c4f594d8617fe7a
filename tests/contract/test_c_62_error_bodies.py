"""Section C.9: the bodies of errors, C-62 and C-63."""

import json
from xml.etree import ElementTree as ET

from tests.support.fakes import FakeClock
from tests.support.sdk import get_container, put_token, raw, v2
from tests.support.surfaces import ROLE_LIST, a_container, an_imds, nothing_held
from tests.support.wire import Reply, wire_to

XHTML = "{http://www.w3.org/1999/xhtml}"


def title_and_heading(reply: Reply) -> tuple[str | None, str | None]:
    page = ET.fromstring(reply.body)
    return page.findtext(f"{XHTML}head/{XHTML}title"), page.findtext(f"{XHTML}body/{XHTML}h1")


async def test_c_62_imds_errors_are_xhtml_pages_and_405_is_empty() -> None:
    async with wire_to(an_imds(), clock=FakeClock()) as wire:
        replies = [
            await wire.send(put_token(None)),
            await wire.send(raw("GET", "/")),
            await wire.send(put_token("60", "X-Forwarded-For: 10.1.2.3")),
            await v2(wire, "/nothing"),
        ]
        not_allowed = await wire.send(raw("POST", ROLE_LIST))

    titles = ["400 - Bad Request", "401 - Unauthorized", "403 - Forbidden", "404 - Not Found"]
    assert [title_and_heading(reply) for reply in replies] == [(title, title) for title in titles]
    for reply in replies:
        assert reply.header("content-type") == "text/html"
        assert b"-//W3C//DTD XHTML 1.0 Transitional//EN" in reply.body
    assert (not_allowed.status, not_allowed.body) == (405, b"")
    assert not_allowed.header("content-type") is None


async def test_c_63_container_errors_are_json_in_both_spellings() -> None:
    replies: list[Reply] = []
    async with wire_to(a_container(), clock=FakeClock()) as wire:
        replies.append(await wire.send(raw("GET", "/creds")))
        replies.append(await wire.send(raw("GET", "/creds", "Authorization: wrong")))
        replies.append(await wire.send(get_container("/creds", "Origin: null")))
        replies.append(await wire.send(get_container("/role/no-such-role")))
        replies.append(await wire.send(raw("POST", "/creds")))
    async with wire_to(a_container(nothing_held()), clock=FakeClock()) as wire:
        replies.append(await wire.send(get_container("/creds")))

    assert [reply.status for reply in replies] == [401, 401, 403, 404, 405, 404]
    for reply in replies:
        problem = json.loads(reply.body)
        assert reply.header("content-type") == "application/json"
        assert set(problem) == {"code", "message", "Code", "Message"}
        assert problem["code"] == problem["Code"] != ""
        assert problem["message"] == problem["Message"] != ""
