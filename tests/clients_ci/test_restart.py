"""Clients whose keys end after the broker was killed and started again in its place.

Source: sdk-client-contract C-24, C-89; by A.9 a session token that is refused costs the CRT one
failed fetch, and others hours of them.
"""

import re
import urllib.request
from pathlib import Path

from broker.sandbox import Sandbox
from tests.clients_ci.lasting import lasting
from tests.clients_ci.shared_time import SharedTime
from tests.support.client_broker_process import BrokerProcess, broker_process
from tests.support.client_sandbox import REGION, World, namespace_identity
from tests.support.clients import AWSCRT, OBSTORE, Client
from tests.support.proof import Arrivals


def asked_of_imds(broker: BrokerProcess) -> set[tuple[str, str]]:
    """Return route and status of everything that *broker* answered on its IMDS surface."""
    with urllib.request.urlopen(f"http://{broker.address('ops')}/metrics", timeout=5) as answer:
        metrics = answer.read().decode()
    lines = re.findall(r"^namespace_broker_requests_total{(.*)} ", metrics, re.MULTILINE)
    labels = [dict(re.findall(r'(\w+)="([^"]*)"', line)) for line in lines]
    return {(each["route"], each["status"]) for each in labels if each["surface"] == "imds"}


def asked_after_a_restart(
    client: Client, *, sandbox: Sandbox, time: SharedTime, folder: Path
) -> set[tuple[str, str]]:
    """Let *client* call, restart the broker, expire the client's keys, and let it call again.

    Return what the second broker was asked.

    Raises:
        AssertionError: The second call was not signed with keys of the second broker.
    """
    environ = namespace_identity(sandbox) | time.as_suspended()
    place = folder / "broker"
    always: tuple[str, ...] = ("--role-arn", sandbox.role_arn, "--region", REGION)
    always += ("--container", "off", "--ops", "127.0.0.1:0", "--state-dir", str(folder / "state"))
    with broker_process(*always, "--imds", "127.0.0.1:0", folder=place, environ=environ) as first:
        address = first.address("imds")
        # Its monotonic clock moves on too: that is the one by which these two age their keys.
        world = World(sandbox=sandbox, broker=first, home=folder, environ=time.as_running())
        told = world.client_environment("imds")
        with lasting(*client.argv, environ=told, folder=folder) as program:
            program.call()
            first.kill()
            arrivals = Arrivals(sandbox)
            with broker_process(*always, "--imds", address, folder=place, environ=environ) as again:
                time.move(hours=1, minutes=30)
                again.wait_until_ready(limit_s=10)
                program.call()

                assert arrivals.served_anew(client.operation)
                return asked_of_imds(again)


def test_the_crt_fetches_new_keys_with_the_session_token_that_it_had(
    moving_sandbox: Sandbox, time: SharedTime, tmp_path: Path
) -> None:
    asked = asked_after_a_restart(AWSCRT, sandbox=moving_sandbox, time=time, folder=tmp_path)

    assert asked == {("role-list", "200"), ("credentials", "200")}


def test_object_store_fetches_new_keys_with_a_session_token_of_its_own(
    moving_sandbox: Sandbox, time: SharedTime, tmp_path: Path
) -> None:
    asked = asked_after_a_restart(OBSTORE, sandbox=moving_sandbox, time=time, folder=tmp_path)

    assert asked == {("token", "200"), ("role-list", "200"), ("credentials", "200")}
