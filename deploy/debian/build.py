"""Build the Debian package from this checkout, as any user.

``/usr/bin/python3 deploy/debian/build.py``. Needs python3, python3-venv and dpkg-deb. The package
is for this machine's Python and architecture; the same checkout gives the same package again.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path

from papers import NAME, changelog, copyright_of, debian_version, filled

TOP = Path(__file__).resolve().parents[2]
TEMPLATES = Path(__file__).resolve().parent
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"

HOME = Path("usr/lib") / NAME
LIBRARY = HOME / "lib" / PYTHON / "site-packages"
UNITS = Path("lib/systemd/system")
DOC = Path("usr/share/doc") / NAME
COMPLETIONS = {
    "bash": Path("usr/share/bash-completion/completions") / NAME,
    "zsh": Path("usr/share/zsh/vendor-completions") / f"_{NAME}",
    "fish": Path("usr/share/fish/vendor_completions.d") / f"{NAME}.fish",
}

# -I: neither the caller's variables nor its own packages are to decide what a service of root runs.
ENTRY = f"""\
#!/{HOME}/bin/python3 -I
import sys

from broker.cli.main import main

sys.exit(main())
"""

MAINTAINER = "namespace-broker <packages@namespace-broker.invalid>"


class BuildError(Exception):
    """It cannot be built here; says why, and what to do."""


def require_this_machine() -> None:
    """Raise BuildError unless this is the system's Python and has what is needed."""
    if sys.prefix != sys.base_prefix or not sys.executable.startswith("/usr/bin/"):
        raise BuildError("run it by the system's Python: /usr/bin/python3, of no environment")
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        raise BuildError("Python's venv is missing: sudo apt-get install python3-venv") from error
    if shutil.which("dpkg-deb") is None:
        raise BuildError("dpkg-deb is missing: this builds on Debian and Ubuntu only")


