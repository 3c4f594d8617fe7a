"""The configuration file: found and read, or one line that says why not."""

import os
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.config import ConfigError, Flags, load, model
from broker.config.file import INTERNAL, MAX_BYTES
from broker.config.load import CONTAINER_ADDRESS, OPS_ADDRESS
from tests.support.config import ARN, NO_FILE, ROLE, Given


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"region = ", "config.toml: is not TOML: "),
        (b'region = "x"\nroles = [[[\n', "config.toml: is not TOML: "),
        (b'\n  region "x"', "config.toml:2:10: is not TOML: Expected '=' after a key"),
        (b"a = 1\na = 2\n", "config.toml:2:6: is not TOML: Cannot overwrite a value"),
        (b'region = "\xff"', "config.toml:1:11: is not UTF-8; save the file as UTF-8"),
        (b"# fine\n\n\xc3(", "config.toml:3:1: is not UTF-8; "),
        (b"a = " + b"[" * 5000, "config.toml: is nested too deep; write tables as [a.b]"),
        (b"a = " + b"9" * 5000, "config.toml: is not TOML: Exceeds the limit"),
        (b"#" * (MAX_BYTES + 1), "config.toml: is larger than 1 MiB; is it the right file?"),
        (b"\x00" * 100, "config.toml:1:1: is not TOML: Invalid statement; correct this line"),
        (b"<html></html>", "config.toml:1:1: is not TOML: Invalid statement; correct this line"),
    ],
)
def test_what_is_no_toml_is_shown_by_line_and_column(
    given: Given, content: bytes, error: str
) -> None:
    assert given.error(content).startswith(error)


def test_a_byte_order_mark_and_crlf_are_fine(given: Given) -> None:
    content = b"\xef\xbb\xbf" + ROLE.replace("\n", "\r\n").encode()

    assert given.load(content).default_role == "deploy"


def test_a_file_that_was_named_must_be_there(given: Given) -> None:
    by_flag = given.error(flags={"config": f"{given.folder}/none.toml"})
    by_environment = given.error(environ={"NAMESPACE_BROKER_CONFIG": str(given.folder)})

    assert by_flag == ("none.toml: cannot be read (No such file or directory); give --config FILE")
    assert "cannot be read (Is a directory)" in by_environment


def test_the_systems_file_is_read_where_it_is_there(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(ROLE)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}

    without = load(Flags(role_arns=(f"one={ARN}",)), environ, system_file=tmp_path / "none")
    with_it = load(Flags(role_arns=(f"one={ARN}",)), environ, system_file=file)
    named = load(Flags(config="/dev/null", role_arns=(f"one={ARN}",)), environ, system_file=file)

    assert [len(config.roles) for config in (without, with_it, named)] == [1, 2, 1]


REFERENCE = Path(__file__).parents[2] / "docs" / "config.toml"


def test_the_reference_configuration_loads(tmp_path: Path) -> None:
    config = load(
        Flags(config=str(REFERENCE)), {"XDG_RUNTIME_DIR": str(tmp_path)}, system_file=NO_FILE
    )

    assert [role.role.name for role in config.roles] == ["deploy", "audit"]
    assert [token.identity for token in config.namespace_tokens] == ["aws"]
    assert [token.name for token in config.id_tokens] == ["other"]
    assert len(config.rules) == 8
    assert config.warnings[1:] == ()


def test_the_reference_configuration_has_every_key() -> None:
    commented_in = "\n".join(
        line[1:] if line.startswith("#") and line[1:2].isalpha() else line
        for line in REFERENCE.read_text().splitlines()
    )
    document = tomllib.loads(commented_in)

    for path, table in TABLES.items():
        found = document
        for step in path.split("."):
            found = found.get(step, {}) if step else found
        assert set(keys_in(found)) == set(keys_of(table)), path
    sources = {table.get("source", "auto"): set(table) for table in document["identities"].values()}
    for source, kind in model.IDENTITY_SOURCES.items():
        assert sources.get(source, {"source"}) - {"source"} <= set(keys_of(kind))
    assert set().union(*sources.values()) == {"source"}.union(
        *map(keys_of, model.IDENTITY_SOURCES.values())
    )


