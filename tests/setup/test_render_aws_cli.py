"""`--render aws-cli`: a script without warnings, in which no text becomes code."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.setup.render import Draft, rendered
from broker.setup.render.draft import shell_word
from broker.setup.resource import Placeholder
from broker.setup.to_namespace import CognitoRequest, StsRequest
from tests.support.clients import SCRIPTS
from tests.support.setup import FOREIGN
from tests.support.setup_drafts import DRAFTS, POOL_ID, cognito_draft, sts_draft, to_aws_draft

TEXTS = st.text(
    st.characters(min_codepoint=1, exclude_categories=["Cs"]) | st.sampled_from("'\"`$\\\n!{}*")
)
GRANT = {"resource_type": "instance", "resource_id": "it's $(reboot) `x`", "actions": ["create"]}
POLICY = {"Statement": [{**FOREIGN, "Sid": "it's", "Resource": "${aws:username}`x`$(reboot)"}]}
ODD: Mapping[str, Draft] = {
    "policies": to_aws_draft(subject="ws_1/it's`x`$(reboot)", policies={"-x": POLICY}),
    "grants": sts_draft(StsRequest(role_name="-builder", grants=(GRANT,), token_duration_s=1800)),
    "pool": cognito_draft(CognitoRequest(role_name="builder", pool_name="two words\nand more")),
}


@pytest.mark.parametrize("name", [*DRAFTS, *ODD])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_shellcheck_finds_nothing(tmp_path: Path, name: str, shell: str) -> None:
    script = tmp_path / "script"
    script.write_text(rendered({**DRAFTS, **ODD}[name], "aws-cli"))

    checked = subprocess.run(
        [f"{SCRIPTS}/shellcheck", "--shell", shell, script],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr


@given(st.lists(TEXTS, min_size=20, max_size=40))
def test_any_text_is_one_word_of_a_shell(texts: list[str]) -> None:
    words = " ".join(shell_word(text, {}) for text in texts)

    said = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\0' {words}"], capture_output=True, check=True
    )

    assert said.stdout.decode().split("\0")[:-1] == texts


@given(TEXTS, TEXTS)
def test_what_is_filled_in_is_in_its_place_and_is_no_code(before: str, after: str) -> None:
    word = shell_word(
        f"{before}{Placeholder.POOL_GUID.value}{after}", {Placeholder.POOL_GUID: '"$guid"'}
    )

    said = subprocess.run(
        ["/bin/sh", "-c", f"guid='$(reboot) *'; printf '%s' {word}"],
        capture_output=True,
        check=True,
    )

    assert said.stdout.decode() == f"{before}$(reboot) *{after}"


def test_a_policy_is_in_it_word_for_word() -> None:
    text = rendered(ODD["policies"], "aws-cli")

    quoted = json.dumps(POLICY, indent=2).replace("'", "'\"'\"'")
    assert f"--policy-name=-x \\\n        --policy-document='{quoted}'" in text


def test_a_pool_that_was_named_by_its_id_is_looked_at_and_not_made() -> None:
    text = rendered(DRAFTS["cognito-by-id"], "aws-cli")

    assert f"one={POOL_ID}" in text
    assert "create-identity-pool" not in text
