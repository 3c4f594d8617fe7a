"""What is written for a shell, GitHub or Docker is read back unchanged, whatever is in it."""

import json
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.cli.environment import Variables, container_variables
from broker.cli.errors import Failure
from broker.cli.output import rendered, shell_quoted

ANY_VALUE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
TRICKY = [
    "'",
    "''",
    "\\",
    "a'b\"c",
    "$(id)",
    "`id`",
    "$HOME",
    "a b",
    "\n",
    "!x",
    "#",
    "~",
    "-n",
    "*",
    "",
]


@pytest.mark.parametrize("shell", ["sh", "bash"])
@settings(max_examples=25, deadline=None)
@given(values=st.lists(ANY_VALUE | st.sampled_from(TRICKY), min_size=1, max_size=30))
def test_a_shell_reads_every_value_as_it_was(shell: str, values: list[str]) -> None:
    script = "printf '%s\\0' " + " ".join(map(shell_quoted, values))

    done = subprocess.run([shell, "-c", script], capture_output=True, check=True, timeout=30)

    assert done.stdout.decode().split("\0")[:-1] == values


def github_env(text: str) -> dict[str, str]:
    """Read what was appended to ``$GITHUB_ENV``, by the rules that GitHub documents."""
    found = {}
    lines = iter(text.split("\n")[:-1])
    for line in lines:
        name, mark, rest = line.partition("<<")
        if mark and "=" not in name:
            inside = []
            while (inner := next(lines)) != rest:
                inside.append(inner)
            found[name] = "\n".join(inside)
        else:
            name, _, found_value = line.partition("=")
            found[name] = found_value
    return found


@given(values=st.lists(ANY_VALUE, min_size=1, max_size=5))
def test_github_reads_every_value_as_it_was(values: list[str]) -> None:
    assigned = {f"NAME_{number}": value for number, value in enumerate(values)}

    assert github_env(rendered(Variables(assigned), "github", {})) == assigned


@given(values=st.lists(ANY_VALUE, min_size=1, max_size=5))
def test_docker_reads_every_value_as_it_was_or_it_is_refused(values: list[str]) -> None:
    assigned = {f"NAME_{number}": value for number, value in enumerate(values)}

    try:
        text = rendered(Variables(assigned, docker_note="for you"), "docker", {})
    except Failure:
        assert any("\n" in value or "\r" in value for value in values)
        return

    lines = [line for line in text.split("\n")[:-1] if not line.startswith("#")]
    assert dict(line.split("=", 1) for line in lines) == assigned


@given(values=st.lists(ANY_VALUE, min_size=1, max_size=5))
def test_a_program_reads_one_object(values: list[str]) -> None:
    assigned = {f"NAME_{number}": value for number, value in enumerate(values)}

    assert json.loads(rendered(Variables(assigned), "json", {})) == assigned


def test_without_a_token_file_of_ours_that_of_another_broker_does_not_stay() -> None:
    client = {"container": ["http://127.0.0.1:8170"], "container_token": "ours"}
    environ = {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/run/another/container.token"}

    variables = container_variables(client, role=None, token_file=None, environ=environ)

    assert "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE" not in variables.over(environ)
