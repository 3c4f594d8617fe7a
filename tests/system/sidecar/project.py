"""deploy/compose.yaml as its owner has it: roles in broker.toml, a token, and an app.

The clouds are the sandbox's, in a container.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tests.support.broker_process import until
from tests.system.sidecar.certificates import write_certificates
from tests.system.sidecar.engine import APP_IMAGE, HERE, ROOT, Engine, environment_of

DEPLOY = ROOT / "deploy"
UID = 65532
NAME = "proof"
# The shortest that STS gives: SDKs ask for new ones all the time from the beginning.
SHORT = "\nduration_s = 900\n"


class Project:
    """What ``docker-compose up`` brings up."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self.folder = folder
        self.tokens = folder / "tokens"
        self._environ = {
            "NAMESPACE_TOKEN_DIR": str(self.tokens),
            "PROOF": str(folder),
            "HERE": str(HERE / "proof"),
        }

    def compose(self, *arguments: str) -> str:
        files = ("--file", str(DEPLOY / "compose.yaml"), "--file", str(HERE / "proof/compose.yaml"))
        asked = ("--project-name", NAME, *files, *arguments)
        return self.engine.compose(*asked, environ=self._environ)

    def up(self) -> None:
        self.compose("up", "--detach", "--no-build", "--pull", "never")

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service)

    def inspect(self, service: str) -> dict[str, Any]:
        return self.engine.inspect(self.container(service))

    def health(self, service: str) -> str:
        return str(self.inspect(service)["State"]["Health"]["Status"])

    def way_to_clouds(self) -> tuple[str, ...]:
        """Return what ``docker run`` is told for another broker that is to reach the clouds."""
        told = environment_of(self.inspect("broker"))
        names = ("NSC_IAM_ENDPOINT", "AWS_ENDPOINT_URL_STS", "AWS_CA_BUNDLE", "SSL_CERT_FILE")
        known = (f"--env={name}={told[name]}" for name in names)
        return (f"--volume={self.folder}/tls:/tls:ro", *known)

    def said_by_app(self) -> list[dict[str, Any]]:
        """Return the app's lines.

        Raises:
            AssertionError: It has ended.
        """
        log = self.engine.docker("logs", self.container("app"))
        assert self.inspect("app")["State"]["Running"], log.stderr
        return [json.loads(line) for line in log.stdout.splitlines()]

    def app_says_more(self, *, after: int, lines: int = 3) -> list[dict[str, Any]]:
        """Return what the app says after its first lines, once there is that much."""
        return until(
            lambda: said if len(said := self.said_by_app()[after:]) >= lines else None,
            what="more of the app",
        )


@contextmanager
def project_in(engine: Engine, folder: Path) -> Iterator[Project]:
    tls, tokens = folder / "tls", folder / "tokens"
    for each in (tls, tokens):
        each.mkdir()
        os.chown(each, UID, UID)
    tokens.chmod(0o700)
    write_certificates(tls, name="clouds", uid=UID)
    written = (DEPLOY / "broker.toml").read_text()
    (folder / "broker.toml").write_text(written.replace("\n[container]", f"{SHORT}\n[container]"))
    project = Project(engine, folder)
    try:
        yield project
    finally:
        project.compose("down", "--volumes", "--timeout", "5")


def app_once(engine: Engine, *options: str, networks: Sequence[str]) -> CompletedProcess[str]:
    """Let another app in those networks ask once, and return how it ended."""
    first, *others = networks
    app = engine.done("create", f"--network={first}", *options, APP_IMAGE, "once")
    for network in others:
        engine.done("network", "connect", network, app)
    ran = engine.docker("start", "--attach", app)
    engine.done("rm", app)
    return ran
