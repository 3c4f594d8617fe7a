"""A host in a folder, and a systemd that does what it is told."""

from collections.abc import Callable, Sequence
from pathlib import Path

from broker.installer.config_text import Allowed, Desired, Identity
from broker.installer.host import Host
from broker.installer.install import Installed, install, planned
from broker.installer.systemctl import Ended, Systemctl
from broker.installer.units import SERVICE, SOCKETS, TOKEN_SOURCE

PROGRAM = Path("/opt/namespace-broker/bin/namespace-broker")
ARN = "arn:aws:iam::123456789012:role/deploy"

DONE, FAILED = Ended(0, "", ""), Ended(1, "", "")


class FakeSystemd:
    """Knows which units are enabled and active; starts what it is told, but for what *fails*."""

    def __init__(self) -> None:
        self.version = 252
        self.enabled: set[str] = set()
        self.active: set[str] = set()
        self.failed: set[str] = set()
        self.fails: dict[str, str] = {}
        """Units that cannot be started, and what their programs say of it."""
        self.told: list[str] = []
        """What it was told to change, one line each."""

    def run(self, argv: Sequence[str]) -> Ended:
        program, word, *units = argv
        if program == "journalctl":
            return Ended(0, self._journal(units[-1]), "")
        units = [unit for unit in units if not unit.startswith("--")]
        if word in ("--version", "show") or word.startswith("is-"):
            return self._shown(word, units)
        return self._changed(word, units)

    def _shown(self, word: str, units: list[str]) -> Ended:
        match word:
            case "--version":
                return Ended(0, f"systemd {self.version} (252.1-1)\n+PAM\n", "")
            case "is-enabled":
                return DONE if units[0] in self.enabled else FAILED
            case "is-failed":
                return DONE if units[0] in self.failed else FAILED
            case "show":
                return Ended(0, f"newest start of {units[0]}\n", "")
            case "is-active":
                return DONE if units[0] in self.active else FAILED
        raise AssertionError(word)

    def _changed(self, word: str, units: list[str]) -> Ended:
        self.told.append(" ".join([word, *units]))
        match word:
            case "enable":
                self.enabled |= set(units)
            case "disable":
                self.enabled -= set(units)
            case "start" | "restart":
                return self._started(units)
            case "stop":
                self.active -= set(units)
        return DONE

    def _journal(self, match: str) -> str:
        """Return what the newest start of a unit left, of its program or of systemd."""
        field, _, invocation = match.partition("=")
        unit = invocation.removeprefix("newest start of ")
        is_own = field == "_SYSTEMD_INVOCATION_ID" and not unit.endswith(".socket")
        is_systemds = field == "INVOCATION_ID" and unit.endswith(".socket")
        return self.fails.get(unit, "") if is_own or is_systemds else ""

    def _started(self, units: list[str]) -> Ended:
        waited_for = SOCKETS if SERVICE in units else ()
        for unit in (*waited_for, *units):
            self.failed.discard(unit)
            if unit in self.fails:
                self.failed.add(unit)
                return Ended(1, "", f"Job for {unit} failed.\nSee the journal.\n")
            self.active |= {unit, *(SOCKETS if unit == SERVICE else ())}
        return DONE


def host_in(
    root: Path,
    systemd: FakeSystemd,
    *,
    uid: int = 0,
    answers: Callable[[str], bool] = lambda _: False,
    why_not_ready: Callable[[], str | None] = lambda: None,
    import_path: Sequence[Path] = (),
) -> Host:
    """Return a host whose files are in *root*, with our program on it."""
    for folder in ("opt/namespace-broker/bin", "run/systemd/system", "etc/systemd/system"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    program = root / PROGRAM.relative_to("/")
    program.touch()
    for place in (program, *program.parents):
        if place.is_relative_to(root):
            place.chmod(0o755)
    return Host(
        root=root,
        uid=uid,
        program=PROGRAM,
        interpreter=PROGRAM,
        systemctl=Systemctl(systemd.run),
        is_user=lambda name: name in ("root", "alice"),
        answers=answers,
        why_not_ready=why_not_ready,
        import_path=lambda: import_path,
    )


def wanted(
    *users: str, region: str | None = "eu-central-1", identity: Identity | None = None
) -> Desired:
    """Return what flags want that allow *users*; every user, where none is named."""
    return Desired(
        roles={"deploy": ARN},
        allowed=Allowed(users=users, any_local=not users),
        identity=identity or Identity(kind="token-file", path=TOKEN_SOURCE),
        region=region,
    )


def installed(host: Host, what: Desired | None = None) -> Installed:
    return install(planned(what or wanted(), host), host, say=lambda _: None)


def tree(root: Path) -> dict[str, str]:
    """Return every file in a folder, with its text."""
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }
