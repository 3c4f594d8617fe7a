"""SDKs of other languages, installed once for all tests, and worlds whose time the test moves."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.clients_ci.shared_time import SharedTime
from tests.support.client_sandbox import World, make_bucket, world_of, world_with_nothing_to_serve
from tests.support.clients import Client

HERE = Path(__file__).parent
INSTALL_LIMIT_S = 240


def install(*argv: str, folder: Path) -> None:
    """Run an installer, with the environment of the tests: it knows its registry from there."""
    subprocess.run(argv, cwd=folder, check=True, timeout=INSTALL_LIMIT_S)


def found(program: str, *elsewhere: str) -> str:
    path = shutil.which(program, path=os.pathsep.join((os.environ["PATH"], *elsewhere)))
    assert path, f"{program} is needed here, and not installed"
    return path


@pytest.fixture(scope="session")
def js_sdk(tmp_path_factory: pytest.TempPathFactory) -> Client:
    folder = tmp_path_factory.mktemp("js") / "client"
    shutil.copytree(HERE / "js", folder, ignore=shutil.ignore_patterns("node_modules"))
    install(found("npm"), "ci", "--ignore-scripts", folder=folder)
    return Client(
        name="js-sdk-v3",
        argv=(found("node"), str(folder / "whoami.js")),
        operation="GetCallerIdentity",
        complaint="CredentialsProviderError",
    )


@pytest.fixture(scope="session")
def go_sdk(tmp_path_factory: pytest.TempPathFactory) -> Client:
    program = tmp_path_factory.mktemp("go") / "whoami"
    build = (found("go", "/usr/local/go/bin"), "build", "-buildvcs=false", "-o", str(program), ".")
    install(*build, folder=HERE / "go")
    return Client(
        name="go-sdk-v2",
        argv=(str(program),),
        operation="GetCallerIdentity",
        complaint="failed to refresh cached credentials",
    )


@pytest.fixture(scope="session")
def java_sdk(tmp_path_factory: pytest.TempPathFactory) -> Client:
    folder = tmp_path_factory.mktemp("java") / "client"
    shutil.copytree(HERE / "java", folder)
    jars = ("dependency:copy-dependencies", "-DoutputDirectory=jars")
    install(found("mvn"), "--quiet", "--batch-mode", *jars, folder=folder)
    install(found("javac"), "-cp", "jars/*", "WhoAmI.java", folder=folder)
    return Client(
        name="java-sdk-v2",
        argv=(
            found("java"),
            "-XX:TieredStopAtLevel=1",
            "-cp",
            f"{folder}:{folder}/jars/*",
            "WhoAmI",
        ),
        operation="GetCallerIdentity",
        complaint="Unable to load credentials",
    )


@pytest.fixture(params=["js_sdk", "go_sdk"])
def client(request: pytest.FixtureRequest) -> Client:
    named: Client = request.getfixturevalue(request.param)
    return named


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with (
        sandbox_in_thread() as sandbox,
        world_of(sandbox, folder=tmp_path_factory.mktemp("world")) as world,
    ):
        yield world


@pytest.fixture(scope="session")
def empty_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Its broker runs, and has nothing to serve."""
    folder = tmp_path_factory.mktemp("empty-world")
    with (
        sandbox_in_thread() as sandbox,
        world_with_nothing_to_serve(sandbox, folder=folder) as world,
    ):
        yield world


@pytest.fixture
def time(tmp_path: Path) -> SharedTime:
    return SharedTime(tmp_path)


@pytest.fixture
def moving_sandbox(time: SharedTime) -> Iterator[Sandbox]:
    with sandbox_in_thread(s3=True, now=time.now) as sandbox:
        make_bucket(sandbox)
        yield sandbox


@pytest.fixture
def moving_world(moving_sandbox: Sandbox, time: SharedTime, tmp_path: Path) -> Iterator[World]:
    """A world whose time the test moves, with a bucket."""
    folder = tmp_path / "world"
    folder.mkdir()
    environ = time.as_suspended()
    with world_of(moving_sandbox, folder=folder, environ=environ) as world:
        yield world
