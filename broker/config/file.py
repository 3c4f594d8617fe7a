"""Read the configuration file into structs, and say where it is wrong."""

import difflib
import json
import re
import tomllib
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from broker.config.errors import ConfigError, shown

T = TypeVar("T", bound=msgspec.Struct)

SYSTEM_FILE = Path("/etc/namespace-broker/config.toml")
MAX_BYTES = 1 << 20

INTERNAL = "internal"
"""Marks a field of a struct that is not a key of its table."""

UNIONS = (Union, types.UnionType)


@dataclass(frozen=True, slots=True)
class Parsed:
    """How the value in the file becomes the field's: of type *raw*, then through *parse*.

    *parse* takes the value and ``place``. *next_step* is for an error about a missing key.
    """

    raw: Any
    parse: Callable[..., Any]
    next_step: str | None = None


def config_file(flag: str | None, environ: Mapping[str, str], *, system_file: Path) -> Path | None:
    """Return the file to read: the flag's, the environment's, the system's if it exists."""
    if named := flag or environ.get("NAMESPACE_BROKER_CONFIG"):
        return Path(named)
    try:
        system_file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        pass  # it may exist: reading it says what is wrong
    return system_file


def read_file(path: Path) -> dict[str, Any]:
    """Return the file's content as tables and values.

    Raises:
        ConfigError: Unreadable, over 1 MiB, not UTF-8, or not TOML; with line and column.
    """
    content = text_of(read_bounded(path), path)
    try:
        return tomllib.loads(content)
    except RecursionError as error:
        raise ConfigError(str(path), "is nested too deep", "write tables as [a.b]") from error
    except ValueError as error:
        raise _not_toml(path, str(error)) from error


def read_bounded(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except PermissionError as error:
        raise ConfigError(
            str(path), "may not be read by this user", "give another by --config FILE"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is no file name"
        raise ConfigError(str(path), f"cannot be read ({reason})", "give --config FILE") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(str(path), "is larger than 1 MiB", "is it the right file?")
    return content


def text_of(content: bytes, path: Path) -> str:
    try:
        # TOML's newlines are LF and CRLF; a byte order mark is what some editors leave.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise ConfigError(
            f"{path}:{line}:{column}", "is not UTF-8", "save the file as UTF-8"
        ) from error


def _not_toml(path: Path, message: str) -> ConfigError:
    found = re.fullmatch(r"(?P<what>.*) \(at line (?P<line>\d+), column (?P<column>\d+)\)", message)
    if found is None:
        what = message.removesuffix(" (at end of document)")
        return ConfigError(f"{path}", f"is not TOML: {what}", "see the end of the file")
    place = f"{path}:{found['line']}:{found['column']}"
    return ConfigError(place, f"is not TOML: {found['what']}", "correct this line")


def below(place: str, name: str) -> str:
    """Return the path of a key in TOML's own spelling: quoted where it must be."""
    key = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name[:100])
    return f"{place}.{key}" if place else key


def read(
    kind: type[T],
    table: object,
    *,
    place: str,
    key_place: Callable[[str], str] | None = None,
    **internal: object,
) -> T:
    """Return *table* as a *kind*; *place* is the path of the table, empty for the file itself.

    *key_place*, instead, returns the place of a key; *internal* are fields that are not keys.

    Raises:
        ConfigError: Not a table, an unknown or a missing key, or a value that is not allowed.
    """
    if not isinstance(table, Mapping):
        raise ConfigError(place, f"is {kind_of(table)}", f"write it as a table: [{place}]")
    at = key_place or (lambda name: below(place, name))
    fields = {each.name: each for each in msgspec.structs.fields(kind)}
    keys = [name for name in fields if INTERNAL not in _notes(fields[name].type)]
    for name in table:
        if name not in keys:
            raise ConfigError(at(name), "unknown key", _suggestion(name, keys))
    for name in keys:
        if fields[name].required and name not in table:
            raise ConfigError(at(name), "is missing", _next_step(fields[name].type))
    values = {name: value_of(value, fields[name].type, at(name)) for name, value in table.items()}
    return kind(**values, **internal)


def value_of(value: object, annotation: Any, place: str) -> Any:
    """Return *value* as a field of that *annotation* holds it.

    Raises:
        ConfigError: It is of another type, or beyond the limits.
    """
    for note in _notes(annotation):
        if isinstance(note, Parsed):
            return note.parse(_converted(value, note.raw, place), place=place)
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return read(annotation, value, place=place)
    if get_origin(annotation) is tuple:
        items = _converted(value, list[str], place)
        each = get_args(annotation)[0]
        return tuple(value_of(item, each, f"{place}[{i}]") for i, item in enumerate(items))
    return _converted(value, annotation, place)


def _converted(value: object, annotation: Any, place: str) -> Any:
    try:
        if value != value:  # nan is beyond every limit
            raise msgspec.ValidationError
        return msgspec.convert(value, annotation)
    except msgspec.ValidationError as error:
        next_step = f"give {_described(annotation)}"
        if _is_of_type(value, _without_limits(annotation)):
            next_step = _next_step(annotation)
        raise ConfigError(place, f"is {kind_of(value)}", next_step) from error


def _is_of_type(value: object, annotation: Any) -> bool:
    try:
        msgspec.convert(value, annotation)
    except msgspec.ValidationError:
        return False
    return True


def _notes(annotation: Any) -> tuple[Any, ...]:
    """Return what annotates a type, or the members of a union."""
    if get_origin(annotation) is Annotated:
        return tuple(annotation.__metadata__)
    if get_origin(annotation) in UNIONS:
        return tuple(note for one in get_args(annotation) for note in _notes(one))
    return ()


def _without_limits(annotation: Any) -> Any:
    if get_origin(annotation) is Annotated:
        return get_args(annotation)[0]
    if get_origin(annotation) in UNIONS:
        return Union[tuple(_without_limits(one) for one in get_args(annotation))]  # noqa: UP007
    return annotation


def _next_step(annotation: Any) -> str:
    """Return what to do about a value beyond the limits, or a missing one."""
    for note in _notes(annotation):
        match note:
            case Parsed(next_step=str(next_step)) | msgspec.Meta(description=str(next_step)):
                return next_step
            case msgspec.Meta(ge=least, le=most) if least is not None:
                return f"give {least} to {most}"
    return f"give {_described(annotation)}"


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known) or 'none'}"


def kind_of(value: object) -> str:
    """Return what a TOML value is, and which, for an error."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float() | str():
            return shown(value)
        case list():
            return "a list"
        case Mapping():
            return "a table"
    return "a date or time"


def _described(annotation: Any) -> str:
    """Return what a key takes, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in UNIONS:
        return " or ".join(_described(one) for one in arguments if one is not type(None))
    if origin is Literal:
        words = [json.dumps(word) for word in arguments]
        return words[0] if len(words) == 1 else "one of " + ", ".join(words)
    if origin is Annotated:
        return _described(arguments[0])
    if origin is list:
        return 'a list of texts, like ["..."]'
    if origin is dict:
        return "a table" if arguments[1] is Any else 'a table of texts, like { name = "..." }'
    words_of = {str: "text in quotes", int: "a whole number", float: "a number"}
    return words_of.get(annotation, "true or false")
