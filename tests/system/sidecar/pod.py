"""Do what a kubelet does with deploy/kubernetes/app.yaml, as far as Docker can.

The pod's network, its volumes with their links and groups, and each container's own.
"""

import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.system.sidecar.engine import ROOT

MANIFEST = ROOT / "deploy/kubernetes/app.yaml"


def documents() -> list[dict[str, Any]]:
    yaml: Any = import_module("yaml")  # it ships no types
    return list(yaml.safe_load_all(MANIFEST.read_text()))


def pod_spec() -> dict[str, Any]:
    (deployment,) = (each for each in documents() if each["kind"] == "Deployment")
    spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return spec


def config_maps() -> dict[str, dict[str, str]]:
    maps = (each for each in documents() if each["kind"] == "ConfigMap")
    return {each["metadata"]["name"]: each["data"] for each in maps}


def make_volumes(folder: Path, *, secrets: Mapping[str, Mapping[str, str]]) -> None:
    """Make each volume of the pod a directory by its name in *folder*."""
    spec = pod_spec()
    group = spec["securityContext"]["fsGroup"]
    for volume in spec["volumes"]:
        place = folder / volume["name"]
        place.mkdir()
        match volume:
            case {"configMap": {"name": name}}:
                project(place, config_maps()[name], mode=0o644, group=group)
            case {"secret": {"secretName": name, "defaultMode": mode}}:
                project(place, secrets[name], mode=mode, group=group)
        # Memory or not, an empty directory is everybody's in the pod, and its files the group's.
        os.chown(place, 0, group)
        place.chmod(0o2777)


def project(place: Path, data: Mapping[str, str], *, mode: int, group: int) -> None:
    """Write *data* as the kubelet does, which replaces all of it by one link."""
    version = place / f"..{len(list(place.glob('..2*'))) + 2000}"
    version.mkdir()
    for name, content in data.items():
        (version / name).write_text(content)
        os.chown(version / name, 0, group)
        (version / name).chmod(mode)
        if not (place / name).is_symlink():
            (place / name).symlink_to(f"..data/{name}")
    (place / "..data_tmp").symlink_to(version.name)
    (place / "..data_tmp").replace(place / "..data")


def change_secret(folder: Path, name: str, data: Mapping[str, str]) -> None:
    """Write a Secret anew, as the kubelet does some time after it was changed."""
    spec = pod_spec()
    (volume,) = (
        each for each in spec["volumes"] if each.get("secret", {}).get("secretName") == name
    )
    project(
        folder / volume["name"],
        data,
        mode=volume["secret"]["defaultMode"],
        group=spec["securityContext"]["fsGroup"],
    )


def flags_of(container: Mapping[str, Any], *, volumes: Path) -> Iterator[str]:
    """Yield what ``docker run`` is told for a container of the pod."""
    confined = container["securityContext"]
    assert not confined["allowPrivilegeEscalation"]
    yield "--security-opt=no-new-privileges"
    yield f"--user={confined['runAsUser']}:{confined['runAsGroup']}"
    yield f"--group-add={pod_spec()['securityContext']['fsGroup']}"
    if confined["readOnlyRootFilesystem"]:
        yield "--read-only"
    for capability in confined["capabilities"]["drop"]:
        yield f"--cap-drop={capability}"
    for variable in container.get("env", ()):
        yield f"--env={variable['name']}={variable['value']}"
    for mount in container["volumeMounts"]:
        right = "ro" if mount.get("readOnly") else "rw"
        yield f"--volume={volumes / mount['name']}:{mount['mountPath']}:{right}"