def test_the_reference_configuration_shows_the_defaults() -> None:
    document = tomllib.loads(REFERENCE.read_text())
    role = document["roles"]["deploy"]
    sts, pool = (document["identities"][name] for name in ("aws", "pool"))

    shown: list[tuple[type[msgspec.Struct], dict[str, object], tuple[str, ...]]] = [
        (model.GuardConfig, document["guard"], tuple(document["guard"])),
        (model.LogConfig, document["log"], tuple(document["log"])),
        (model.ImdsConfig, document["imds"], ("v1",)),
        (model.RoleTable, role, ("identity", "audience", "duration_s")),
        (model.IdTokenConfig, document["id_tokens"]["other"], ("identity",)),
        (model.StsIdentityConfig, sts, ("audience", "algorithm", "duration_s")),
        (model.CognitoIdentityConfig, pool, ("developer_provider",)),
    ]
    for table, values, keys in shown:
        defaults = {field.name: field.default for field in msgspec.structs.fields(table)}
        listed = {
            key: list(value) if isinstance(value := defaults[key], tuple) else value for key in keys
        }
        assert {key: values[key] for key in keys} == listed, table
    for surface, address in (("container", CONTAINER_ADDRESS), ("ops", OPS_ADDRESS)):
        assert document[surface]["listen"] == [str(address)]


def keys_of(table: type[msgspec.Struct]) -> list[str]:
    return [
        field.name
        for field in msgspec.structs.fields(table)
        if INTERNAL not in getattr(field.type, "__metadata__", ())
    ]


def keys_in(found: object) -> set[str]:
    """Return the keys of a table, or of all tables of a list."""
    if isinstance(found, list):
        return set().union(*found)
    return set(found) if isinstance(found, dict) else set()


TABLES: dict[str, type[msgspec.Struct]] = {
    "": model.File,
    "roles.deploy": model.RoleTable,
    "namespace_tokens.aws": model.NamespaceTokenConfig,
    "id_tokens.other": model.IdTokenConfig,
    "imds": model.ImdsConfig,
    "container": model.ContainerTable,
    "ops": model.OpsTable,
    "rules": model.RuleTable,
    "audit": model.AuditConfig,
    "guard": model.GuardConfig,
    "log": model.LogConfig,
}


WORDS = [
    "default_role", "region", "identities", "roles", "imds", "container", "ops", "guard", "log",
    "deploy", "arn", "identity", "duration_s", "policy", "policy_arns", "listen", "source", "path",
    "availability_zone", "allowed_hosts", "v1", "header_timeout_s", "x", "ключ", "",
    "workspace", "identity_pool", "algorithm", "profile", "namespace_tokens", "id_tokens", "file",
    "audience", "http", "default", "rules", "who", "any_local", "uid", "user", "cidr", "token",
    "exe", "tags", "tokens", "audit", "to", "id_token_audiences",
]  # fmt: skip
SCALARS = st.one_of(
    st.none().map(lambda _: ARN),
    st.sampled_from(
        ["max", "auto", "default", "deploy", "off", "127.0.0.1:0", "eu-west-1", "sts", "cognito"]
    ),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(max_size=20),
    st.dates(),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=4)
    ),
    max_leaves=12,
)


def toml(value: object) -> str:
    """Write *value* as TOML, all in one line."""
    match value:
        case dict():
            inside = ", ".join(f"{toml(str(key))} = {toml(entry)}" for key, entry in value.items())
            return f"{{{inside}}}"
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case bool():
            return str(value).lower()
        case str():
            return '"' + "".join(f"\\U{ord(character):08X}" for character in value) + '"'
        case float() | int():
            return repr(value)
    return str(value)


def outcome(folder: Path, content: bytes) -> str:
    """Return what is wrong with a file of that content; empty where nothing is."""
    file = folder / "config.toml"
    file.write_bytes(content)
    flags = Flags(config=str(file), role_arns=(ARN,))
    try:
        load(flags, {"XDG_RUNTIME_DIR": str(folder)}, system_file=NO_FILE)
    except ConfigError as error:
        return str(error)
    return ""


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=6))
def test_any_toml_is_a_configuration_or_one_line_that_says_why_not(
    tmp_path: Path, document: dict[str, object]
) -> None:
    text = "".join(f"{toml(key)} = {toml(value)}\n" for key, value in document.items())

    error = outcome(tmp_path, text.encode())

    assert error.isascii()
    assert not error or error.isprintable()
    assert len(error) < 1000


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_configuration_or_one_line_that_says_why_not(
    tmp_path: Path, content: bytes
) -> None:
    assert "\n" not in outcome(tmp_path, content)


def test_an_unreadable_file_of_the_system_is_not_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.symlink_to(tmp_path / "gone")

    with pytest.raises(ConfigError, match=r"config\.toml: cannot be read"):
        load(Flags(), {"XDG_RUNTIME_DIR": os.fspath(tmp_path)}, system_file=file)
