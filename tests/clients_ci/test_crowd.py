"""Hundreds of clients of one user that ask at once, by SDKs with their defaults.

It is another user than the broker's and root, whose connections are not limited.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from broker.sandbox import sandbox_in_thread
from tests.support.client_sandbox import EVERYWHERE, World, world_of
from tests.support.clients import LIMIT_S, Client, program

pytestmark = pytest.mark.as_root

EACH = 80
USER = 4242
READS_ALL = "+dac_override,+dac_read_search"
AS_USER = (
    *("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"),
    # The SDKs are where only root may read.
    *(f"--inh-caps={READS_ALL}", f"--ambient-caps={READS_ALL}"),
)
RULES = f"""
[[rules]]
who = {{ uid = {USER} }}
roles = ["deploy"]

[[rules]]
who = {{ uid = 0 }}
roles = ["deploy"]
"""


@pytest.fixture(scope="module")
def shared_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A host on which root runs the broker, and another user is granted its role."""
    folder = tmp_path_factory.mktemp("shared-host")
    config = folder / "config.toml"
    config.write_text(RULES)
    with (
        sandbox_in_thread() as sandbox,
        world_of(sandbox, *EVERYWHERE, "--config", str(config), folder=folder) as world,
    ):
        yield world


@pytest.fixture
def js_crowd(js_sdk: Client) -> tuple[str, ...]:
    node, script = js_sdk.argv
    return (node, str(Path(script).with_name("crowd.js")), str(EACH))


@pytest.fixture
def botocore_crowd() -> tuple[str, ...]:
    return program("crowd_with_botocore", str(EACH))


@pytest.fixture(params=["js_crowd", "botocore_crowd"])
def crowd(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """A program of eighty clients that prints how many of them found credentials."""
    argv: tuple[str, ...] = request.getfixturevalue(request.param)
    return argv


def served_in_each(argv: tuple[str, ...], environ: Mapping[str, str], processes: int) -> list[int]:
    """Run the program so many times at once; return how many clients were served in each.

    Raises:
        AssertionError: One failed.
    """
    running = [
        subprocess.Popen(
            [*AS_USER, *argv],
            env=environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(processes)
    ]
    try:
        ended = [(each.communicate(timeout=LIMIT_S), each.returncode) for each in running]
    finally:
        for each in running:
            each.kill()
            with each:  # closes its pipes, and waits
                pass
    assert [code for _, code in ended] == [0] * processes, ended
    sys.stderr.writelines(errors for (_, errors), _ in ended)
    return [int(output) for (output, _), _ in ended]


@pytest.mark.parametrize(
    ("surface", "processes"),
    [
        ("container", 7),
        # Three requests each, and a second for each of them: as many as a busy machine manages.
        ("imds", 1),
    ],
)
def test_more_clients_of_one_user_than_it_may_have_connections_are_all_served(
    shared_host: World, crowd: tuple[str, ...], surface: str, processes: int
) -> None:
    served = served_in_each(crowd, shared_host.client_environment(surface), processes)

    assert served == [EACH] * processes
