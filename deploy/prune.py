"""Remove from an installed environment what a running broker never reads.

``python3 deploy/prune.py SITE_PACKAGES``: for the image and the Debian package, which nobody
installs anything into afterwards. Prints the sizes before and after. Running it again changes
nothing.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

AWS_SERVICES = (
    "sts",
    "iam",
    "cognito-identity",
    # The standard credential chain signs in by these, for a profile of `aws configure sso` or
    # `aws login`. Source: aws-api 2.
    "sso",
    "sso-oidc",
    "signin",
)
"""Whose API botocore must know. The other four hundred are most of what it weighs."""

INSTALLERS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "wheel")

OWN_TESTS = ("tests", "test")

FOR_COMPILERS = (".c", ".h", ".pxd", ".pxi", ".pyi", ".pyx")
"""Sources of what is compiled already, and types: read when building or checking, not at run
time."""

OF_THE_INSTALLATION = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json")
"""True of the tree as pip left it, on the machine that built it. Licences and METADATA stay."""


def superfluous(site_packages: Path) -> Iterator[Path]:
    """Yield what can go, folders before what is in them."""
    yield from site_packages.glob("distutils-precedence.pth")
    for name in INSTALLERS:
        yield site_packages / name
        yield from site_packages.glob(f"{name.replace('-', '_')}-*.dist-info")
    for model in (site_packages / "botocore" / "data").glob("*/"):
        if model.name not in AWS_SERVICES:
            yield model
    yield from (site_packages / "botocore" / "data").glob("*/*/examples-1.json*")
    for package in site_packages.glob("*/"):
        yield from (package / name for name in OWN_TESTS)
        if package.name.endswith(".dist-info"):
            yield from (package / name for name in OF_THE_INSTALLATION)
    for path in site_packages.rglob("*"):
        if path.suffix in FOR_COMPILERS or path.name == "__pycache__":
            yield path


def prune(site_packages: Path) -> None:
    """Remove it from *site_packages*.

    Raises:
        FileNotFoundError: botocore is not there, so it is no environment of the broker's.
    """
    if not (site_packages / "botocore" / "data").is_dir():
        raise FileNotFoundError(
            f"{site_packages} has no botocore/data; give a site-packages folder"
        )
    for path in list(superfluous(site_packages)):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def size_mb(folder: Path) -> float:
    """Return what the files below *folder* hold, in MB (10^6 bytes)."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("prune: give one folder: .../site-packages", file=sys.stderr)
        return 2
    site_packages = Path(arguments[0])
    before_mb = size_mb(site_packages)
    try:
        prune(site_packages)
    except OSError as error:
        print(f"prune: {error}", file=sys.stderr)
        return 1
    print(f"prune: {site_packages}: {before_mb:.0f} MB -> {size_mb(site_packages):.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
