"""Do what a kubelet does with deploy/kubernetes/base, as far as Docker can.

The pod's network, its volumes with their links and groups, and each container's own.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.manifests import BASE, in_base, pod


def config_maps() -> dict[str, dict[str, str]]:
    """Return what Kustomize generates, but for the hash in its name."""
    maps = in_base("kustomization.yaml")["configMapGenerator"]
    return {
        each["name"]: {name: (BASE / name).read_text() for name in each["files"]} for each in maps
    }


def make_volumes(folder: Path, *, secrets: Mapping[str, Mapping[str, str]]) -> None:
    """Make each volume of the pod a directory by its name in *folder*."""
    spec = pod()
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
    spec = pod()
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
    yield f"--group-add={pod()['securityContext']['fsGroup']}"
    if confined["readOnlyRootFilesystem"]:
        yield "--read-only"
    for capability in confined["capabilities"]["drop"]:
        yield f"--cap-drop={capability}"
    for variable in container.get("env", ()):
        yield f"--env={variable['name']}={variable['value']}"
    for mount in container["volumeMounts"]:
        right = "ro" if mount.get("readOnly") else "rw"
        yield f"--volume={volumes / mount['name']}:{mount['mountPath']}:{right}"
