"""Run a Docker engine of the test's own, in the test's network.

Programs in its containers see this host's files.
"""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.broker_process import until
from tests.support.clients import Ran, run

BUSYBOX = Path("/bin/busybox")
IMAGE = "bare"
HOST_FILES = ("--volume", "/:/host:ro", IMAGE, "/bin/busybox", "chroot", "/host")
LIMIT_S = 20.0


class DockerEngine:
    """One ``dockerd``, asked by ``docker``."""

    def __init__(self, socket: Path, log: Path) -> None:
        self._environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DOCKER_HOST": f"unix://{socket}"}
        self._log = log

    def docker(self, *arguments: str) -> Ran:
        return run("docker", *arguments, environ=self._environ)

    def done(self, *arguments: str) -> str:
        """Return what docker printed.

        Raises:
            AssertionError: It failed; with what it said.
        """
        ran = self.docker(*arguments)
        assert ran.code == 0, f"{ran.errors}\n{self._log.read_text()[-2000:]}"
        return ran.output.strip()

    def create(
        self,
        *program: str,
        network: str,
        environ: Mapping[str, str],
        options: Sequence[str] = (),
    ) -> str:
        """Return the id of a new container that is to run *program*, by this host's files."""
        told = (f"--env={name}={value}" for name, value in environ.items())
        asked = ("create", "--interactive", f"--network={network}", *told, *options)
        return self.done(*asked, *HOST_FILES, *program)

    def start(self, container: str) -> Ran:
        """Let it run to its end."""
        return self.docker("start", "--attach", "--interactive", container)

    def run(self, *program: str, network: str, environ: Mapping[str, str]) -> Ran:
        return self.start(self.create(*program, network=network, environ=environ))


@contextmanager
def docker_engine(folder: Path) -> Iterator[DockerEngine]:
    """Run an engine for the block, with one image: busybox, from Debian."""
    socket, log = folder / "docker.sock", folder / "dockerd.log"
    # Its mounts are its own, too, so that they end with it.
    command = ("unshare", "--mount", "dockerd", "--host", f"unix://{socket}")
    places = ("--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec")
    kept_small = ("--pidfile", f"{folder}/pid", "--storage-driver", "vfs")
    with (
        log.open("wb") as out,
        subprocess.Popen([*command, *places, *kept_small], stdout=out, stderr=out) as process,
    ):
        engine = DockerEngine(socket, log)
        try:
            until(lambda: answers(engine, process), what=f"dockerd, see {log}")
            import_busybox(engine, folder)
            yield engine
        finally:
            process.terminate()
            try:
                process.wait(LIMIT_S)
            finally:
                process.kill()


def answers(engine: DockerEngine, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "dockerd has ended"
    return engine.docker("version").code == 0


def import_busybox(engine: DockerEngine, folder: Path) -> None:
    tree = folder / "image"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/busybox").write_bytes(BUSYBOX.read_bytes())
    (tree / "bin/busybox").chmod(0o755)
    archive = folder / "image.tar"
    subprocess.run(["tar", "-C", tree, "-cf", archive, "."], check=True)
    engine.done("import", str(archive), IMAGE)
