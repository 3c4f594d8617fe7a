"""The broker as its users run it: `python -m broker run`, a process with a log and signals."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, TypeVar

from broker.sandbox import Sandbox

T = TypeVar("T")

LIMIT_S = 30.0
ANYWHERE = "127.0.0.1:0"


def until(look: Callable[[], T | None], *, what: str) -> T:
    """Look again and again until there is something; fail, naming *what*, after a while."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"waited {LIMIT_S:g} s for {what}")


class BrokerProcess:
    """One `run`, its log lines and its endpoints."""

    def __init__(self, process: subprocess.Popen[bytes], *, log: Path, runtime_dir: Path) -> None:
        self.process = process
        self.runtime_dir = runtime_dir
        self._log = log

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        lines = self._log.read_text().splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in told if name is None or line["event"] == name]

    def wait_for(self, event: str, *, times: int = 1) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            if self.process.poll() is not None:
                raise AssertionError(f"the broker ended: {self._log.read_text()}")
            seen = self.events(event)
            return seen[times - 1] if len(seen) >= times else None

        return until(look, what=f"{event} in {self._log.read_text()!r}")

    @property
    def endpoints(self) -> Mapping[str, Any]:
        path = self.runtime_dir / "endpoints.json"
        document: Mapping[str, Any] = until(
            lambda: json.loads(path.read_text()) if path.exists() else None, what=str(path)
        )
        return document

    @property
    def container_token(self) -> str:
        return (self.runtime_dir / "container-token").read_text()

    def ready(self) -> dict[str, Any]:
        """Return what /readyz says, whatever its status."""
        try:
            with urllib.request.urlopen(self.endpoints["ops"][0] + "/readyz") as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as answer:
            with answer:
                return dict(json.load(answer))

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(LIMIT_S)


@contextmanager
def broker_process(
    sandbox: Sandbox,
    folder: Path,
    *arguments: str,
    environ: Mapping[str, str] | None = None,
    defaults: bool = True,
    log: Path | None = None,
    wrapper: tuple[str, ...] = (),
) -> Iterator[BrokerProcess]:
    """Run the broker in *folder* against *sandbox* for the block.

    *log* is a file in there unless given; *wrapper* is a command that becomes it.
    """
    token_file = folder / "token.json"
    if not token_file.exists():
        sandbox.namespace.write_token_file(token_file)
    runtime_dir = folder / "run"
    log = log or folder / f"log-{len(list(folder.glob('log-*')))}"
    usual = (
        *("--role-arn", sandbox.role_arn, "--region", "eu-central-1"),
        *("--imds", ANYWHERE, "--container", ANYWHERE, "--ops", ANYWHERE),
        *("--runtime-dir", str(runtime_dir), "--log-format", "json"),
    )
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *wrapper,
                sys.executable,
                "-m",
                "broker",
                "run",
                *(usual if defaults else ()),
                *arguments,
            ],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "NSC_TOKEN_FILE": str(token_file),
                **sandbox.environment(),
                **(environ or {}),
            },
            cwd=Path(__file__).parents[2],
            stderr=out,
            stdout=out,
            stdin=subprocess.DEVNULL,
        )
    try:
        yield BrokerProcess(process, log=log, runtime_dir=runtime_dir)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def get(url: str, **headers: str) -> tuple[int, bytes]:
    """Return status and body of a plain request, as curl would show them."""
    return _asked(urllib.request.Request(url, headers=_spelled(headers)))


def put(url: str, **headers: str) -> tuple[int, bytes]:
    return _asked(urllib.request.Request(url, headers=_spelled(headers), method="PUT"))


def imds_token(imds: str, *, ttl_s: int = 21600) -> str:
    status, body = put(f"{imds}/latest/api/token", x_aws_ec2_metadata_token_ttl_seconds=str(ttl_s))
    assert status == 200
    return body.decode()


def imds_get(imds: str, path: str, *, token: str) -> tuple[int, bytes]:
    return get(f"{imds}{path}", x_aws_ec2_metadata_token=token)


def _spelled(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def _asked(request: urllib.request.Request) -> tuple[int, bytes]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=LIMIT_S) as answer:
            assert isinstance(answer, HTTPResponse)
            return answer.status, answer.read()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.read()
