"""Installing on a host in a folder: what is written, what is started, and how it is undone."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.installer.config_text import Identity
from broker.installer.host import Host, Refusal, require_reachable
from broker.installer.install import install, planned
from broker.installer.uninstall import uninstall
from broker.installer.units import (
    ADDRESS,
    CONFIG,
    SERVICE,
    SOCKET,
    TOKEN_PATH,
    TOKEN_SERVICE,
    UNITS,
)
from tests.support.installer import ARN, PROGRAM, FakeSystemd, host_in, installed, tree, wanted

WRITTEN = "etc/systemd/system"


@pytest.fixture
def systemd() -> FakeSystemd:
    return FakeSystemd()


@pytest.fixture
def host(tmp_path: Path, systemd: FakeSystemd) -> Host:
    return host_in(tmp_path, systemd)


def config_of(host: Host) -> dict[str, object]:
    return tomllib.loads(host.on_disk(CONFIG).read_text())


def test_it_writes_every_unit_and_a_configuration_with_a_rule(
    host: Host, systemd: FakeSystemd
) -> None:
    installed(host)

    assert {f"{WRITTEN}/{unit}" for unit in UNITS} <= set(tree(host.root))
    assert config_of(host)["rules"] == [{"who": {"any_local": True}, "roles": ["deploy"]}]
    assert systemd.enabled == {SERVICE, TOKEN_PATH}
    assert systemd.active >= {SERVICE, TOKEN_PATH}


def test_the_units_start_the_program_where_it_is(host: Host) -> None:
    installed(host)

    for unit in (SERVICE, ADDRESS, TOKEN_SERVICE):
        text = tree(host.root)[f"{WRITTEN}/{unit}"]
        assert f"ExecStart={PROGRAM} " in text
        assert "/usr/bin/namespace-broker" not in text


def test_where_a_package_brought_the_units_none_are_written(
    host: Host, systemd: FakeSystemd
) -> None:
    installed(host)
    packaged = host.root / "usr/lib/systemd/system"
    packaged.mkdir(parents=True)
    (packaged / SERVICE).touch()

    installed(host)

    assert [name for name in tree(host.root) if name.startswith(WRITTEN)] == []
    assert systemd.active >= {SERVICE}


def test_a_second_time_nothing_is_changed(host: Host, systemd: FakeSystemd) -> None:
    installed(host)
    before = tree(host.root)
    systemd.told.clear()

    again = installed(host)

    assert not again.changed
    assert (tree(host.root), systemd.told) == (before, [])


def test_other_flags_change_the_configuration_and_restart_the_service(
    host: Host, systemd: FakeSystemd
) -> None:
    installed(host)
    systemd.told.clear()

    again = installed(host, wanted("root"))

    assert again.written == (CONFIG,)
    assert systemd.told == ["daemon-reload", f"restart {SERVICE}"]


def test_a_changed_socket_is_opened_anew(host: Host, systemd: FakeSystemd) -> None:
    installed(host)
    place = host.root / WRITTEN / SOCKET
    place.write_text(place.read_text() + "# of an older version\n")
    systemd.told.clear()

    again = installed(host)

    assert [path.name for path in again.written] == [SOCKET]
    assert f"restart {SOCKET}" in systemd.told


def test_an_edited_configuration_stays_under_the_flags_that_it_came_from(host: Host) -> None:
    installed(host)
    edited = host.on_disk(CONFIG).read_text() + "[ops]\nlisten = []\n"
    host.on_disk(CONFIG).write_text(edited)

    plan = planned(wanted(), host)
    install(plan, host, say=lambda _: None)

    assert plan.keeps_edited
    assert host.on_disk(CONFIG).read_text() == edited


def test_an_edited_configuration_is_not_replaced_and_what_differs_is_said(host: Host) -> None:
    installed(host)
    edited = host.on_disk(CONFIG).read_text() + "# mine\n"
    host.on_disk(CONFIG).write_text(edited)

    with pytest.raises(Refusal, match="was edited, so it is not replaced") as refused:
        planned(wanted("root"), host)

    assert not refused.value.misuse
    lines = refused.value.detail.splitlines()
    assert lines[:2] == [f"--- {CONFIG}", "+++ what these flags would write"]
    assert {"-# mine", "-who = { any_local = true }", '+who = { user = "root" }'} <= set(lines)
    assert host.on_disk(CONFIG).read_text() == edited


def test_an_administrators_own_configuration_is_taken_as_it_is(host: Host) -> None:
    own = f'[roles.deploy]\narn = "{ARN}"\n[[rules]]\nwho = {{ uid = 0 }}\nroles = ["deploy"]\n'
    host.on_disk(CONFIG).parent.mkdir()
    host.on_disk(CONFIG).write_text(own)

    plan = planned(None, host)
    install(plan, host, say=lambda _: None)

    assert host.on_disk(CONFIG).read_text() == own
    assert plan.enabled == (SERVICE,)  # no token file is to be copied by it


def test_a_configuration_without_rules_is_not_installed(host: Host) -> None:
    host.on_disk(CONFIG).parent.mkdir()
    host.on_disk(CONFIG).write_text(f'[roles.deploy]\narn = "{ARN}"\n')

    with pytest.raises(Refusal, match=r"has no \[\[rules\]\]"):
        planned(None, host)


def test_without_a_role_and_a_configuration_there_is_nothing_to_install(host: Host) -> None:
    with pytest.raises(Refusal, match=r"--role-arn: is missing") as refused:
        planned(None, host)

    assert refused.value.misuse


def test_a_token_spec_is_handed_over_and_no_token_is_copied(
    host: Host, systemd: FakeSystemd
) -> None:
    spec = host.root / "etc/my spec"
    spec.touch()
    installed(host)

    installed(host, wanted(identity=Identity(kind="token-spec", path=Path("/etc/my spec"))))

    drop_in = tree(host.root)[f"{WRITTEN}/{SERVICE}.d/install.conf"]
    assert "LoadCredential=token.spec:/etc/my spec\n" in drop_in
    assert TOKEN_PATH not in systemd.enabled | systemd.active


def test_a_token_file_elsewhere_is_watched_and_forgotten_again(host: Host) -> None:
    elsewhere = Identity(kind="token-file", path=Path("/srv/100%/token.json"))

    installed(host, wanted(identity=elsewhere))
    there = tree(host.root)
    installed(host)

    assert (
        "PathChanged=\nPathChanged=/srv/100%%/token.json\n"
        in there[f"{WRITTEN}/{TOKEN_PATH}.d/install.conf"]
    )
    assert (
        '"NSC_TOKEN_FILE=/srv/100%%/token.json"'
        in there[f"{WRITTEN}/{TOKEN_SERVICE}.d/install.conf"]
    )
    assert not (host.root / WRITTEN / f"{TOKEN_PATH}.d").exists()


@pytest.mark.parametrize(
    ("kind", "make", "says"),
    [
        ("token-file", lambda place: place.symlink_to("/etc/passwd"), "is no regular file"),
        ("token-file", lambda place: place.mkdir(), "is no regular file"),
        ("token-spec", lambda place: None, "does not exist"),
    ],
)
def test_an_identity_that_cannot_be_handed_over_is_refused(
    host: Host, kind: str, make: object, says: str
) -> None:
    assert callable(make)
    make(host.root / "etc/mine")
    identity = Identity(
        kind="token-spec" if kind == "token-spec" else "token-file", path=Path("/etc/mine")
    )

    with pytest.raises(Refusal, match=f"--{kind}: /etc/mine {says}") as refused:
        planned(wanted(identity=identity), host)

    assert refused.value.misuse


def test_a_start_that_fails_takes_everything_back_and_says_why(
    host: Host, systemd: FakeSystemd
) -> None:
    systemd.fails[SERVICE] = "namespace-broker: container.listen: 127.0.0.1:8170 is in use; stop it"
    before = tree(host.root)

    with pytest.raises(Refusal, match=r"failed and was undone: container\.listen: 127"):
        installed(host)

    assert tree(host.root) == before
    assert not host.on_disk(CONFIG).parent.exists()
    assert (systemd.enabled, systemd.active) == (set(), set())


def test_a_socket_that_cannot_be_opened_is_the_reason(host: Host, systemd: FakeSystemd) -> None:
    systemd.fails[SOCKET] = (
        f"{SOCKET}: Failed to create listening socket (169.254.169.254:80): Address in use\n"
        f"{SOCKET}: Failed to listen on sockets: Address in use\n"
    )

    with pytest.raises(Refusal, match=r"undone: Failed to create listening socket \(169"):
        installed(host)


def test_a_change_that_fails_leaves_what_ran_before(host: Host, systemd: FakeSystemd) -> None:
    installed(host)
    before, enabled = tree(host.root), set(systemd.enabled)
    systemd.fails[SERVICE] = ""

    with pytest.raises(Refusal, match="failed and was undone"):
        installed(host, wanted("root"))

    assert tree(host.root) == before
    assert systemd.enabled == enabled


def test_a_disk_that_cannot_be_written_leaves_nothing(host: Host, systemd: FakeSystemd) -> None:
    before = tree(host.root)
    host.on_disk(CONFIG).parent.touch()  # where a directory is to be

    with pytest.raises((Refusal, OSError)):
        installed(host)

    host.on_disk(CONFIG).parent.unlink()
    assert tree(host.root) == before
    assert systemd.enabled == set()


def test_a_broker_that_is_not_ready_stays_installed(tmp_path: Path, systemd: FakeSystemd) -> None:
    host = host_in(tmp_path, systemd, why_not_ready=lambda: "role/deploy is refused")

    done = installed(host)

    assert done.why_not_ready == "role/deploy is refused"
    assert SERVICE in systemd.active


def refused_before_anything(host: Host, systemd: FakeSystemd) -> Refusal:
    before = tree(host.root)
    with pytest.raises(Refusal) as refused:
        installed(host)
    assert (tree(host.root), systemd.told) == (before, [])
    return refused.value


def test_an_ordinary_user_is_told_of_sudo(tmp_path: Path, systemd: FakeSystemd) -> None:
    refusal = refused_before_anything(host_in(tmp_path, systemd, uid=1000), systemd)

    assert str(refusal) == "install: needs root; put sudo before the command"


def test_a_host_without_systemd_is_told_of_run(host: Host, systemd: FakeSystemd) -> None:
    (host.root / "run/systemd/system").rmdir()

    assert "systemd: does not run on this host" in str(refused_before_anything(host, systemd))


def test_a_systemd_that_is_too_old_is_named(host: Host, systemd: FakeSystemd) -> None:
    systemd.version = 245

    assert "systemd: is version 245; LoadCredential= needs 247" in str(
        refused_before_anything(host, systemd)
    )


def test_a_systemd_without_a_feature_is_without_repeats_it_is_done(
    host: Host, systemd: FakeSystemd
) -> None:
    old = installed(host).notes
    systemd.version = 254
    new = installed(host).notes

    assert "systemd 252 keeps leases over a restart, not over a stop" in old[0]
    assert new == ()


@pytest.mark.parametrize("address", ["169.254.169.254", "fd00:ec2::254"])
def test_a_cloud_machine_is_left_alone(tmp_path: Path, systemd: FakeSystemd, address: str) -> None:
    host = host_in(tmp_path, systemd, answers=lambda host: host == address)

    assert str(refused_before_anything(host, systemd)).startswith(f"{address}: answers already")


def test_our_own_address_may_answer(tmp_path: Path, systemd: FakeSystemd) -> None:
    systemd.active.add(ADDRESS)

    installed(host_in(tmp_path, systemd, answers=lambda _: True))

    assert SERVICE in systemd.active


def test_a_program_that_others_can_change_is_not_roots_to_run(
    host: Host, systemd: FakeSystemd
) -> None:
    (host.root / PROGRAM.parent.relative_to("/")).chmod(0o777)

    assert "can be changed by others than root" in str(refused_before_anything(host, systemd))


def make_changeable(place: Path) -> None:
    if place.suffix:
        place.touch()
    else:
        place.mkdir()
    place.chmod(0o777)


def change_the_target_of_a_link(library: Path) -> None:
    elsewhere = library.parents[3] / "home/alice/package"
    elsewhere.mkdir(parents=True)
    elsewhere.parent.chmod(0o777)
    (library / "package").symlink_to("/home/alice/package")


@pytest.mark.parametrize(
    "change",
    [
        lambda library: library.chmod(0o775),
        lambda library: library.parent.chmod(0o777),
        lambda library: library.rmdir() or library.parent.chmod(0o777),
        lambda library: make_changeable(library / "module.py"),
        lambda library: make_changeable(library / "package"),
        change_the_target_of_a_link,
    ],
    ids=["itself", "above", "not there", "a module", "a package", "a link"],
)
def test_what_the_program_imports_must_be_roots_alone(
    tmp_path: Path, systemd: FakeSystemd, change: Callable[[Path], object]
) -> None:
    library = Path("/opt/namespace-broker/lib/site-packages")
    host = host_in(tmp_path, systemd, import_path=[library])
    place = host.on_disk(library)
    place.mkdir(parents=True)
    for step in (place, place.parent):
        step.chmod(0o755)
    require_reachable(host)

    change(place)

    assert "can be changed by others than root" in str(refused_before_anything(host, systemd))


def test_a_program_behind_a_link_is_looked_at_where_it_is(host: Host, systemd: FakeSystemd) -> None:
    program = host.on_disk(PROGRAM)
    program.unlink()
    elsewhere = host.root / "home/alice"
    elsewhere.mkdir(parents=True)
    (elsewhere / "program").touch(0o755)
    elsewhere.chmod(0o777)
    program.symlink_to("../../../home/alice/program")

    assert str(refused_before_anything(host, systemd)).startswith("/home/alice: can be changed")


def test_a_program_that_a_service_cannot_see_is_named(host: Host, systemd: FakeSystemd) -> None:
    (host.root / "opt").chmod(0o750)

    assert str(refused_before_anything(host, systemd)).endswith("chmod o+rx /opt")


def test_a_program_that_is_not_there_is_named(host: Host, systemd: FakeSystemd) -> None:
    (host.root / PROGRAM.relative_to("/")).unlink()

    assert str(refused_before_anything(host, systemd)).startswith(f"{PROGRAM}: does not exist")


def test_uninstall_takes_back_what_was_made_and_keeps_what_is_not_its_own(
    host: Host, systemd: FakeSystemd
) -> None:
    installed(host)
    mine = host.root / WRITTEN / f"{SERVICE}.d/mine.conf"
    mine.parent.mkdir()
    mine.write_text("[Service]\n")

    left = uninstall(host, purge=False, say=lambda _: None)

    assert left == [CONFIG]
    assert [name for name in tree(host.root) if name.startswith(WRITTEN)] == [
        f"{WRITTEN}/{SERVICE}.d/mine.conf"
    ]
    assert (systemd.enabled, systemd.active) == (set(), set())


def test_purge_leaves_nothing(host: Host) -> None:
    before = tree(host.root)
    installed(host)
    for folder in ("var/lib/private/namespace-broker", "run/namespace-broker"):
        (host.root / folder).mkdir(parents=True)
    link = host.root / "var/lib/namespace-broker"
    link.symlink_to("private/namespace-broker")

    left = uninstall(host, purge=True, say=lambda _: None)

    assert left == []
    assert tree(host.root) == before
    assert not link.is_symlink()
    assert not (host.root / "var/lib/private/namespace-broker").exists()


def test_uninstall_where_nothing_is_does_nothing(host: Host, systemd: FakeSystemd) -> None:
    assert uninstall(host, purge=False, say=lambda _: None) == []
    assert [line for line in systemd.told if not line.startswith("reset-failed")] == []
