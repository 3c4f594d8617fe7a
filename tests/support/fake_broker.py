"""A control socket that answers what a test says, and our command as a process beside it."""

import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import broker

SOURCE = Path(broker.__file__).parent.parent
PATIENCE_S = 30

TOKEN = "a-container-token-of-32-bytes-or-more"
CREDENTIALS = {
    "AccessKeyId": "ASIAEXAMPLEKEY",
    "SecretAccessKey": "a secret 'quoted' \"key\" $HOME `id` \\",
    "Token": "a/session+token==",
    "Expiration": "2030-01-02T03:04:05Z",
    "AccountId": "123456789012",
    "RoleArn": "arn:aws:iam::123456789012:role/deploy",
}
CLIENT = {
    "container_token": TOKEN,
    "imds": ["http://127.0.0.1:8169"],
    "container": ["http://127.0.0.1:8170"],
    "imds_v1": False,
    "region": "eu-central-1",
    "roles": ["audit", "deploy"],
    "default_role": "deploy",
}
READY = {
    "ready": True,
    "leases": [{"name": "role/deploy", "state": "live", "expires_at": None, "renews_at": None}],
}
FORBIDDEN = {"code": "forbidden", "message": "uid 7 may not have that here"}

Answer = tuple[int, Any]


class FakeBroker:
    """A running broker, as far as our own commands can tell.

    ``answers`` is by path without query; a list of answers is worked off, its last one stays.
    ``asked`` holds every target that was asked for.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self.runtime_dir = runtime_dir
        self.socket = runtime_dir / "broker.sock"
        self.asked: list[str] = []
        self.answers: dict[str, Answer | list[Answer] | bytes] = {
            "/v1/credentials": (200, CREDENTIALS),
            "/v1/client": (200, CLIENT),
            "/v1/ready": (200, READY),
        }

    def endpoints(self, **other: Any) -> None:
        """Write ``endpoints.json``, as a broker does at start."""
        document = {
            "pid": 1,
            "version": "0.0",
            "control": str(self.socket),
            "imds": [],
            "container": [],
            "ops": [],
            "roles": ["deploy", "audit"],
            "default_role": "deploy",
        }
        (self.runtime_dir / "endpoints.json").write_text(json.dumps(document | other))

    def bytes_for(self, target: str) -> bytes:
        self.asked.append(target)
        answer = self.answers.get(target.partition("?")[0], (404, {"code": "not-found"}))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, bytes):
            return answer
        status, document = answer
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} Whatever\r\ncontent-length: {len(body)}\r\nX-Other: 1\r\n\r\n"
        return head.encode() + body


@contextmanager
def running(runtime_dir: Path) -> Iterator[FakeBroker]:
    """Serve a fake broker in *runtime_dir* for the block."""
    runtime_dir.mkdir(parents=True, exist_ok=True)
    fake = FakeBroker(runtime_dir)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            request = self.rfile.readline().decode()
            while self.rfile.readline() not in (b"\r\n", b""):
                pass
            if request:
                self.wfile.write(fake.bytes_for(request.split(" ")[1]))

    with socketserver.ThreadingUnixStreamServer(str(fake.socket), Handler) as server:
        fake.endpoints()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()


class Cli:
    """Our command as a process, in an environment that holds only what the test says."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TMPDIR": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "PYTHONPATH": str(SOURCE),
            "AWS_EC2_METADATA_DISABLED": "true",
            "NAMESPACE_BROKER_CONFIG": os.devnull,
        }

    @property
    def runtime_dir(self) -> Path:
        """Where the command looks for a broker."""
        return self.home / "namespace-broker"

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "broker", *arguments]

    def run(
        self, *arguments: str, environ: Mapping[str, str] | None = None, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environ | dict(environ or {}),
            timeout=PATIENCE_S,
            text=True,
            check=False,
            **({"capture_output": True} | more),
        )

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run the command beside the block; it and what it started end with the block."""
        with subprocess.Popen(
            self.command(*arguments),
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:

            def end() -> None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

            too_long = threading.Timer(PATIENCE_S, end)
            too_long.start()
            try:
                yield process
            finally:
                too_long.cancel()
                end()

    def error(self, *arguments: str, code: int, environ: Mapping[str, str] | None = None) -> str:
        """Return the one line on stderr of a command that must fail with that code."""
        done = self.run(*arguments, environ=environ)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
        assert done.stderr.startswith("namespace-broker: ")
        return done.stderr.removeprefix("namespace-broker: ").rstrip("\n")


def variables_in(
    shell: str, script: str, before: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment of a program that *shell* starts after it has evaluated *script*."""
    program = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    environ = {"PATH": os.environ["PATH"]} | dict(before or {})
    done = subprocess.run(
        [shell, "-c", f'eval "$1"\n{words(program)}', shell, script],
        env=environ,
        capture_output=True,
        check=True,
        timeout=PATIENCE_S,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def words(program: Sequence[str]) -> str:
    return " ".join("'" + word.replace("'", "'\\''") + "'" for word in program)
