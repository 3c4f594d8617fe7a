"""Every live lease as one document, for our next process to begin with. Knows not who keeps it."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any, Final

from broker.credentials import AwsCredentials, IdToken, NamespaceToken
from broker.keeper import Keeper
from broker.lease import Lease, NotReady

VERSION = 1

KINDS: Final[Mapping[str, type[AwsCredentials | IdToken | NamespaceToken]]] = {
    "aws": AwsCredentials,
    "id-token": IdToken,
    "namespace-token": NamespaceToken,
}


class Unreadable(ValueError):
    """The document is none of ours, or of another version; the text never holds what it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One lease, and how it was bought: only who would buy it the same way may go on with it.

    ``in_doubt``: its last renewal failed, so that it is to be renewed at once.
    """

    fingerprint: str
    lease: Lease[Any]
    in_doubt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLeases:
    """Leases by name. Of several documents the one with the highest ``serial`` is the newest."""

    serial: int = 0
    leases: Mapping[str, Kept] = field(default_factory=dict)


def held_by(
    keepers: Iterable[Keeper[Any]], fingerprints: Mapping[str, str], *, serial: int, now: datetime
) -> KeptLeases:
    """Return what *keepers* hold that still lives."""
    leases: dict[str, Kept] = {}
    for keeper in keepers:
        try:
            lease = keeper.current(now=now)
        except NotReady:
            continue
        leases[keeper.name] = Kept(
            fingerprint=fingerprints[keeper.name],
            lease=lease,
            in_doubt=keeper.status(now=now).error is not None,
        )
    return KeptLeases(serial=serial, leases=leases)


def given_back(
    kept: KeptLeases,
    keepers: Iterable[Keeper[Any]],
    fingerprints: Mapping[str, str],
    *,
    is_in_doubt: Callable[[str], bool],
    now: datetime,
) -> list[str]:
    """Have each of *keepers* that has none yet begin with its live lease, and return their names.

    One that was bought in another way is left. *is_in_doubt* says of which keepers, by name, the
    lease is to be renewed at once all the same, as is one from the future: a clock moved.
    """
    restored = []
    for keeper in keepers:
        found = kept.leases.get(keeper.name)
        if found is None or found.fingerprint != fingerprints.get(keeper.name):
            continue
        if not found.lease.is_live(now=now):
            continue
        early = found.in_doubt or found.lease.issued_at > now or is_in_doubt(keeper.name)
        keeper.restore(found.lease, renew=early)
        restored.append(keeper.name)
    return restored


def newest(
    documents: Mapping[str, bytes], *, warn: Callable[[str], None]
) -> tuple[str | None, KeptLeases]:
    """Return the newest of *documents*, and by which name it was found; *warn* is told of one that
    cannot be read. Where there is none, nothing was kept."""
    found: list[tuple[str | None, KeptLeases]] = [(None, KeptLeases())]
    for name, document in documents.items():
        try:
            found.append((name, read(document)))
        except Unreadable as error:
            warn(f"the leases kept as {name} are left, and obtained anew: {error}")
    return max(found, key=lambda each: each[1].serial)


def written(kept: KeptLeases) -> bytes:
    """Return *kept* as a document. It holds the secrets themselves."""
    leases = [
        {
            "name": name,
            "fingerprint": each.fingerprint,
            "in_doubt": each.in_doubt,
            "kind": _kind_of(each.lease.value),
            "value": asdict(each.lease.value),
            "issued_at": each.lease.issued_at.isoformat(),
            "expires_at": each.lease.expires_at and each.lease.expires_at.isoformat(),
        }
        for name, each in kept.leases.items()
    ]
    return json.dumps({"version": VERSION, "serial": kept.serial, "leases": leases}).encode()


def read(document: bytes) -> KeptLeases:
    """Return what `written` made a document of.

    Raises:
        Unreadable: It is something else.
    """
    try:
        found = json.loads(document)
        version = found["version"]
        if version != VERSION:
            raise Unreadable("they were written by another version of the broker")
        leases = {each["name"]: _kept_from(each) for each in found["leases"]}
        return KeptLeases(serial=int(found["serial"]), leases=leases)
    except Unreadable:
        raise
    # From None: the error beneath may show what it stumbled over.
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError):
        raise Unreadable("they are not what a broker writes") from None


def _kept_from(found: Mapping[str, Any]) -> Kept:
    kind, value, expires_at = KINDS[found["kind"]], found["value"], found["expires_at"]
    lease = Lease(
        value=kind(**_texts(value, of=kind)),
        issued_at=_instant(found["issued_at"]),
        expires_at=None if expires_at is None else _instant(expires_at),
    )
    return Kept(
        fingerprint=str(found["fingerprint"]), lease=lease, in_doubt=bool(found["in_doubt"])
    )


def _texts(value: Mapping[str, Any], *, of: type[Any]) -> Mapping[str, Any]:
    optional = {each.name for each in fields(of) if each.default is None}
    for name, text in value.items():
        if not isinstance(text, str) and (text is not None or name not in optional):
            raise ValueError
    return value


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError
    return at


def _kind_of(value: object) -> str:
    return next(kind for kind, of in KINDS.items() if type(value) is of)