def source_epoch_s() -> int:
    """Return when the source was last changed, in seconds since 1970: what every file is dated."""
    if told := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(told)
    git = ["git", "-C", str(TOP), "log", "-1", "--format=%ct"]
    try:
        said = subprocess.run(git, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return int((TOP / "CHANGELOG.md").stat().st_mtime)
    return int(said)


def run(*command: str | Path, **environ: str) -> str:
    """Run a step and return what it prints.

    Raises:
        BuildError: It failed, with the end of what it said.
    """
    done = subprocess.run(
        command, env=os.environ | environ, capture_output=True, text=True, check=False, cwd=TOP
    )
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise BuildError(f"{' '.join(map(str, command[:4]))} ... failed:\n{said}")
    return done.stdout


def install(tree: Path, tools: Path) -> None:
    """Put the broker and what it needs below *tree*, as the two lock files have it."""
    locked = ("--require-hashes", "--only-binary", ":all:", "--no-deps")
    pip = (tools / "bin/python", "-m", "pip", "--disable-pip-version-check", "--quiet")
    target = ("--no-compile", "--target", tree / LIBRARY)

    run(sys.executable, "-m", "venv", tools)
    run(*pip, "install", *locked, "-r", TOP / "deploy/build.lock")
    run(tools / "bin/hatchling", "build", "--target", "wheel", "-d", tools / "dist")
    (wheel,) = (tools / "dist").glob("*.whl")
    run(*pip, "install", *locked, *target, "-r", TOP / "deploy/requirements.lock")
    run(*pip, "install", "--no-index", "--no-deps", *target, wheel)
    shutil.rmtree(tree / LIBRARY / "bin")
    print(run(sys.executable, TOP / "deploy/prune.py", tree / LIBRARY), end="")


def make_environment(tree: Path) -> None:
    """Make a virtual environment of what is installed, on the target's own Python."""
    write(tree / HOME / "bin" / NAME, ENTRY)
    (tree / HOME / "bin/python3").symlink_to(f"/usr/bin/{PYTHON}")
    write(
        tree / HOME / "pyvenv.cfg",
        "home = /usr/bin\ninclude-system-site-packages = false\n"
        f"version = {platform.python_version()}\n",
    )
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin" / NAME).symlink_to(f"../lib/{NAME}/bin/{NAME}")


def compile_library(tree: Path) -> None:
    """Compile it all, so that nobody's first start does, in a way that no file's time decides."""
    how = ("--invalidation-mode", "unchecked-hash", "-s", tree, "-p", "/")
    run(sys.executable, "-m", "compileall", "-q", *how, tree / LIBRARY, PYTHONHASHSEED="0")


def document(tree: Path, tools: Path, *, version: str, maintainer: str, epoch_s: int) -> None:
    """Write the manual page, the completions, and what Debian wants to be told."""

    def printed(*arguments: str | Path) -> str:
        shtab = next(tools.glob("lib/python*/site-packages"))
        path = f"{tree / LIBRARY}:{shtab}"
        return run(sys.executable, "-B", "-P", *arguments, PYTHONPATH=path)

    write(tree / f"usr/share/man/man1/{NAME}.1.gz", printed(TEMPLATES / "manual.py"))
    for shell, path in COMPLETIONS.items():
        shtab = ("-m", "shtab", f"--shell={shell}", f"--prog={NAME}")
        write(tree / path, printed(*shtab, "broker.cli.help.whole"))
    for page in (TOP / "README.md", TOP / "CHANGELOG.md", *sorted((TOP / "docs").glob("*.md"))):
        write(tree / DOC / page.relative_to(TOP), page.read_text())
    write(tree / DOC / "examples/config.toml", (TOP / "docs/config.toml").read_text())
    told = changelog(version, maintainer=maintainer, epoch_s=epoch_s)
    write(tree / DOC / "changelog.gz", told)
    write(tree / DOC / "copyright", copyright_of(bundled(tree), library=f"/{LIBRARY}"))


def bundled(tree: Path) -> Iterator[Message]:
    for path in (tree / LIBRARY).glob("*.dist-info/METADATA"):
        metadata = Parser().parsestr(path.read_text(), headersonly=True)
        if metadata["Name"] != NAME:
            yield metadata


def own_version(tree: Path) -> str:
    (path,) = (tree / LIBRARY).glob("namespace_broker-*.dist-info/METADATA")
    return str(Parser().parsestr(path.read_text(), headersonly=True)["Version"])


def place_units(tree: Path) -> list[str]:
    """Copy the units and return their names."""
    units = sorted(path for path in (TOP / "systemd").iterdir() if path.is_file())
    for unit in units:
        write(tree / UNITS / unit.name, unit.read_text())
    return [unit.name for unit in units]


def describe(tree: Path, facts: dict[str, str]) -> None:
    """Write what dpkg reads: the control file, the scripts, and the sums of all else."""
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    sums = "".join(
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}  "
        f"{path.relative_to(tree)}\n"
        for path in files
    )
    kib = sum(-(-path.stat().st_size // 1024) for path in files)
    control = (TEMPLATES / "control.in").read_text()
    write(tree / "DEBIAN/control", filled(control, facts | {"INSTALLED_KIB": str(kib)}))
    write(tree / "DEBIAN/md5sums", sums)
    for script in ("postinst", "prerm", "postrm"):
        write(tree / "DEBIAN" / script, filled((TEMPLATES / script).read_text(), facts))


def write(path: Path, text: str) -> None:
    """Write one file, packed the same each time where its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    else:
        path.write_text(text)


def settle(tree: Path, epoch_s: int) -> None:
    """Give everything the modes and times that it has on every machine."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            in_bin, in_control = path.parent.name == "bin", path.parent.name == "DEBIAN"
            script = (in_bin or in_control) and path.is_file() and is_script(path)
            path.chmod(0o755 if path.is_dir() or script else 0o644)
        os.utime(path, (epoch_s, epoch_s), follow_symlinks=False)


def is_script(path: Path) -> bool:
    return path.read_bytes()[:2] == b"#!"


def build(into: Path, work: Path) -> Path:
    """Build the package and return where it is.

    Raises:
        BuildError: A step failed.
    """
    require_this_machine()
    epoch_s = source_epoch_s()
    os.environ["SOURCE_DATE_EPOCH"] = str(epoch_s)
    os.umask(0o022)
    shutil.rmtree(work, ignore_errors=True)
    tree, maintainer = work / "tree", os.environ.get("DEB_MAINTAINER", MAINTAINER)

    install(tree, work / "tools")
    version = debian_version(own_version(tree))
    make_environment(tree)
    document(tree, work / "tools", version=version, maintainer=maintainer, epoch_s=epoch_s)
    units = place_units(tree)
    compile_library(tree)
    architecture = run("dpkg", "--print-architecture").strip()
    facts = {
        "VERSION": version,
        "ARCHITECTURE": architecture,
        "MAINTAINER": maintainer,
        "PYTHON": PYTHON,
        "GLIBC": platform.libc_ver()[1],
        "UNITS": " ".join(units),
        "SERVICES": f"{NAME}.service",
    }
    describe(tree, facts)
    settle(tree, epoch_s)

    into.mkdir(parents=True, exist_ok=True)
    package = into / f"{NAME}_{version}_{architecture}.deb"
    run("dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", tree, package)
    shutil.rmtree(work)
    return package


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--into", type=Path, default=TOP / "dist", metavar="FOLDER")
    parser.add_argument("--work", type=Path, default=TOP / "build/deb", metavar="FOLDER")
    said = parser.parse_args()
    try:
        package = build(said.into.resolve(), said.work.resolve())
    except (BuildError, OSError) as error:
        print(f"deb: {error}", file=sys.stderr)
        return 1
    kib = run("dpkg-deb", "--field", package, "Installed-Size")
    size_mb, installed_mb = package.stat().st_size / 1e6, int(kib) * 1024 / 1e6
    print(f"deb: {package}: {size_mb:.1f} MB, {installed_mb:.0f} MB installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
