"""The Debian package: what is in it, that it is made the same twice, and what dpkg does with it."""

import ast
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import broker
from tests.system.machine import Machine, booted, debian, layered
from tests.system.package import ROOT, built, changed, checkout, dpkg, installed, package

LIBRARY = "usr/lib/namespace-broker/lib/python3.11/site-packages"
ORDINARY_UID = 65534
UNCHECKED_HASH = 1
"""What byte code says of itself when it is never compared with its source. Source: PEP 552."""

MB = 1_000_000


@pytest.fixture(scope="module")
def deb() -> Path:
    return package()


@pytest.fixture(scope="module")
def tree(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deb")
    subprocess.run(["dpkg-deb", "--extract", str(deb), str(folder)], check=True)
    return folder


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with layered(debian()) as root, booted(root) as started:
        yield started


def field(deb: Path, name: str) -> str:
    command = ["dpkg-deb", "--field", str(deb), name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def listed(deb: Path) -> list[tuple[str, str, str]]:
    """Return mode, owner and path of everything in it."""
    command = ["dpkg-deb", "--contents", str(deb)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    words = (line.split(maxsplit=5) for line in lines)
    return [(mode, owner, path.partition(" -> ")[0]) for mode, owner, _, _, _, path in words]


# How it is made.


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """Yield a folder that any user can get to; the ones of pytest are its user's alone."""
    with tempfile.TemporaryDirectory(prefix="namespace-broker-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_an_ordinary_user_elsewhere_builds_the_very_same_package(
    deb: Path, open_to_all: Path
) -> None:
    source = checkout(open_to_all / "somewhere else")
    for path in (source, *source.rglob("*")):
        os.chown(path, ORDINARY_UID, ORDINARY_UID)

    again = built(source, uid=ORDINARY_UID)

    assert listed(again) == listed(deb)
    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(deb.read_bytes()).digest()


def test_the_version_is_the_one_of_the_program_and_the_size_is_kept_small(deb: Path) -> None:
    assert field(deb, "Package") == "namespace-broker"
    assert field(deb, "Version") == broker.__version__
    assert deb.stat().st_size < 15 * MB
    # 13.6 MB of it are uvloop, 14.4 MB cryptography.
    assert int(field(deb, "Installed-Size")) * 1024 < 64 * MB


# What is in it.


def test_it_is_all_roots_and_none_but_root_may_write_any_of_it(deb: Path) -> None:
    wrong = [
        (mode, owner, path)
        for mode, owner, path in listed(deb)
        if owner != "root/root" or (mode[0] != "l" and mode[5:] not in ("r-xr-x", "r--r--"))
        if mode not in ("-rwxr-xr-x", "drwxr-xr-x", "-rw-r--r--", "lrwxrwxrwx")
    ]

    assert wrong == []


def test_only_its_program_can_be_run(deb: Path) -> None:
    runnable = [path for mode, _, path in listed(deb) if mode[0] == "-" and "x" in mode]

    assert runnable == ["./usr/lib/namespace-broker/bin/namespace-broker"]


def test_everything_is_where_debian_looks_for_it(tree: Path) -> None:
    units = {path.name for path in (tree / "lib/systemd/system").iterdir()}

    assert {"namespace-broker.service", "namespace-broker.socket"} <= units
    for path in (
        "usr/bin/namespace-broker",
        "usr/share/man/man1/namespace-broker.1.gz",
        "usr/share/bash-completion/completions/namespace-broker",
        "usr/share/zsh/vendor-completions/_namespace-broker",
        "usr/share/fish/vendor_completions.d/namespace-broker.fish",
        "usr/share/doc/namespace-broker/copyright",
        "usr/share/doc/namespace-broker/changelog.gz",
        "usr/share/doc/namespace-broker/examples/config.toml",
    ):
        assert (tree / path).is_file() or (tree / path).is_symlink(), path
    elsewhere = {
        str(path.relative_to(tree))
        for path in tree.glob("*/*")
        if str(path.relative_to(tree)) not in ("lib/systemd", "usr/bin", "usr/lib", "usr/share")
    }
    assert elsewhere == set()


def test_every_unit_starts_the_program_where_it_is(tree: Path) -> None:
    started = {
        command
        for unit in (tree / "lib/systemd/system").iterdir()
        for command in re.findall(r"^Exec\w+=[-+!@:]*(\S+)", unit.read_text(), re.MULTILINE)
        if "namespace-broker" in command
    }

    assert started == {"/usr/bin/namespace-broker"}


def test_neither_installers_nor_tests_nor_other_services_models_are_in_it(tree: Path) -> None:
    library = tree / LIBRARY
    models = {path.name for path in (library / "botocore/data").glob("*/")}

    assert models == {"sts", "iam", "cognito-identity", "sso", "sso-oidc", "signin"}
    for name in ("pip", "setuptools", "boto3", "moto", "pytest", "bin"):
        assert not (library / name).exists(), name
    assert not list(library.glob("*/tests"))


def test_all_of_it_is_compiled_and_what_is_compiled_is_never_looked_at_again(tree: Path) -> None:
    sources = {path for path in (tree / LIBRARY).rglob("*.py") if is_python_3_11(path)}
    compiled = list((tree / LIBRARY).rglob("*.pyc"))

    flags = {int.from_bytes(path.read_bytes()[4:8], "little") for path in compiled}

    assert flags == {UNCHECKED_HASH}
    assert {path.parent.parent / f"{path.name.split('.')[0]}.py" for path in compiled} == sources


def is_python_3_11(path: Path) -> bool:
    try:
        ast.parse(path.read_bytes(), feature_version=(3, 11))
    except SyntaxError:
        return False
    return True


def test_nothing_in_it_tells_where_it_was_built(tree: Path) -> None:
    words = [b"build/deb", str(ROOT).encode() + b"/"]

    telling = [
        (str(path.relative_to(tree)), word)
        for path in tree.rglob("*")
        if path.is_file() and not path.is_symlink() and "share/doc" not in str(path)
        for word in words
        if word in path.read_bytes()
    ]

    assert telling == []
    assert not list(tree.rglob("direct_url.json"))


def test_the_manual_is_formatted_without_a_complaint(tree: Path) -> None:
    page = tree / "usr/share/man/man1/namespace-broker.1.gz"
    command = ["man", "--warnings", "--local-file", str(page)]

    done = subprocess.run(
        command,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "MANWIDTH": "100"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stderr == ""
    assert "namespace-broker exec [FLAGS] -- CMD..." in done.stdout


def test_fish_offers_commands_flags_and_values(tree: Path, tmp_path: Path) -> None:
    file = tree / "usr/share/fish/vendor_completions.d/namespace-broker.fish"

    def offered(line: str) -> set[str]:
        # fish completes what can be run only.
        program = tmp_path / "namespace-broker"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        script = f"set PATH {tmp_path} $PATH; source {file}; complete --do-complete '{line}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", script],
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        return {offer.split("\t")[0] for offer in done.stdout.splitlines()}

    assert {"run", "exec", "env"} <= offered("namespace-broker ")
    assert offered("namespace-broker env --fo") == {"--for"}
    assert offered("namespace-broker setup ") == {"to-aws", "show", "remove", "to-namespace"}
    assert offered("namespace-broker setup show ") == {"to-aws", "to-namespace"}
    assert offered("namespace-broker setup show --via ") == {"sts", "cognito"}
    assert offered("namespace-broker setup to-aws --dr") == {"--dry-run"}
    assert offered("namespace-broker setup --dr") == set()
    assert offered("namespace-broker setup show to-aws --pool") == set()
    assert {"shell", "fish", "credentials-file"} <= offered("namespace-broker env --for ")
    assert "/etc/passwd" in offered("namespace-broker run --config /etc/passw")
    assert "/etc/passwd" in offered("namespace-broker exec --role x -- cat /etc/passw")


def test_zsh_offers_commands_flags_and_values(tree: Path) -> None:
    folder = tree / "usr/share/zsh/vendor-completions"
    program = Path(__file__).with_name("tab.zsh")

    def line_after_tab(line: str) -> str:
        command = ["zsh", "-f", str(program), str(folder), line]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=60
        ).stdout.strip()

    assert line_after_tab("namespace-broker cred") == "namespace-broker credential-process"
    assert line_after_tab("namespace-broker who --p") == "namespace-broker who --pid"
    for begun, whole in (
        ("setup sh", "setup show"),
        ("setup remove to-a", "setup remove to-aws"),
        ("setup to-aws --dr", "setup to-aws --dry-run"),
        ("setup --dr", "setup --dr"),
        ("setup show --vi", "setup show --via"),
        ("setup show --via co", "setup show --via cognito"),
        ("setup show to-aws --pool", "setup show to-aws --pool"),
        ("setup show to-namespace --pool", "setup show to-namespace --pool-name"),
    ):
        assert line_after_tab(f"namespace-broker {begun}") == f"namespace-broker {whole}"
    assert line_after_tab("namespace-broker env --for git") == "namespace-broker env --for github"
    assert (
        line_after_tab("namespace-broker run --config /etc/passw")
        == "namespace-broker run --config /etc/passwd"
    )
    assert (
        line_after_tab("namespace-broker exec --role x -- dpkg-spli")
        == "namespace-broker exec --role x -- dpkg-split"
    )


# What dpkg does with it, on a machine that runs systemd: in this order.

UNITS = ("namespace-broker.service", "namespace-broker.socket", "namespace-broker-token.path")


def files_of_the_library(machine: Machine) -> str:
    return machine.run("find", "/usr/lib/namespace-broker", "-printf", "%p %T@ %s\n").stdout


def test_installed_it_runs_and_has_started_and_enabled_nothing(deb: Path, machine: Machine) -> None:
    installed(machine, deb)
    before = files_of_the_library(machine)

    said = machine.run("namespace-broker", "--version").stdout
    machine.run("namespace-broker", "run", "--help")

    assert said == f"namespace-broker {broker.__version__}\n"
    assert files_of_the_library(machine) == before
    assert dpkg(machine, "--verify", "namespace-broker") == ""
    for unit in UNITS:
        assert machine.systemctl("is-active", unit, check=False) == "inactive"
        assert machine.systemctl("is-enabled", unit, check=False) == "disabled"


def test_it_runs_by_the_systems_python_and_by_no_variable_of_the_caller(machine: Machine) -> None:
    program = "import sys, broker; print(sys.base_prefix, broker.__file__)"
    machine.run("sh", "-c", "mkdir /opt/trap && echo 'raise SystemExit(7)' > /opt/trap/broker.py")

    by = machine.run("/usr/lib/namespace-broker/bin/python3", "-I", "-c", program).stdout.split()
    trapped = machine.run("env", "PYTHONPATH=/opt/trap", "namespace-broker", "--version")

    assert by == ["/usr", f"/{LIBRARY}/broker/__init__.py"]
    assert trapped.returncode == 0


def test_upgraded_the_service_goes_on_in_the_new_version_and_its_sockets_never_close(
    deb: Path, machine: Machine, tmp_path: Path
) -> None:
    # A program of the system's in place of ours: what it does is not in question here.
    machine.write(
        "/etc/systemd/system/namespace-broker.service.d/test.conf",
        "[Service]\nType=exec\nExecStart=\nExecStart=/bin/sleep infinity\nWatchdogSec=0\n",
    )
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "namespace-broker.socket", "namespace-broker.service")
    pid = machine.shows("namespace-broker.service", "MainPID")
    opened_at = machine.shows("namespace-broker.socket", "ActiveEnterTimestampMonotonic")

    installed(machine, changed(deb, tmp_path, version="9.0"))

    assert machine.systemctl("is-active", "namespace-broker.service") == "active"
    assert machine.shows("namespace-broker.service", "MainPID") not in (pid, "0")
    assert machine.shows("namespace-broker.service", "NeedDaemonReload") == "no"
    assert machine.shows("namespace-broker.socket", "ActiveEnterTimestampMonotonic") == opened_at


def test_one_that_was_stopped_stays_stopped_over_an_upgrade(
    deb: Path, machine: Machine, tmp_path: Path
) -> None:
    machine.systemctl("stop", "namespace-broker.service")

    installed(machine, changed(deb, tmp_path, version="9.1"))

    assert machine.systemctl("is-active", "namespace-broker.service", check=False) == "inactive"


def test_removed_it_is_stopped_and_only_the_configuration_stays(machine: Machine) -> None:
    machine.write("/etc/namespace-broker/config.toml", "")
    machine.systemctl("enable", "namespace-broker.socket")
    machine.systemctl("start", "namespace-broker.service")

    dpkg(machine, "--remove", "namespace-broker")

    for unit in UNITS:
        assert machine.systemctl("is-active", unit, check=False) == "inactive"
    assert machine.path("/etc/namespace-broker/config.toml").exists()
    assert "169.254.169.254" not in machine.run("ip", "address", "show", "dev", "lo").stdout
    assert not machine.path("/usr/lib/namespace-broker").exists()
    assert not machine.path(
        "/etc/systemd/system/multi-user.target.wants/namespace-broker.socket"
    ).is_symlink()


def test_purged_nothing_stays_but_what_an_operator_wrote_beside_it(machine: Machine) -> None:
    drop_ins = "/etc/systemd/system/namespace-broker-token.path.d"
    machine.write(f"{drop_ins}/install.conf", "[Path]\n")

    dpkg(machine, "--purge", "namespace-broker")

    left = machine.run(
        *("find", "/etc", "/usr", "/var", "/run", "/lib/systemd", "-xdev"),
        *("-name", "*namespace-broker*", "-not", "-path", "/run/credentials/*"),
    ).stdout.split()
    assert left == ["/etc/systemd/system/namespace-broker.service.d"]
