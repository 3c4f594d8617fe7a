"""The Debian package's version, copyright and changelog."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.message import Message
from email.utils import format_datetime

NAME = "namespace-broker"

COPYRIGHT = """\
namespace-broker: the authors of namespace-broker, under the Apache License 2.0.
On Debian systems its text is in /usr/share/common-licenses/Apache-2.0.

It brings along what follows, each with its licence's text in its .dist-info folder below
{library}:

"""


def debian_version(version: str) -> str:
    """Return a Python version as Debian orders it: 1.0rc1, which comes before 1.0, as 1.0~rc1."""
    return re.sub(r"\.?(a|b|rc|dev)(\d)", r"~\1\2", version)


def filled(template: str, facts: Mapping[str, str]) -> str:
    """Return *template* with each ``@FACT@`` said.

    Raises:
        KeyError: A fact is not known.
    """
    return re.sub(r"@([A-Z_]+)@", lambda match: facts[match[1]], template)


def copyright_of(bundled: Iterable[Message], *, library: str) -> str:
    """Return the licences of *bundled*, the METADATA of each distribution."""
    lines = [f"{one['Name']} {one['Version']}: {licence(one)}\n" for one in bundled]
    return COPYRIGHT.format(library=library) + "".join(sorted(lines, key=str.lower))


def licence(metadata: Message) -> str:
    """Return it in a few words, from whichever of three fields has it."""
    classifiers = (
        name.removeprefix("License :: OSI Approved :: ")
        for name in metadata.get_all("Classifier", [])
        if name.startswith("License :: OSI Approved :: ")
    )
    said = metadata["License-Expression"] or ", ".join(classifiers) or metadata["License"]
    return said if said and "\n" not in said else "as its text says"


def changelog(version: str, *, maintainer: str, epoch_s: int) -> str:
    """Return Debian's changelog, which leaves it to CHANGELOG.md to say what changed."""
    at = format_datetime(datetime.fromtimestamp(epoch_s, UTC))
    return (
        f"{NAME} ({version}) stable; urgency=medium\n\n"
        f"  * See /usr/share/doc/{NAME}/CHANGELOG.md.\n\n"
        f" -- {maintainer}  {at}\n"
    )
