"""Clients that outlive their keys: hour-long leases, and a clock that the test moves for everybody.

Source: sdk-client-contract C-50 to C-53.
"""

import itertools
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.sandbox import Sandbox
from tests.clients_ci.lasting import Lasting, lasting
from tests.clients_ci.shared_time import SharedTime
from tests.support.client_broker_process import wait_for
from tests.support.client_sandbox import SURFACES, World
from tests.support.clients import AIOBOTOCORE, AWSCRT, BOTO3, OBSTORE, Client
from tests.support.proof import Arrivals

RENEWED_WITHIN_S = 10.0
"""Of real time, after a jump of the clock; the broker looks at its clock every five seconds."""

AWS_CLI = Client(
    name="aws-cli",
    argv=(
        "sh",
        "-c",
        "while read -r _; do aws sts get-caller-identity --output text </dev/null || exit; done",
    ),
    operation="GetCallerIdentity",
    complaint="credentials",
)
CLIENTS = (BOTO3, AIOBOTOCORE, AWS_CLI, AWSCRT, OBSTORE)


def environment_of(client: Client, world: World, surface: str) -> dict[str, str]:
    """Return the environment of *client* here.

    The CRT and Rust count the age of keys by the monotonic clock, so for them that one moves too.
    """
    counts_monotonic = client in (AWSCRT, OBSTORE)
    environ = world.client_environment(surface)
    if counts_monotonic:
        del environ["FAKETIME_DONT_FAKE_MONOTONIC"]
    return environ


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_two_hours_later_a_client_that_lives_on_signs_with_new_keys(
    moving_world: World, time: SharedTime, tmp_path: Path, client: Client, surface: str
) -> None:
    environ = environment_of(client, moving_world, surface)
    with lasting(*client.argv, environ=environ, folder=tmp_path) as program:
        before = Arrivals(moving_world.sandbox)
        program.call()
        assert before.served(client.operation)

        after = Arrivals(moving_world.sandbox)
        time.move(hours=2)
        moving_world.broker.wait_until_ready(limit_s=RENEWED_WITHIN_S)
        program.call()

        assert after.served_anew(client.operation)


def call_each(programs: Iterable[tuple[Client, Lasting]], sandbox: Sandbox) -> None:
    """Let each program call once more.

    Raises:
        AssertionError: One was not served.
    """
    for client, program in programs:
        arrivals = Arrivals(sandbox)
        program.call()
        assert arrivals.served(client.operation)


def wait_for_another_lease(sandbox: Sandbox, *, beside: int) -> None:
    wait_for(lambda: len(sandbox.aws.issued) > beside, "another lease", limit_s=RENEWED_WITHIN_S)


def test_over_four_hours_every_call_of_every_client_is_signed_with_keys_that_live(
    moving_world: World, time: SharedTime, tmp_path: Path
) -> None:
    """Step by 35 minutes, so that each step finds the lease past half its life.

    Clients then hold keys of every age. They call before the broker has renewed, and after it.
    """
    sandbox = moving_world.sandbox
    with ExitStack() as stack:
        programs = []
        for client, surface in itertools.product(CLIENTS, SURFACES):
            folder = tmp_path / f"{client.name}-{surface}"
            folder.mkdir()
            environ = environment_of(client, moving_world, surface)
            program = lasting(*client.argv, environ=environ, folder=folder)
            programs.append((client, stack.enter_context(program)))
        call_each(programs, sandbox)

        for _ in range(7):
            issued = len(sandbox.aws.issued)
            time.move(minutes=35)
            call_each(programs, sandbox)
            wait_for_another_lease(sandbox, beside=issued)
            call_each(programs, sandbox)
