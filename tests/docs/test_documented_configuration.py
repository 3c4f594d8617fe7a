"""Every piece of configuration in the docs is one that the broker takes."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.config import Flags, load

ROOT = Path(__file__).parents[2]
# Example users and groups, by numbers that need not be on this host.
NUMBERED = {
    'user = "runner"': "uid = 2001",
    'user = "alice"': "uid = 2002",
    'user = "mallory"': "uid = 2003",
    'group = "developers"': 'group = "27"',
}
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for number, text in enumerate(
            re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.S | re.M)
        ):
            yield f"{page.name}-{number}", text


def completed(text: str) -> str:
    """Return *text* with the roles and the identity that it names and leaves to the reader."""
    for named, numbered in NUMBERED.items():
        text = text.replace(named, numbered)
    document = tomllib.loads(text)
    rules: list[dict[str, Any]] = document.get("rules", [])
    granted = {role for rule in rules for role in rule["roles"]} or {"deploy"}
    arns = (
        f'[roles.{role}]\narn = "arn:aws:iam::123456789012:role/{role}"\n'
        for role in sorted(granted - set(document.get("roles", {})))
    )
    return "\n".join([text, *arns])


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in blocks()])
def test_a_block_of_configuration_is_taken(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(completed(text))

    config = load(Flags(config=str(file)), {})

    assert config.roles
