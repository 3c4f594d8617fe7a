"""Write the plan as a file, for people who let no tool touch IAM; no cloud is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broker.setup.render import as_json, aws_cli, cloudformation, terraform
from broker.setup.render.draft import Draft

__all__ = ["FORMS", "Draft", "rendered"]

FORMS: Mapping[str, Callable[[Draft], str]] = {
    "cloudformation": cloudformation.rendered,
    "terraform": terraform.rendered,
    "aws-cli": aws_cli.rendered,
    "json": as_json.rendered,
}
"""By the word of ``--render``."""


def rendered(draft: Draft, form: str) -> str:
    """Return the text of the file, which ends in a line break."""
    return FORMS[form](draft)
