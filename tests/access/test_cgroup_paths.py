"""What the path of a cgroup proves, and what it only seems to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.access.cgroup import UNKNOWN_LOCATION, CgroupLocation, is_delegated, location_of_path

ID = "0123456789abcdef" * 4
USERS = "/user.slice/user-1000.slice/user@1000.service"
POD = "kubepods-burstable-pod5b4f.slice"


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/ssh.service", "ssh.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("/ci.slice/ci-heavy.slice/runner@7.service", "runner@7.service"),
        ("/init.scope", "init.scope"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        ("/machine.slice/machine-web.scope", "machine-web.scope"),
        (r"/system.slice/a\x2db.service", r"a\x2db.service"),
        ("/system.slice/_cpu.service", "cpu.service"),
        ("/system.slice/_.hidden.service", ".hidden.service"),
    ],
)
def test_a_unit_is_the_first_name_below_the_slices(path: str, unit: str) -> None:
    assert location_of_path(path) == CgroupLocation(unit=unit)


@pytest.mark.parametrize(
    "path",
    [
        "/system.slice/web.service/ssh.service",
        "/system.slice/web.service/system.slice/ssh.service",
        f"/system.slice/web.service/system.slice/docker-{ID}.scope",
        f"/system.slice/web.service{USERS}/mine.service",
        f"/system.slice/web.service/docker/{ID}",
        "/system.slice/web.service/payload",
    ],
)
def test_what_stands_below_a_unit_was_named_by_whoever_runs_in_it(path: str) -> None:
    assert location_of_path(path) == CgroupLocation(unit="web.service")


@pytest.mark.parametrize(
    ("below", "user_unit"),
    [
        ("/app.slice/backup.service", "backup.service"),
        ("/app.slice/app-gnome.slice/app-gnome-term.scope/inner", "app-gnome-term.scope"),
        ("/init.scope", "init.scope"),
        ("/system.slice/ssh.service", "ssh.service"),
        (f"/system.slice/docker-{ID}.scope", f"docker-{ID}.scope"),
        (f"/user.slice/libpod-{ID}.scope/container", f"libpod-{ID}.scope"),
        (f"/docker/{ID}", None),
        ("/user.slice/user-0.slice/user@0.service/root.service", "user@0.service"),
        ("", None),
    ],
)
def test_what_stands_below_a_users_manager_is_that_users_to_choose(
    below: str, user_unit: str | None
) -> None:
    place = location_of_path(USERS + below)

    assert place == CgroupLocation(unit="user@1000.service", user_unit=user_unit, manager_uid=1000)
    assert place.user_unit_of(1000) == user_unit


@pytest.mark.parametrize("uid", [0, 1001, None])
def test_a_user_unit_says_nothing_of_another_users_process(uid: int | None) -> None:
    """As of root's, that a user of sudo has started."""
    assert location_of_path(f"{USERS}/app.slice/backup.service").user_unit_of(uid) is None


@pytest.mark.parametrize(
    "path",
    [
        "/system.slice/user@1000.service/mine.service",
        "/user.slice/user-1001.slice/user@1000.service/mine.service",
        "/user.slice/user-1000.slice/user@01000.service/mine.service",
        "/user.slice/user@1000.service/mine.service",
        "/user.slice/user-1000.slice/user@1000.scope/mine.service",
    ],
)
def test_a_manager_counts_only_in_the_slice_of_its_user(path: str) -> None:
    place = location_of_path(path)

    assert (place.user_unit, place.manager_uid) == (None, None)


@pytest.mark.parametrize(
    "path",
    [
        f"/system.slice/docker-{ID}.scope",
        f"/system.slice/docker-{ID}.scope/init.scope",
        f"/docker/{ID}",
        f"/docker/{ID}/inner",
        f"/kubepods.slice/kubepods-burstable.slice/{POD}/cri-containerd-{ID}.scope",
        f"/kubepods.slice/kubepods-pod5b4f.slice/crio-{ID}.scope",
        f"/kubepods/burstable/pod5b4f-11/{ID}",
        f"/kubepods/pod5b4f-11/{ID}",
        f"/machine.slice/libpod-{ID}.scope/container",
    ],
)
def test_a_container_counts_below_its_engines_own_slice(path: str) -> None:
    assert location_of_path(path).container == ID


@pytest.mark.parametrize(
    "path",
    [
        f"{USERS}/user.slice/libpod-{ID}.scope",
        f"{USERS}/docker/{ID}",
        f"/user.slice/user-1000.slice/libpod-{ID}.scope",
        f"/user.slice/user-1000.slice/docker-{ID}.scope",
        f"/user.slice/docker/{ID}",
        f"/machine.slice/docker-{ID}.scope",
        f"/system.slice/cri-containerd-{ID}.scope",
        f"/system.slice/web.service/kubepods/pod5b4f/{ID}",
        f"/system.slice/docker-{ID}.scopex",
        f"/system.slice/docker-{ID[:63]}.scope",
        f"/system.slice/docker-{ID.upper()}.scope",
        f"/system.slice/docker-{ID}0.scope",
        f"/docker/{ID}0",
        f"/kubepods.slice/web.service/cri-containerd-{ID}.scope",
        f"/machine.slice/libpod-conmon-{ID}.scope",
    ],
)
def test_a_container_anywhere_else_is_only_a_name(path: str) -> None:
    assert location_of_path(path).container is None


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/system.slice",
        "/user.slice/user-1000.slice",
        "/lxc.payload.web/system.slice/ssh.service",
        "/lxc.payload.web.slice/system.slice/ssh.service",
        "/lxc.payload.web.slice/lxc.payload.web-x.slice/ssh.service",
        "/lxc.payload.ssh.service",
        "/lxc.payload/ssh.service",
        "/web.slice/system.slice/ssh.service",
        "/ci.slice/heavy-ci.slice/ssh.service",
        "/ci-heavy.slice/ssh.service",
        "/../system.slice/ssh.service",
        "system.slice/ssh.service",
        "/system.slice/ssh service",
        "/system.slice/.service",
        "/ssh.service.d",
        "/" + "a" * 250 + ".service",
        "/system.slice/ssh.service\n",
        "/system.slice/sshé.service",
    ],
)
def test_other_paths_name_no_unit(path: str) -> None:
    assert location_of_path(path) in (CgroupLocation(), UNKNOWN_LOCATION)


@given(st.lists(st.sampled_from(["..", "a", "_b.service", "docker", ID, "x.scope", "y.slice"])))
def test_names_below_the_first_unit_change_nothing(names: list[str]) -> None:
    below = "".join(f"/{name}" for name in names)

    assert location_of_path(f"/system.slice/web.service{below}") == CgroupLocation(
        unit="web.service"
    )


@given(st.text())
def test_any_text_is_read_without_failing(path: str) -> None:
    place = location_of_path(path)

    assert place.container is None or len(place.container) == 64


@pytest.mark.parametrize(
    ("name", "handed_on"),
    [
        ("web.service", True),
        ("_cpu.service", True),
        ("session-3.scope", True),
        (ID, True),
        ("system.slice", False),
        ("docker", False),
    ],
)
def test_units_and_containers_are_delegated_and_slices_are_not(name: str, handed_on: bool) -> None:
    assert is_delegated(name) is handed_on
