"""A machine with both clouds, on which the broker is installed as its users do."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.system.machine import Done, Machine, booted, layered
from tests.system.program import COMMAND, PROGRAMS, PYTHON, machine_trees

ROLE_ARN = "arn:aws:iam::123456789012:role/deploy"
TOKEN_FILE = "/run/nsc/token.json"
NAMESPACE, AWS = "http://127.0.0.1:7001", "http://127.0.0.1:7002"
CLIENT_ENVIRONMENT = {
    "AWS_ENDPOINT_URL": AWS,
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
}
"""Where AWS is; nothing of credentials."""

SANDBOX = f"""\
[Unit]
Before=namespace-broker.service namespace-broker-token.service

[Service]
Type=notify
NotifyAccess=all
Environment=STS_DELAY_S=0
ExecStartPre=mkdir -p /run/nsc
ExecStart=sh -c '{PYTHON} -m broker.sandbox --namespace-port 7001 --aws-port 7002 --token-file \
{TOKEN_FILE} --sts-delay-s $$STS_DELAY_S | while read line; do echo "$$line"; systemd-notify \
--ready; done'

[Install]
WantedBy=multi-user.target
"""
UPSTREAM = f"""\
[Service]
Environment=NSC_IAM_ENDPOINT={NAMESPACE} AWS_ENDPOINT_URL_STS={AWS}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What came of asking all the time: how often, when it failed, the longest wait."""

    asked: int
    failed_at: tuple[float, ...]
    longest_s: float


@contextmanager
def machine_with_clouds() -> Iterator[Machine]:
    """Boot a machine for the block in which the sandbox plays Namespace and AWS."""
    with layered(*machine_trees()) as root, booted(root) as machine:
        add_clouds(machine)
        yield machine


def add_clouds(machine: Machine, *, sts_delay_s: float = 0) -> None:
    """Start the sandbox on a machine, whose STS takes *sts_delay_s* to give credentials."""
    sandbox = SANDBOX.replace("STS_DELAY_S=0", f"STS_DELAY_S={sts_delay_s}")
    machine.write("/etc/systemd/system/sandbox.service", sandbox)
    machine.write("/etc/systemd/system/namespace-broker.service.d/upstream.conf", UPSTREAM)
    machine.systemctl("daemon-reload")
    machine.systemctl("enable", "--quiet", "sandbox")
    machine.systemctl("start", "sandbox")


def install(machine: Machine, *flags: str, check: bool = True) -> Done:
    """Install the broker for alice, as its administrator does."""
    usual = ("--role-arn", ROLE_ARN, "--allow", "user:alice", "--region", "us-east-1")
    return machine.run(COMMAND, "install", *(flags or usual), check=check)


def asked_by(machine: Machine, user: str) -> Done:
    """Return how a user's program fared that asks AWS who it is."""
    return machine.run_as(
        user, PYTHON, f"{PROGRAMS}/with_boto3.py", environ=CLIENT_ENVIRONMENT, check=False
    )


@contextmanager
def load(machine: Machine, *, clients: int = 2) -> Iterator[list[Load]]:
    """Let clients of alice's ask all the time for the block; the list has the results after it."""
    told: list[Load] = []
    asking = [
        machine.start_as("alice", PYTHON, f"{PROGRAMS}/keep_asking.py") for _ in range(clients)
    ]
    try:
        for client in asking:
            assert client.stdout is not None
            assert client.stdout.readline() == "asking\n"
        yield told
        told.extend(load_of(client.communicate("\n", timeout=30)[0]) for client in asking)
    finally:
        for client in asking:
            client.kill()
            with suppress(BrokenPipeError), client:
                pass


def load_of(line: str) -> Load:
    said = json.loads(line)
    return Load(
        asked=said["asked"], failed_at=tuple(said["failed_at"]), longest_s=said["longest_s"]
    )


def fresh_token(machine: Machine) -> str:
    """Return a new token file's text, of the sandbox's Namespace."""
    token = machine.run("curl", "-sS", f"{NAMESPACE}/metadata/v1/workload_token").stdout
    return json.dumps({"bearer_token": token})


def copy_in_service(machine: Machine) -> Path:
    """Return where the service sees the token file, as it is for us."""
    pid = machine.shows("namespace-broker.service", "MainPID")
    host_pid = pid_outside(machine, int(pid))
    return Path(f"/proc/{host_pid}/root/var/lib/namespace-broker/identity/token.json")


def pid_outside(machine: Machine, pid: int) -> int:
    """Return the number that a process of the machine has for us."""
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = status.read_text().splitlines()
            namespace = (status.parent / "ns/pid").readlink()
        except OSError:
            continue
        inside = next(line for line in lines if line.startswith("NSpid:")).split()[-1]
        if int(inside) == pid and namespace == Path(f"/proc/{machine.leader}/ns/pid").readlink():
            return int(status.parent.name)
    raise AssertionError(f"the machine has no process {pid}")


def status(machine: Machine) -> Mapping[str, Any]:
    """Return what root is told of the running broker."""
    document: Mapping[str, Any] = json.loads(machine.run(COMMAND, "status", "--json").stdout)
    return document
