"""One engine with both images, and the whole of deploy/compose.yaml running in it."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.sidecar.engine import Engine, engine_with_images
from tests.system.sidecar.project import Project, project_in


@pytest.fixture(scope="package")
def engine() -> Iterator[Engine]:
    with folder_in_memory() as folder, engine_with_images(folder) as engine:
        yield engine


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """Yield a folder with a short name, as sockets need, that goes with the images in it."""
    with tempfile.TemporaryDirectory(prefix="engine-") as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "none", name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


@pytest.fixture(scope="package")
def project(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """App, broker and clouds, up: the app has started, so Compose has seen the broker healthy."""
    with project_in(engine, tmp_path_factory.mktemp("project")) as project:
        project.up()
        yield project
