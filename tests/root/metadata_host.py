"""A host as its owner has it: the broker, run by root, on the plain metadata addresses."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from broker.sandbox import Sandbox
from tests.root.own_network import CONTAINER, IMDS
from tests.support.broker_process import BrokerProcess, broker_process
from tests.support.clients import Ran, program, run

ROLES = ("deploy", "audit", "backup")
BOTO3 = program("with_boto3")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetadataHost:
    sandbox: Sandbox
    broker: BrokerProcess
    home: Path

    def boto3_as(self, uid: int, **environ: str) -> Ran:
        """Let a user ask STS who it is, by boto3, with nothing configured but where STS is."""
        return run(*as_user(uid, *BOTO3), environ={**self.bare_environment(), **environ})

    def bare_environment(self) -> dict[str, str]:
        return {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.home),
            **self.sandbox.client_environment(),
        }

    def token(self, name: str | None = None) -> str:
        """Return the container token of that name, or the plain one."""
        runtime_dir = self.broker.runtime_dir
        return (runtime_dir / (f"tokens/{name}" if name else "container-token")).read_text()

    def refusals(self) -> dict[tuple[str, str], float]:
        """Return how many were refused, by surface and reason."""
        return {
            (labels["surface"], labels["reason"]): value
            for labels, value in self.counted("callers_refused_total")
        }

    def served(self) -> list[str]:
        """Return the surfaces that answered a request with 200, ops left out."""
        return [
            labels["surface"]
            for labels, _ in self.counted("requests_total")
            if labels["status"] == "200" and labels["surface"] != "ops"
        ]

    def counted(self, name: str) -> list[tuple[dict[str, str], float]]:
        _, text = ask(0, self.broker.endpoints["ops"][0] + "/metrics")
        counted = []
        for line in text.splitlines():
            if line.startswith(f"namespace_broker_{name}{{"):
                written, _, value = line.partition("{")[2].rpartition("} ")
                pairs = (pair.split("=", 1) for pair in written.split(","))
                counted.append(({key: json.loads(word) for key, word in pairs}, float(value)))
        return counted


@contextmanager
def metadata_host(
    sandbox: Sandbox,
    folder: Path,
    *,
    rules: str = "",
    imds: Sequence[str] = (f"{IMDS}:80",),
    container: Sequence[str] = (f"{CONTAINER}:80",),
    environ: Mapping[str, str] | None = None,
) -> Iterator[MetadataHost]:
    """Run the broker by those *rules* (as in the file) for the block; it has every lease."""
    folder.mkdir(exist_ok=True)
    home = folder / "home"
    home.mkdir()
    config = folder / "config.toml"
    config.write_text(
        "".join(f'[roles.{name}]\narn = "{arn_of(sandbox, name)}"\n' for name in ROLES)
        + f"[imds]\nlisten = {json.dumps(imds)}\n"
        + f"[container]\nlisten = {json.dumps(container)}\n"
        + '[ops]\nlisten = ["127.0.0.1:0"]\n'
        + rules
    )
    with broker_process(
        sandbox,
        folder,
        *("--config", str(config), "--region", "eu-central-1"),
        *("--runtime-dir", str(folder / "run"), "--log-format", "json"),
        environ=environ,
        defaults=False,
    ) as broker:
        broker.wait_for("daemon.ready")
        yield MetadataHost(sandbox=sandbox, broker=broker, home=home)


def arn_of(sandbox: Sandbox, name: str) -> str:
    """Return the ARN of a role that trusts the broker, made when there is none."""
    arn = sandbox.role_arn.rpartition("/")[0] + f"/{name}"
    if not sandbox.aws.has_role(arn):
        sandbox.aws.add_role(name, trust_policy=sandbox.guide_trust())
    return arn


def as_user(uid: int, *argv: str) -> tuple[str, ...]:
    """Return how root runs a program as another user, who can read this Python all the same."""
    return (
        *("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"),
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
        *argv,
    )


def ask(
    uid: int, url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Return status and body of what that user is answered, by curl."""
    flags: tuple[str, ...] = ("--silent", "--max-time", "10", "--noproxy", "*")
    flags += ("--request", method)
    for name, value in (headers or {}).items():
        flags += ("--header", f"{name}: {value}")
    asking = as_user(uid, "curl", *flags, "--write-out", "\n%{http_code}", url)
    ran = run(*asking, environ={"PATH": "/usr/bin:/bin"})
    body, _, status = ran.output.rpartition("\n")
    return int(status), body


def role_of(ran: Ran) -> str:
    """Return the role by which AWS knows a program, as the program says."""
    assert ran.code == 0, ran.errors
    return ran.output.split("/")[1]
