"""A Docker engine in a network of its own, the image of our Dockerfile, and Compose v2."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker import __version__
from tests.support.broker_process import until

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

IMAGE = f"namespace-broker:{__version__}"
APP_IMAGE = "proof-app"
BASE = "debian:bookworm-slim"
"""What the Dockerfile starts from. Where no registry can be reached, the same packages are put
under that name."""

BUILD_LIMIT_S = 400.0
LIMIT_S = 120.0

# The test host's way to its package registries; the image has none of it.
WAYS_OUT = ("etc/pip.conf", "etc/ssl/certs/ca-certificates.crt")

NOTHING_OF_THE_HOSTS = (
    *("--bridge=none", "--iptables=false"),
    *("--ip-forward=false", "--ip-masq=false"),
)
IN_OWN_NETWORK = ("--net", "sh", "-euc", 'ip link set lo up; exec "$@"', "sh")


class Engine:
    """One ``dockerd``, asked by ``docker`` and ``docker-compose``."""

    def __init__(self, socket: Path, log: Path, *, compose: Path | None = None) -> None:
        self._environ = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(socket.parent),
            "DOCKER_HOST": f"unix://{socket}",
        }
        self._log = log
        self._compose = compose

    def docker(
        self, *arguments: str, limit_s: float = LIMIT_S, environ: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return self._run("docker", *arguments, limit_s=limit_s, environ=environ)

    def done(self, *arguments: str, limit_s: float = LIMIT_S) -> str:
        """Return what docker printed.

        Raises:
            AssertionError: It failed; with what it said.
        """
        return self._printed(self.docker(*arguments, limit_s=limit_s))

    def build(self, folder: Path, *, tag: str) -> None:
        """Build by the folder's Dockerfile."""
        environ = {"DOCKER_BUILDKIT": "1"}
        asked = ("build", "--network", "host", "--tag", tag, str(folder))
        self._printed(self.docker(*asked, limit_s=BUILD_LIMIT_S, environ=environ))

    def import_tree(self, tree: Path, *, tag: str) -> None:
        with subprocess.Popen(["tar", "-C", tree, "-c", "."], stdout=subprocess.PIPE) as packed:
            done = self._run("docker", "import", "-", tag, limit_s=LIMIT_S, stdin=packed.stdout)
        assert packed.returncode == 0
        self._printed(done)

    def inspect(self, thing: str) -> dict[str, Any]:
        (found,) = json.loads(self.done("inspect", thing))
        return dict(found)

    def files_of(self, image: str) -> dict[str, str]:
        """Return every file's name in an image, and its mode and owner."""
        container = self.done("create", image)
        with subprocess.Popen(
            ["docker", "export", container], env=self._environ, stdout=subprocess.PIPE
        ) as exported:
            listing = ("tar", "--list", "--verbose", "--numeric-owner", "--file=-")
            done = self._run(*listing, limit_s=LIMIT_S, stdin=exported.stdout)
        self.done("rm", container)
        lines = (line.split(maxsplit=5) for line in self._printed(done).splitlines())
        return {name: f"{mode} {owner}" for mode, owner, _, _, _, name in lines}

    def compose(self, *arguments: str, environ: Mapping[str, str]) -> str:
        """Return what Compose printed.

        Raises:
            AssertionError: It failed; with what it said.
        """
        return self._printed(
            self._run(str(self._compose), *arguments, limit_s=LIMIT_S, environ=environ)
        )

    def _run(
        self,
        *command: str,
        limit_s: float,
        environ: Mapping[str, str] | None = None,
        stdin: Any = subprocess.DEVNULL,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env={**self._environ, **(environ or {})},
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )

    def _printed(self, ran: subprocess.CompletedProcess[str]) -> str:
        said = f"{ran.stdout[-2000:]}\n{ran.stderr[-4000:]}\n{self._log.read_text()[-1000:]}"
        assert ran.returncode == 0, said
        return ran.stdout.strip()


@contextmanager
def engine_in(
    folder: Path,
    *,
    network: Sequence[str],
    options: Sequence[str] = (),
    compose: Path | None = None,
) -> Iterator[Engine]:
    """Run an engine for the block; its images stay in *folder*."""
    socket, log = folder / "docker.sock", folder / "dockerd.log"
    # Its mounts are its own, too, so that they end with it.
    command = ["unshare", "--mount", *network, "dockerd", "--host", f"unix://{socket}"]
    command += ["--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
    command += ["--pidfile", f"{folder}/pid", *options]
    with (
        log.open("ab") as out,
        subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL) as process,
    ):
        engine = Engine(socket, log, compose=compose)
        try:
            until(lambda: answers(engine, process), what=f"dockerd, see {log}")
            yield engine
            if left := engine.done("ps", "--all", "--quiet").split():
                engine.done("rm", "--force", "--volumes", *left)
        finally:
            process.terminate()
            try:
                process.wait(LIMIT_S)
            finally:
                process.kill()


def answers(engine: Engine, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "dockerd has ended"
    return engine.docker("version").returncode == 0


@contextmanager
def engine_with_images(folder: Path) -> Iterator[Engine]:
    """Run an engine that has the broker's image and the app's, in a network without a way out.

    Building wants the registries, so it is done before, in this host's network, by an engine that
    touches nothing in it.
    """
    compose = folder / "docker-compose"
    # Debian has only v1, which is another program.
    build_go_tool("compose_v2", "github.com/docker/compose/v2/cmd", compose)
    with engine_in(folder, network=(), options=NOTHING_OF_THE_HOSTS) as building:
        building.import_tree(base_tree(folder / "base"), tag=BASE)
        building.build(ROOT, tag=IMAGE)
        building.build(HERE / "app", tag=APP_IMAGE)
    with engine_in(folder, network=IN_OWN_NETWORK, compose=compose) as engine:
        yield engine


def build_go_tool(module: str, package: str, program: Path) -> None:
    """Build *package* as *program*, of the version in the module's go.mod."""
    go = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin")
    assert go, "go is needed here, and not installed"
    build = (go, "build", "-trimpath", "-ldflags=-s -w", "-o", str(program))
    subprocess.run(
        (*build, package),
        cwd=HERE / module,
        check=True,
        timeout=BUILD_LIMIT_S,
    )


def base_tree(tree: Path) -> Path:
    """Return a Debian with the packages that the Dockerfile names.

    It can reach the registries as this host does.
    """
    wanted = "--include=ca-certificates,iproute2,python3,python3-venv,tini"
    bootstrap = ("mmdebstrap", "--quiet", "--variant=minbase", wanted, "bookworm", str(tree))
    subprocess.run(bootstrap, check=True, timeout=BUILD_LIMIT_S)
    for way in WAYS_OUT:
        if Path("/", way).exists():
            shutil.copy2(Path("/", way), tree / way)
    return tree


def environment_of(container: Mapping[str, Any]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in container["Config"]["Env"])
