"""deploy/kubernetes/ fits the schemas of Kubernetes' API, and its pod works, run by Docker."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker_process import until
from tests.support.manifests import DEPLOY, yaml
from tests.support.manifests import pod as pod_spec
from tests.system.sidecar.engine import APP_IMAGE, IMAGE, build_go_tool
from tests.system.sidecar.pod import change_secret, flags_of, make_volumes
from tests.system.sidecar.project import NAME, UID, Project

KUBERNETES = DEPLOY / "kubernetes"
KUSTOMIZATIONS = ("base", "overlays/example")
# The oldest that has sidecar containers by default, and the newest that the schemas know.
VERSIONS = ("1.29", "1.37")
INSTALL_LIMIT_S = 240
LIMIT_S = 60
SECRET = "namespace-token"


@pytest.fixture(scope="module")
def validator(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program of kubernetes-validate, in an environment of its own."""
    folder = tmp_path_factory.mktemp("validator")
    pip = (folder / "bin/pip", "install", "--quiet", "--disable-pip-version-check")
    for command in (
        (sys.executable, "-m", "venv", folder),
        (*pip, "kubernetes-validate==1.37.0"),
    ):
        subprocess.run(command, check=True, timeout=INSTALL_LIMIT_S)
    return str(folder / "bin/kubernetes-validate")


@pytest.fixture(scope="module")
def kustomize(tmp_path_factory: pytest.TempPathFactory) -> str:
    program = tmp_path_factory.mktemp("kustomize") / "kustomize"
    build_go_tool("kustomize_v5", "sigs.k8s.io/kustomize/kustomize/v5", program)
    return str(program)


@pytest.fixture(scope="module", params=KUSTOMIZATIONS)
def built(request: pytest.FixtureRequest, kustomize: str, tmp_path_factory: Any) -> Path:
    """What `kubectl apply --kustomize` would send."""
    command = (kustomize, "build", KUBERNETES / request.param)
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)
    assert done.stderr == ""
    file: Path = tmp_path_factory.mktemp("built") / "all.yaml"
    file.write_text(done.stdout)
    return file


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_built_is_what_kubernetes_takes(built: Path, validator: str, version: str) -> None:
    done = subprocess.run(
        [validator, "--strict", "--kubernetes-version", version, str(built)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") >= 3, done.stdout


def test_the_overlay_changes_namespace_images_configuration_and_app(kustomize: str) -> None:
    command = (kustomize, "build", KUBERNETES / "overlays/example")

    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_S)

    objects = list(yaml.safe_load_all(done.stdout))
    (deployment,) = (each for each in objects if each["kind"] == "Deployment")
    (config,) = (each for each in objects if each["kind"] == "ConfigMap")
    spec = deployment["spec"]["template"]["spec"]
    assert {each["metadata"]["namespace"] for each in objects} == {"example"}
    assert "role/reports" in config["data"]["config.toml"]
    assert [container["image"] for container in (*spec["initContainers"], *spec["containers"])] == [
        "registry.example/namespace-broker:0.1.0",
        "registry.example/reports:1.0",
    ]
    assert {"name": "AWS_REGION", "value": "us-east-1"} in spec["containers"][0]["env"]
    (mounted,) = (each for each in spec["volumes"] if each["name"] == "config")
    assert mounted["configMap"]["name"] == config["metadata"]["name"]


def test_the_schemas_would_tell(validator: str, tmp_path: Path) -> None:
    right = (KUBERNETES / "base/deployment.yaml").read_text()
    (tmp_path / "wrong.yaml").write_text(right.replace("startupProbe:", "startProbe:"))

    done = subprocess.run(
        [validator, "--strict", str(tmp_path / "wrong.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode != 0
    assert "startProbe" in done.stdout + done.stderr


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    project: Project
    broker: str
    volumes: Path


@pytest.fixture
def pod(project: Project, tmp_path: Path) -> Iterator[Pod]:
    """The sidecar of the pod, where it can reach the clouds, with a Secret that says nothing."""
    (sidecar,) = pod_spec()["initContainers"]
    make_volumes(tmp_path, secrets={SECRET: {"token.json": "{}"}})
    engine = project.engine
    broker = engine.done(
        *("run", "--detach", f"--network={NAME}_default", *flags_of(sidecar, volumes=tmp_path)),
        *project.way_to_clouds(),
        *(IMAGE, *sidecar["args"]),
    )
    yield Pod(project=project, broker=broker, volumes=tmp_path)
    engine.done("rm", "--force", broker)


def give_identity(pod: Pod) -> None:
    token = (pod.project.tokens / "token.json").read_text()
    change_secret(pod.volumes, SECRET, {"token.json": token})


def ask_as_app(pod: Pod) -> subprocess.CompletedProcess[str]:
    (app,) = pod_spec()["containers"]
    return pod.project.engine.docker(
        *("run", "--rm", f"--network=container:{pod.broker}"),
        *flags_of(app, volumes=pod.volumes),
        *("--env=AWS_ENDPOINT_URL=http://clouds:8002", "--env=AWS_DEFAULT_REGION=eu-central-1"),
        *(APP_IMAGE, "once"),
    )


def probe(pod: Pod, name: str) -> int:
    """Return how that probe of the sidecar ends: asked, as by a kubelet, at the pod's address."""
    (sidecar,) = pod_spec()["initContainers"]
    (port,) = sidecar["ports"]
    networks = pod.project.engine.inspect(pod.broker)["NetworkSettings"]["Networks"]
    address = networks[f"{NAME}_default"]["IPAddress"]
    url = f"http://{address}:{port['containerPort']}{sidecar[name]['httpGet']['path']}"
    ask = f"import urllib.request; urllib.request.urlopen({url!r}, timeout=5)"
    return pod.project.engine.docker("exec", pod.broker, "python", "-c", ask).returncode


def test_an_app_in_the_pod_has_the_role_once_the_startup_probe_is_content(pod: Pod) -> None:
    until(lambda: probe(pod, "livenessProbe") == 0, what="the broker")
    before = probe(pod, "startupProbe")
    give_identity(pod)
    until(lambda: probe(pod, "startupProbe") == 0, what="the startup probe")

    ran = ask_as_app(pod)

    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert before == 1
    assert said["arn"].split("/")[1] == "deploy"
    assert said["uid"] == 10001
    assert probe(pod, "livenessProbe") == 0


def test_the_token_in_the_pod_is_its_groups_and_survives_a_restart(pod: Pod) -> None:
    give_identity(pod)
    until(lambda: probe(pod, "startupProbe") == 0, what="the startup probe")
    file = pod.volumes / "container-token/container-token"
    before = file.read_text()

    pod.project.engine.done("restart", pod.broker)
    until(lambda: probe(pod, "startupProbe") == 0, what="the startup probe")

    assert (file.stat().st_mode & 0o777, file.stat().st_gid) == (0o640, UID)
    assert file.read_text() == before
