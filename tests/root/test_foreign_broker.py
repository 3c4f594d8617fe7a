"""Another user's broker is not believed by any command, whatever the environment points to."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_broker import CREDENTIALS, Cli

STRANGER = 4242

# Serves whatever is asked with one answer, from a directory of its own.
BROKER = """
import json, os, socket, sys
folder, answer = sys.argv[1], sys.argv[2].encode()
path = os.path.join(folder, "broker.sock")
server = socket.socket(socket.AF_UNIX)
server.bind(path)
os.chmod(path, 0o666)
server.listen()
with open(os.path.join(folder, "endpoints.json"), "w") as file:
    json.dump({"control": path, "roles": ["deploy"]}, file)
print("serving", flush=True)
while True:
    connection, _ = server.accept()
    connection.recv(65536)
    head = f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(answer)}\\r\\n\\r\\n".encode()
    connection.sendall(head + answer)
    connection.close()
"""


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory that every user can reach."""
    home = tmp_path_factory.mktemp("h")
    for place in (home, *home.parents[:2]):
        place.chmod(0o755)
    return home


@pytest.fixture
def foreign(home: Path) -> Iterator[Path]:
    """Serve as another user in the place that XDG_RUNTIME_DIR names, and return it."""
    folder = home / "run" / "namespace-broker"
    folder.mkdir(parents=True)
    os.chown(folder.parent, STRANGER, STRANGER)
    os.chown(folder, STRANGER, STRANGER)
    command = ["/usr/bin/python3", "-I", "-c", BROKER, str(folder), json.dumps(CREDENTIALS)]
    with subprocess.Popen(command, user=STRANGER, stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"serving\n"
        yield folder
        process.kill()


@pytest.mark.parametrize(
    "command",
    [
        ["credential-process"],
        ["env"],
        ["exec", "--", "true"],
        ["token", "--show"],
        ["wait", "--timeout", "0"],
        ["status"],
        ["who", "--uid", "0"],
    ],
    ids=lambda command: str(command[0]),
)
@pytest.mark.parametrize("pointer", ["XDG_RUNTIME_DIR", "NAMESPACE_BROKER_RUNTIME_DIR"])
def test_its_directory_is_passed_over(
    home: Path, foreign: Path, command: list[str], pointer: str
) -> None:
    cli = Cli(home)
    named = foreign.parent if pointer == "XDG_RUNTIME_DIR" else foreign

    done = cli.run(*command, environ={pointer: str(named)})

    assert (done.returncode, done.stdout) == (1, "")
    if pointer != "XDG_RUNTIME_DIR" and command[0] != "token":
        assert f"{foreign} (uid {STRANGER}'s, not yours, root's or the service's)" in done.stderr


def test_its_socket_is_refused_in_a_directory_of_ours(home: Path, foreign: Path) -> None:
    cli = Cli(home)
    cli.runtime_dir.mkdir()
    endpoints = {"control": str(foreign / "broker.sock"), "roles": []}
    (cli.runtime_dir / "endpoints.json").write_text(json.dumps(endpoints))

    done = cli.run("credential-process")

    assert (done.returncode, done.stdout) == (1, "")
    assert f"{cli.runtime_dir} (uid {STRANGER}'s, not yours" in done.stderr


def test_a_service_of_its_own_user_below_a_directory_of_roots_is_believed(
    home: Path, foreign: Path
) -> None:
    os.chown(foreign.parent, 0, 0)

    done = Cli(home).run("credential-process", environ={"XDG_RUNTIME_DIR": str(foreign.parent)})

    assert done.returncode == 0
    assert json.loads(done.stdout)["AccessKeyId"] == CREDENTIALS["AccessKeyId"]


def test_a_full_queue_is_waited_for(home: Path) -> None:
    cli = Cli(home)
    cli.runtime_dir.mkdir(mode=0o700)
    path = cli.runtime_dir / "broker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(0)
        (cli.runtime_dir / "endpoints.json").write_text(
            json.dumps({"control": str(path), "roles": ["deploy"]})
        )
        with socket.socket(socket.AF_UNIX) as flood, cli.started("credential-process") as process:
            flood.connect(str(path))
            first, _ = server.accept()
            second, _ = server.accept()
            second.recv(65536)
            body = json.dumps(CREDENTIALS).encode()
            second.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            second.close()
            first.close()
            assert process.stdout is not None
            assert json.loads(process.stdout.read())["Version"] == 1
            assert process.wait() == 0
