"""A file system that hangs, as a dead NFS server does, holds up no request."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.broker_process import (
    BrokerProcess,
    broker_process,
    get,
    imds_get,
    imds_token,
    until,
)

pytestmark = pytest.mark.as_root

CREDENTIALS = "/latest/meta-data/iam/security-credentials/deploy"

HANG = """
import ctypes, os, sys
# Nobody answers the kernel's requests, not even the first.
descriptor = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={descriptor},rootmode=40000,user_id=0,group_id=0".encode()
if libc.mount(b"hung", sys.argv[1].encode(), b"fuse", 0, options):
    sys.exit(os.strerror(ctypes.get_errno()))
print("mounted", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as world:
        yield world


@contextmanager
def hanging(folder: Path, broker: BrokerProcess) -> Iterator[None]:
    """Let every look into *folder* hang, in the broker's mount namespace."""
    namespace = f"--mount=/proc/{broker.process.pid}/ns/mnt"
    process = subprocess.Popen(
        ["nsenter", namespace, sys.executable, "-c", HANG, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == b"mounted\n"
        yield
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("hangs", ["identity", "config", "audit", "state", "tokens", "exports"])
def test_requests_are_answered_while_it_hangs(sandbox: Sandbox, tmp_path: Path, hangs: str) -> None:
    for name in ("identity", "config", "audit", "state", "tokens", "exports"):
        (tmp_path / name).mkdir(mode=0o700)
    sandbox.namespace.write_token_file(tmp_path / "identity" / "token.json")
    config = tmp_path / "config" / "config.toml"
    config.write_text(
        f"""
        state_dir = "{tmp_path}/state"
        [identities.default]
        source = "token-file"
        path = "{tmp_path}/identity/token.json"
        [namespace_tokens.default]
        file = "{tmp_path}/exports/token.json"
        [container]
        token_file = "{tmp_path}/tokens/container-token"
        [audit]
        to = "{tmp_path}/audit/audit.jsonl"
        """
    )
    flags = ("--config", str(config))

    with broker_process(sandbox, tmp_path, *flags, wrapper=("unshare", "--mount")) as broker:
        broker.wait_for("daemon.ready")
        imds, ops = broker.endpoints["imds"][0], broker.endpoints["ops"][0]
        token = imds_token(imds)
        with hanging(tmp_path / hangs, broker):
            broker.process.send_signal(signal.SIGHUP)
            for _ in range(5):
                assert get(f"{ops}/healthz")[0] == 200
                assert imds_get(imds, CREDENTIALS, token=token)[0] == 200
            assert until(lambda: broker.ready()["leases"], what="/readyz")
