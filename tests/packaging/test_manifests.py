"""Dockerfile, Compose file and Kubernetes manifest agree with each other and with the program."""

import json
from pathlib import Path
from typing import Any

import pytest

from broker import __version__
from broker.cli.help import module
from broker.cli.parser import command_of, read
from broker.config import Config, Flags, load
from tests.support.manifests import (
    DEPLOY,
    compose_services,
    healthcheck,
    in_dockerfile,
    of_kind,
    pod,
)

RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def compose_config() -> Config:
    return load(Flags(config=str(DEPLOY / "broker.toml")), {})


def kubernetes_config(folder: Path) -> Config:
    (folder / "config.toml").write_text(of_kind("ConfigMap")["data"]["config.toml"])
    return load(Flags(config=str(folder / "config.toml")), {})


def commands() -> list[list[str]]:
    (sidecar,) = pod()["initContainers"]
    probes = (sidecar[name]["exec"]["command"] for name in ("startupProbe", "livenessProbe"))
    program = ["namespace-broker"]
    return [
        healthcheck(),
        *probes,
        program + compose_services()["broker"]["command"],
        program + sidecar["args"],
    ]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_is_one_that_the_program_takes(command: list[str]) -> None:
    program, *arguments = command

    assert program == "namespace-broker"
    name, flags = command_of(arguments)
    assert read(name, flags, module(name).FLAGS) is not None


@pytest.mark.parametrize("instruction", ["ENTRYPOINT", "CMD"])
def test_the_image_needs_no_shell_to_start(instruction: str) -> None:
    (written,) = in_dockerfile(instruction)

    assert isinstance(json.loads(written), list)


def test_the_image_is_of_this_version_and_of_a_numbered_user() -> None:
    (sidecar,) = pod()["initContainers"]

    assert in_dockerfile("ARG") == [f"VERSION={__version__}"]
    assert sidecar["image"] == f"namespace-broker:{__version__}"
    assert in_dockerfile("USER") == ["65532:65532"]


def told(environment: dict[str, str], config: Config) -> None:
    """Assert that an app is told where that broker listens, where its token is, and no more."""
    (address,) = config.container.listen
    netloc = str(address).removesuffix(":80")
    assert environment == {
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


def test_the_app_of_the_pod_is_told_what_its_broker_serves(tmp_path: Path) -> None:
    (app,) = pod()["containers"]
    config = kubernetes_config(tmp_path)

    told({variable["name"]: variable["value"] for variable in app["env"]}, config)
    assert config.container.token_group == str(pod()["securityContext"]["fsGroup"])


def places(container: dict[str, Any]) -> dict[str, bool]:
    """Return where volumes are mounted, and whether they can be written to there."""
    return {
        mount["mountPath"]: not mount.get("readOnly", False) for mount in container["volumeMounts"]
    }


def test_what_the_broker_writes_in_the_pod_is_a_volume_and_the_app_reads_one_of_them(
    tmp_path: Path,
) -> None:
    (sidecar,), (app,) = pod()["initContainers"], pod()["containers"]
    token_dir = str(kubernetes_config(tmp_path).container.token_file.parent)
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


def test_the_broker_of_the_pod_is_a_sidecar() -> None:
    (sidecar,) = pod()["initContainers"]

    assert sidecar["restartPolicy"] == "Always"


def test_the_broker_of_compose_is_confined() -> None:
    broker = compose_services()["broker"]

    assert broker["read_only"] is True
    assert broker["cap_drop"] == ["ALL"]
    assert broker["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "user", "cap_add", "ports"} & set(broker)
