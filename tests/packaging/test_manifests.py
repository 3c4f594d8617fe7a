"""Dockerfile, Compose file and Kubernetes manifest agree with each other and with the program."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from broker import __version__
from broker.cli.commands import load as load_command
from broker.cli.parser import command_of, read
from broker.config import Config, Flags, load
from tests.support.manifests import (
    BASE,
    DEPLOY,
    ROOT,
    compose_services,
    healthcheck,
    in_base,
    in_dockerfile,
    pod,
)

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def compose_config() -> Config:
    return load(Flags(config=str(DEPLOY / "broker.toml")), {})


def kubernetes_config() -> Config:
    return load(Flags(config=str(BASE / "config.toml")), {})


def commands() -> list[list[str]]:
    (sidecar,) = pod()["initContainers"]
    program = ["namespace-broker"]
    return [
        healthcheck(),
        program + compose_services()["broker"]["command"],
        program + sidecar["args"],
    ]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_is_one_that_the_program_takes(command: list[str]) -> None:
    program, *arguments = command

    assert program == "namespace-broker"
    name, flags = command_of(arguments)
    assert read(name, flags, load_command(name).FLAGS) is not None


@pytest.mark.parametrize("instruction", ["ENTRYPOINT", "CMD"])
def test_the_image_needs_no_shell_to_start(instruction: str) -> None:
    (written,) = in_dockerfile(instruction)

    assert isinstance(json.loads(written), list)


def test_the_image_is_of_this_version_and_of_a_numbered_user() -> None:
    (sidecar,) = pod()["initContainers"]

    assert in_dockerfile("ARG")[0] == f"VERSION={__version__}"
    assert sidecar["image"] == f"namespace-broker:{__version__}"
    assert compose_services()["broker"]["image"] == sidecar["image"]
    assert in_dockerfile("USER") == ["65532:65532"]


def told(environment: dict[str, str], config: Config) -> None:
    """Assert that an app is told its region, where that broker and its token are, and no more."""
    (address,) = config.container.listen
    netloc = str(address).removesuffix(":80")
    assert environment == {
        "AWS_REGION": config.region,
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{netloc}/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(config.container.token_file),
    }


def test_the_app_of_compose_is_told_what_its_broker_serves() -> None:
    services = compose_services()
    config = compose_config()

    told(services["app"]["environment"], config)
    assert services["broker"]["networks"]["credentials"]["ipv4_address"] == "169.254.170.2"
    assert services["app"]["group_add"] == [config.container.token_group]
    assert services["app"]["depends_on"] == {"broker": {"condition": "service_healthy"}}


def test_the_app_of_the_pod_is_told_what_its_broker_serves() -> None:
    (app,) = pod()["containers"]
    config = kubernetes_config()

    told({variable["name"]: variable["value"] for variable in app["env"]}, config)
    assert config.container.token_group == str(pod()["securityContext"]["fsGroup"])


def places(container: dict[str, Any]) -> dict[str, bool]:
    """Return where volumes are mounted, and whether they can be written to there."""
    return {
        mount["mountPath"]: not mount.get("readOnly", False) for mount in container["volumeMounts"]
    }


def test_what_the_broker_writes_in_the_pod_is_a_volume_and_the_app_reads_one_of_them() -> None:
    (sidecar,), (app,) = pod()["initContainers"], pod()["containers"]
    token_dir = str(kubernetes_config().container.token_file.parent)
    (runtime_dir,) = (
        word.removeprefix("RUNTIME_DIRECTORY=")
        for word in in_dockerfile("ENV")[0].split()
        if word.startswith("RUNTIME_DIRECTORY=")
    )

    assert {place for place, writable in places(sidecar).items() if writable} == {
        token_dir,
        runtime_dir,
    }
    assert places(app) == {token_dir: False}
    mounted = {each["name"] for each in [*sidecar["volumeMounts"], *app["volumeMounts"]]}
    assert mounted == {volume["name"] for volume in pod()["volumes"]}


def test_the_pod_is_one_that_the_restricted_standard_admits() -> None:
    containers = [*pod()["initContainers"], *pod()["containers"]]

    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers:
        context = container["securityContext"]
        assert context.items() >= RESTRICTED.items()
        assert context["runAsUser"] > 0


@pytest.mark.parametrize(
    ("probe", "path"),
    [("startupProbe", "/readyz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")],
)
def test_a_probe_asks_the_ops_port_and_starts_no_program(probe: str, path: str) -> None:
    (sidecar,) = pod()["initContainers"]
    (port,) = sidecar["ports"]
    (listened,) = kubernetes_config().ops.listen

    assert sidecar[probe]["httpGet"] == {"path": path, "port": port["name"]}
    assert (listened.host, listened.port) == ("0.0.0.0", port["containerPort"])


def test_a_scraper_of_the_monitoring_namespace_may_reach_the_ops_port_and_nothing_else() -> None:
    policy = in_base("network-policy.yaml")["spec"]
    template = in_base("deployment.yaml")["spec"]["template"]["metadata"]

    (allowed,) = policy["ingress"]
    assert policy["podSelector"]["matchLabels"].items() <= template["labels"].items()
    assert policy["policyTypes"] == ["Ingress"]
    port = kubernetes_config().ops.listen[0].port
    assert allowed["ports"] == [{"protocol": "TCP", "port": port}]
    assert template["annotations"]["prometheus.io/port"] == str(port)


def test_the_broker_of_the_pod_is_a_sidecar() -> None:
    (sidecar,) = pod()["initContainers"]

    assert sidecar["restartPolicy"] == "Always"


def test_the_broker_of_compose_is_confined() -> None:
    broker = compose_services()["broker"]

    assert broker["read_only"] is True
    assert broker["cap_drop"] == ["ALL"]
    assert broker["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "user", "cap_add", "ports"} & set(broker)


def test_the_image_is_built_from_a_base_that_is_pinned_by_the_digest_of_a_registry(
    tmp_path: Path,
) -> None:
    script = DEPLOY / "build_image.sh"
    digest = f"sha256:{'1' * 64}"

    pinned = built_by(script, tmp_path / "pinned", inspected=f"echo {digest}")
    unpinned = built_by(script, tmp_path / "unpinned", inspected="exit 1")

    assert f"BASE=debian:bookworm-slim@{digest}" in pinned
    assert "BASE=debian:bookworm-slim" in unpinned
    assert f"namespace-broker:{__version__}" in pinned


def built_by(script: Path, folder: Path, *, inspected: str) -> list[str]:
    """Run the script with a `docker` whose registry gives that; return what is built."""
    folder.mkdir()
    docker = folder / "docker"
    docker.write_text(
        f'#!/bin/sh\n[ "$1" = build ] || {inspected}\n[ "$1" != build ] || echo "$@"\n'
    )
    docker.chmod(0o755)
    environ = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run([script], env=environ, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_script_that_builds_the_image_is_sound() -> None:
    checker = Path(sys.executable).with_name("shellcheck")

    done = subprocess.run([checker, DEPLOY / "build_image.sh"], capture_output=True, check=False)

    assert done.returncode == 0, done.stdout.decode()


def test_what_the_image_is_built_from_reaches_the_build() -> None:
    """`.dockerignore` lets in what it names, and a folder lets in what is below it."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = [line.removeprefix("!") for line in lines if line.startswith("!")]
    copies = re.findall(
        r"^COPY ((?!--)[^\n]*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE
    )

    sources = {source for copy in copies for source in copy.split()}

    assert "broker" in sources
    assert [source for source in sorted(sources) if source not in let_in] == []
    assert [source for source in sorted(sources) if not (ROOT / source).exists()] == []


def test_every_module_of_the_wheel_reaches_the_build() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
        "targets"
    ]
    needed = {*wheel["wheel"]["packages"], *wheel["wheel"]["force-include"]}
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert [
        name
        for name in sorted(needed)
        if not re.search(rf"^COPY .*\b{name}\b", dockerfile, re.MULTILINE)
    ] == []
