"""Could somebody without a grant read the identity itself? Looks at modes; changes nothing."""

from collections.abc import Iterable, Iterator
from pathlib import Path

OTHERS_READ, OTHERS_PASS = 0o004, 0o001
GROUP_READS = 0o040


def exposed(paths: Iterable[Path]) -> Iterator[str]:
    """Yield a sentence for each file that other users of this host can read: whoever has the
    Namespace token needs no grant of ours."""
    for path in paths:
        try:
            mode = path.stat().st_mode & 0o777
            reachable = all(above.stat().st_mode & OTHERS_PASS for above in path.absolute().parents)
        except OSError:
            continue
        if mode & OTHERS_READ and reachable:
            yield (
                f"{path} can be read by every user of this host ({mode:04o}), and whoever reads it "
                f"needs no grant here; chmod 0600 it, or its directory 0700"
            )
        elif mode & GROUP_READS:
            yield (
                f"{path} can be read by its group ({mode:04o}), whose members then need no grant "
                f"here; chmod 0600 it, unless that is meant"
            )
