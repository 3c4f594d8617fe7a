"""What a request costs while its head is still arriving."""

import tracemalloc

import pytest

from broker.http.codec import MOST_HEADERS, RequestParser
from broker.http.connection import PIECE_BYTES
from broker.http.limits import DEFAULT_LIMITS

PARSERS = 64
MOST_EACH_BYTES = 24 * 1024
"""A thousand of them stay below 32 MiB."""


def endless_head(headers: int) -> bytes:
    """Return a head of so many headers that is as long as may be, without its end."""
    start = b"GET / HTTP/1.1\r\n"
    line = b"x-%03d: %b\r\n"
    value = b"v" * ((DEFAULT_LIMITS.header_bytes - len(start)) // headers - len(line % (0, b"")))
    return start + b"".join(line % (number, value) for number in range(headers))


@pytest.mark.parametrize("headers", [1, 20, MOST_HEADERS])
def test_a_half_sent_head_takes_about_as_much_memory_as_it_has_bytes(headers: int) -> None:
    head = endless_head(headers)
    pieces = [head[at : at + PIECE_BYTES] for at in range(0, len(head), PIECE_BYTES)]
    parsers = []

    tracemalloc.start()
    for _ in range(PARSERS):
        parsers.append(RequestParser())
        for piece in pieces:
            parsers[-1].feed(piece, header_bytes=DEFAULT_LIMITS.header_bytes)
    taken_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert taken_bytes / PARSERS < MOST_EACH_BYTES
