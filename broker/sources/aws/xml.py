"""Read AWS's XML without letting it use up memory: no document type, few elements, no depth."""

import re
from collections.abc import Mapping
from xml.parsers import expat

MAX_ELEMENTS, MAX_DEPTH = 20_000, 30
"""More than any answer has that we ask for."""

_LONG_TAG = re.compile(rb"<[^<>]{4096}")
"""With very many attributes, which are all in memory before the first is reported."""


class HostileXml(Exception):
    """The document has a document type, whose entities multiply, or is out of all proportion."""


def parse_xml(body: bytes) -> Mapping[str, str]:
    """Return the texts in *body* by ``parent/element``, the first of several; none without XML.

    Raises:
        HostileXml: It is no answer that a service of AWS gives.
    """
    texts: dict[str, str] = {}
    path, contents = [""], [""]
    left = MAX_ELEMENTS

    def start(name: str, _: object) -> None:
        nonlocal left
        left -= 1
        if left < 0 or len(path) > MAX_DEPTH:
            raise HostileXml
        path.append(name.rpartition(":")[2])
        contents.append("")

    def end(_: str) -> None:
        texts.setdefault("/".join(path[-2:]), contents.pop().strip())
        path.pop()

    def text(content: str) -> None:
        contents[-1] += content

    def refuse(*_: object) -> None:
        raise HostileXml

    if _LONG_TAG.search(body):
        raise HostileXml
    # The document's own declaration does not count: AWS answers in UTF-8.
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError):
        return {}
    return texts
