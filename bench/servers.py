"""The servers that are measured: the broker on its sandbox, and the bare ones."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from bench.load import FIRST_ANSWER, Target, Visit, ask
from bench.process import Process, started

USER_AGENT = "Boto3/1.40.0 md/Botocore#1.40.0 ua/2.1 os/linux md/arch#x86_64 lang/python#3.11"
"""About as long as what SDKs send."""

ROLE = "deploy"
ROLE_LIST = "/latest/meta-data/iam/security-credentials/"


BARE_AIOHTTP, BARE_ASYNCIO = "bare aiohttp", "bare asyncio"
BARE_KINDS = {BARE_AIOHTTP: "aiohttp", BARE_ASYNCIO: "asyncio"}


class UpstreamCalls(NamedTuple):
    sts: int
    id_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Clouds:
    """The sandbox, in its process."""

    process: Process
    token_file: Path
    role_arn: str
    environment: Mapping[str, str]

    def calls(self) -> UpstreamCalls:
        """Return how often each of the two operations of an exchange has been called."""
        said = self.process.ask("counts")
        return UpstreamCalls(sts=said["sts"], id_tokens=said["id_tokens"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """A server that answers a constant."""

    process: Process
    visit: Visit
    ready_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """``python -m broker run``, ready. Instants are those of `time.perf_counter`."""

    process: Process
    imds: Target
    container: Target
    ops: Target
    container_token: str = field(repr=False)
    runtime_dir: Path
    ready_at: float

    def container_visit(self) -> Visit:
        return Visit(self.container, (get("/v1/credentials", Authorization=self.container_token),))

    def imds_visits(self) -> tuple[Visit, Visit, Visit]:
        """Return the three requests of an SDK, each as a visit of its own."""
        token = ask(Visit(self.imds, (put_token(),))).decode()
        return (
            Visit(self.imds, (put_token(),)),
            Visit(self.imds, (get(ROLE_LIST, **imds_token(token)),)),
            Visit(self.imds, (get(f"{ROLE_LIST}{ROLE}", **imds_token(token)),)),
        )

    def cold_imds_visit(self) -> Visit:
        """Return what an SDK does that has nothing yet: all three, on one connection."""
        token = imds_token(FIRST_ANSWER.decode())
        requests = (put_token(), get(ROLE_LIST, **token), get(f"{ROLE_LIST}{ROLE}", **token))
        return Visit(self.imds, requests)


def get(path: str, **headers: str) -> bytes:
    return request("GET", path, headers)


def put_token() -> bytes:
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "21600", "Content-Length": "0"}
    return request("PUT", "/latest/api/token", ttl)


def imds_token(token: str) -> dict[str, str]:
    return {"X-aws-ec2-metadata-token": token}


def request(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    # No Host by port: every server takes it, and the bytes are the same for all of them.
    always = {"Host": "127.0.0.1", "User-Agent": USER_AGENT, "Accept": "*/*"}
    lines = [
        f"{method} {path} HTTP/1.1",
        *(f"{k}: {v}" for k, v in (always | dict(headers)).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def clean_environ(folder: Path) -> dict[str, str]:
    """Return an environment that names no account, home or proxy of this machine."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "XDG_RUNTIME_DIR": str(folder),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def clouds(folder: Path) -> Iterator[Clouds]:
    token_file = folder / "token.json"
    with started(["bench.clouds", str(token_file)], clean_environ(folder)) as process:
        said = process.heard("ready")[1]
        yield Clouds(
            process=process,
            token_file=token_file,
            role_arn=said["role_arn"],
            environment=said["environment"],
        )


@contextmanager
def broker(
    upstream: Clouds, folder: Path, name: str, *, config: str = "", is_service: bool = False
) -> Iterator[Broker]:
    """Run a broker with one role on free loopback ports until the block ends.

    *config* is what its file says beside that. With *is_service* everybody may speak to its control
    socket, as when systemd starts it.
    """
    runtime_dir, config_file = folder / name, folder / f"{name}.toml"
    if is_service:
        folder.chmod(0o711)
        runtime_dir.mkdir(mode=0o755)
    config_file.write_text(config)
    environ = {
        **clean_environ(folder),
        **upstream.environment,
        "NSC_TOKEN_FILE": str(upstream.token_file),
        **({"RUNTIME_DIRECTORY": str(runtime_dir)} if is_service else {}),
    }
    anywhere = "127.0.0.1:0"
    arguments = [
        *(
            "broker",
            "run",
            "--config",
            str(config_file),
            "--role-arn",
            f"{ROLE}={upstream.role_arn}",
        ),
        *("--region", "eu-central-1", "--imds", anywhere, "--container", anywhere),
        *("--ops", anywhere, "--runtime-dir", str(runtime_dir), "--log-format", "json"),
    ]
    with started(arguments, environ) as process:
        ready_at, said = process.heard("daemon.ready")
        yield Broker(
            process=process,
            imds=target_of(said["imds"][0]),
            container=target_of(said["container"][0]),
            ops=target_of(said["ops"][0]),
            container_token=(runtime_dir / "container-token").read_text().strip(),
            runtime_dir=runtime_dir,
            ready_at=ready_at,
        )


@contextmanager
def bare(name: str, folder: Path, *, body_bytes: int) -> Iterator[Bare]:
    """Run the bare server of that name until the block ends."""
    with started(
        ["bench.bare", BARE_KINDS[name], str(body_bytes)], clean_environ(folder)
    ) as process:
        ready_at, said = process.heard("ready")
        visit = Visit(
            Target("127.0.0.1", said["port"]), (get("/v1/credentials", Authorization="x" * 43),)
        )
        yield Bare(process=process, visit=visit, ready_at=ready_at)


def target_of(url: str) -> Target:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return Target(parts.hostname, parts.port)
