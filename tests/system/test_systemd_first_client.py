"""The first client after a start, after a stop and at a boot finds credentials.

Machines boot for each job, so the first client is the usual one. boto3 and the AWS CLI ask with
their defaults: one attempt of one second for each request. Who waits for readiness finds
credentials however slow STS is; who comes while the service starts waits for a moment only.
"""

import time
from collections.abc import Iterator

import pytest

from tests.system.machine import Done, Machine, booted, layered
from tests.system.program import AWS, PROGRAMS, PYTHON, machine_trees
from tests.system.stage import CLIENT_ENVIRONMENT, add_clouds, install

SERVICE = "namespace-broker.service"
STS_DELAY_S = 0.5
WITH_BOTO3 = (PYTHON, f"{PROGRAMS}/with_boto3.py")
WITH_CLI = (AWS, "sts", "get-caller-identity")
CLIENTS = pytest.mark.parametrize("client", [WITH_BOTO3, WITH_CLI], ids=["boto3", "cli"])

VARIABLES = " ".join(f"{name}={value}" for name, value in CLIENT_ENVIRONMENT.items())
JOB = f"""\
[Unit]
Requires=namespace-broker-ready.service
After=namespace-broker-ready.service

[Service]
Type=oneshot
RemainAfterExit=yes
User=alice
Environment={VARIABLES}
ExecStart={" ".join(WITH_BOTO3)}
ExecStart={" ".join(WITH_CLI)}

[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module")
def slow() -> Iterator[Machine]:
    """A machine on which the broker is installed for alice, and STS takes half a second."""
    with layered(*machine_trees()) as root, booted(root) as machine:
        add_clouds(machine, sts_delay_s=STS_DELAY_S)
        install(machine)
        yield machine


def who(machine: Machine, client: tuple[str, ...]) -> Done:
    return machine.run_as("alice", *client, environ=CLIENT_ENVIRONMENT, check=False)


@CLIENTS
def test_the_first_client_after_a_start_finds_credentials(
    slow: Machine, client: tuple[str, ...]
) -> None:
    slow.systemctl("stop", SERVICE)
    began_at_s = time.monotonic()
    slow.systemctl("start", SERVICE)
    took_s = time.monotonic() - began_at_s

    done = who(slow, client)

    assert took_s > STS_DELAY_S  # to systemd it is ready when the leases are there
    assert "assumed-role/deploy" in done.stdout, done.stderr


@CLIENTS
def test_a_client_that_comes_while_it_starts_finds_credentials(
    service: Machine, client: tuple[str, ...]
) -> None:
    service.systemctl("stop", SERVICE)
    service.systemctl("start", "--no-block", SERVICE)

    done = who(service, client)

    assert "assumed-role/deploy" in done.stdout, done.stderr


@CLIENTS
def test_the_first_client_after_a_stop_starts_it_and_finds_credentials(
    service: Machine, client: tuple[str, ...]
) -> None:
    service.systemctl("stop", SERVICE)
    assert service.systemctl("is-active", SERVICE, check=False) == "inactive"

    done = who(service, client)

    assert "assumed-role/deploy" in done.stdout, done.stderr
    assert service.systemctl("is-active", SERVICE) == "active"


def test_at_a_boot_a_job_ordered_after_the_readiness_finds_credentials() -> None:
    with layered(*machine_trees()) as root:
        with booted(root) as machine:
            add_clouds(machine, sts_delay_s=STS_DELAY_S)
            install(machine)
            machine.write("/etc/systemd/system/job.service", JOB)
            machine.systemctl("daemon-reload")
            machine.systemctl("enable", "--quiet", "job")
            machine.run("sync")

        with booted(root) as machine:
            machine.until(
                lambda: machine.systemctl("is-active", "job", check=False) != "activating",
                what="the job",
            )

            said = machine.journal("job", SERVICE, "namespace-broker-ready.service")
            assert machine.shows("job", "Result") == "success", said
            assert machine.systemctl("is-active", "job") == "active", said
            assert said.count("assumed-role/deploy") == len((WITH_BOTO3, WITH_CLI)), said
