"""Our unit files, and what an installation adds to them. Writes none."""

from pathlib import Path

from broker.installer import places

PACKAGE = Path(__file__).parent.parent
MARK = "# Written by `namespace-broker install`; to change it: systemctl edit"


def unit_files(program: str) -> dict[str, str]:
    """Return each unit's name and text, for a program that is at *program*."""
    folder = shipped()
    return {
        name: f"{MARK} {name}\n" + (folder / name).read_text().replace(str(places.PROGRAM), program)
        for name in places.UNITS
    }


def shipped() -> Path:
    """Return where the unit files are: in the package, or beside it in a checkout."""
    packaged = PACKAGE / "units"
    return packaged if packaged.is_dir() else PACKAGE.parent / "systemd"


def drop_ins(*, token_file: Path | None, token_spec: Path | None) -> dict[str, str]:
    """Return what is added to units, by unit: the identity that only root may read, where it is
    not where a Namespace machine has it."""
    added: dict[str, str] = {}
    if token_file is not None and token_file != places.TOKEN_SOURCE:
        added[places.TOKEN_PATH] = f"[Path]\nPathChanged=\nPathChanged={escaped(token_file)}\n"
        added[places.TOKEN_SERVICE] = (
            f'[Service]\nEnvironment="NSC_TOKEN_FILE={escaped(token_file)}"\n'
        )
    if token_spec is not None:
        added[places.SERVICE] = (
            f"[Service]\nLoadCredential={places.SPEC_CREDENTIAL.name}:{escaped(token_spec)}\n"
        )
    return {name: f"{MARK} {name}\n{text}" for name, text in added.items()}


def escaped(path: Path) -> str:
    """Return a path as unit files want it: ``%`` begins a specifier there."""
    return str(path).replace("%", "%%")
