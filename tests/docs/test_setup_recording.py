"""The plan that the documentation shows is the one that is printed, to the letter."""

import re
from pathlib import Path

from broker.sandbox import sandbox_in_thread
from tests.support.guide_machine import Machine

PAGE = Path(__file__).parents[2] / "docs" / "setup.md"
COMMAND = ("setup", "to-aws", "--role-name", "deploy", "--dry-run")


def test_the_recorded_plan_is_what_an_empty_account_is_shown(tmp_path: Path) -> None:
    recorded = re.search(r"<!-- recording: .*? -->\n```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    options = {"empty": True, "workspace": "tenant_01hxyz", "region": "eu-central-1"}

    with sandbox_in_thread(**options) as sandbox:
        machine = Machine(
            sandbox=sandbox,
            home=tmp_path,
            environ={
                **sandbox.environment(),
                **sandbox.administrator_environment(),
                "NSC_TOKEN_SPEC": sandbox.namespace.token_spec(),
            },
        )
        shown = machine.does_here(*COMMAND)

    assert recorded is not None
    assert shown.code == 3
    assert recorded[1] == f"$ namespace-broker {' '.join(COMMAND)}\n{shown.output.rstrip()}\n"
