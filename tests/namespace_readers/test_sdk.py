"""That our stand-in for the SDKs reads as they do."""

import json
from pathlib import Path

import pytest

from tests.support.namespace_sdk import WouldMint, load_defaults
from tests.support.nsc_claims import NotLoggedIn


def write(path: Path, **members: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(members))
    return path


def test_the_variable_goes_before_the_instance_and_that_before_the_config(tmp_path: Path) -> None:
    named = write(tmp_path / "named.json", bearer_token="named")
    instance, config = tmp_path / "run", tmp_path / "config"
    write(config / "token.json", bearer_token="config")

    assert load_defaults({}, config=config, metadata_dir=instance) == "config"
    write(instance / "token.json", bearer_token="instance")
    assert load_defaults({}, config=config, metadata_dir=instance) == "instance"
    by_variable = load_defaults(
        {"NSC_TOKEN_FILE": str(named)}, config=config, metadata_dir=instance
    )
    assert by_variable == "named"


def test_a_legacy_key_is_not_known_and_a_session_is_minted_from(tmp_path: Path) -> None:
    legacy = write(tmp_path / "legacy.json", tenant_token="nsct_x")
    person = write(tmp_path / "person.json", session_token="st_x", bearer_token="nsct_x")

    with pytest.raises(NotLoggedIn):
        load_defaults({"NSC_TOKEN_FILE": str(legacy)}, config=tmp_path)
    with pytest.raises(WouldMint):
        load_defaults({"NSC_TOKEN_FILE": str(person)}, config=tmp_path)
