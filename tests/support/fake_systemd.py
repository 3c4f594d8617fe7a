"""A stand-in for systemd that listens, starts the broker with its sockets, and reads its messages.

It keeps what the broker stores and hands that to the next one.
"""

import array
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from broker.sandbox import Sandbox
from tests.support.broker_process import LIMIT_S, BrokerProcess

PROJECT = Path(__file__).parents[2]

# Runs in the child: puts the descriptors where sd_listen_fds(3) has them, and says whose they are.
EXEC = """
import fcntl, os, sys
count = int(sys.argv[1])
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 500) for fd in sys.argv[2].split(",") if fd]
for index, fd in enumerate(high):
    os.dup2(fd, 3 + index, inheritable=True)
    os.close(fd)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[3], sys.argv[3:])
"""


class StandIn:
    """One service unit and its sockets. Not a process manager: a test starts and stops."""

    def __init__(self, sandbox: Sandbox, folder: Path, *, stack: ExitStack) -> None:
        self.folder = folder
        self.runtime_dir = folder / "run"
        self.said: list[str] = []
        """Every message, in order; variables of one message joined by newlines."""
        self.stored: list[tuple[str, int]] = []
        """What is in the descriptor store: names and descriptors."""
        self.sockets: list[tuple[str, socket.socket]] = []
        self._sandbox = sandbox
        self._hears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._hears.bind(str(self.folder / "notify"))
        self._hears.setblocking(False)
        stack.callback(self._close)
        self.token_file = folder / "token.json"
        sandbox.namespace.write_token_file(self.token_file)

    def listen(self, name: str, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
        """Listen for the surface *name*, on a free loopback port, or for control at a path."""
        if family == socket.AF_UNIX:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.bind(str(self.folder / "broker.sock"))
        else:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.bind(("127.0.0.1", 0))
        sock.listen(4096)
        self.sockets.append((name, sock))
        return sock

    def url(self, name: str) -> str:
        sock = next(sock for known, sock in self.sockets if known == name)
        host, port = sock.getsockname()
        return f"http://{host}:{port}"

    @contextmanager
    def service(
        self, *arguments: str, environ: Mapping[str, str] | None = None, role: str | None = None
    ) -> Iterator[BrokerProcess]:
        """Run the broker for the block, as the unit's main process."""
        handed = [(name, sock.fileno()) for name, sock in self.sockets] + self.stored
        descriptors = [descriptor for _, descriptor in handed]
        log = self.folder / f"log-{len(list(self.folder.glob('log-*')))}"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-S", "-c", EXEC, str(len(handed))),
                    ",".join(map(str, descriptors)),
                    *(sys.executable, "-m", "broker", "run"),
                    *("--role-arn", role or self._sandbox.role_arn, "--region", "eu-central-1"),
                    *("--runtime-dir", str(self.runtime_dir), "--log-format", "json"),
                    *("--state-dir", str(self.folder / "state")),
                    *arguments,
                ],
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self.folder),
                    "NSC_TOKEN_FILE": str(self.token_file),
                    "LISTEN_FDS": str(len(handed)),
                    "LISTEN_FDNAMES": ":".join(name for name, _ in handed),
                    "NOTIFY_SOCKET": str(self.folder / "notify"),
                    **self._sandbox.environment(),
                    **(environ or {}),
                },
                cwd=PROJECT,
                pass_fds=descriptors,
                stderr=out,
                stdout=out,
                stdin=subprocess.DEVNULL,
            )
        try:
            yield BrokerProcess(process, log=log, runtime_dir=self.runtime_dir)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            self.hear()

    def restarted(self, broker: BrokerProcess, number: signal.Signals = signal.SIGTERM) -> None:
        """End *broker* as systemd does before it starts the next."""
        broker.stop(number)
        self.hear()

    def wait_for(self, variable: str, *, times: int = 1) -> str:
        """Wait until that has been said so often, and return the message's text."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            self.hear()
            found = [text for text in self.said if variable in text.split("\n")]
            if len(found) >= times:
                return found[times - 1]
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"waited {LIMIT_S:g} s for {variable} in {self.said}"
            select.select([self._hears], [], [], left_s)

    def hear(self) -> None:
        """Take every message that is there, and do what it says."""
        while True:
            try:
                text, ancillary, _, _ = self._hears.recvmsg(65536, socket.CMSG_SPACE(64))
            except BlockingIOError:
                return
            received = array.array("i")
            for _, _, content in ancillary:
                received.frombytes(content)
            self._obey(text.decode(), list(received))

    @property
    def statuses(self) -> Sequence[str]:
        self.hear()
        lines = [line for text in self.said for line in text.split("\n")]
        return [line.removeprefix("STATUS=") for line in lines if line.startswith("STATUS=")]

    def _obey(self, text: str, received: list[int]) -> None:
        self.said.append(text)
        said = dict(line.split("=", 1) for line in text.split("\n"))
        if "FDSTOREREMOVE" in said:
            for each in [each for each in self.stored if each[0] == said["FDNAME"]]:
                self.stored.remove(each)
                os.close(each[1])
        elif "FDSTORE" in said:
            self.stored += [(said["FDNAME"], descriptor) for descriptor in received]
        else:
            assert not received

    def _close(self) -> None:
        self.hear()
        for _, sock in self.sockets:
            sock.close()
        for _, descriptor in self.stored:
            os.close(descriptor)
        self._hears.close()


@contextmanager
def stand_in(sandbox: Sandbox, folder: Path, *surfaces: str) -> Iterator[StandIn]:
    """Be systemd for the block, listening for those surfaces."""
    with ExitStack() as stack:
        systemd = StandIn(sandbox, folder, stack=stack)
        for name in surfaces:
            systemd.listen(name, socket.AF_UNIX if name == "control" else socket.AF_INET)
        yield systemd
