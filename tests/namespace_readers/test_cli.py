"""That our stand-in for nsc reads as nsc does."""

import base64
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.fakes import START
from tests.support.namespace_tokens import bearer_of, jwt_of
from tests.support.nsc import Nsc, WouldMint, decoded_spec
from tests.support.nsc_claims import NotLoggedIn

HOUR = START + timedelta(hours=1)
GOOD = bearer_of(ends_at=HOUR)


def nsc(config: Path, *, older: bool = False, **environ: str) -> Nsc:
    return Nsc(environ=environ, config=config, older=older, now=lambda: START)


def write(path: Path, **members: str) -> Path:
    path.write_text(json.dumps(members))
    return path


def spec_of(**members: str) -> str:
    return base64.b64encode(json.dumps(members).encode()).decode().rstrip("=")


def test_a_spec_goes_before_a_file_and_a_file_before_the_config_directory(tmp_path: Path) -> None:
    named = write(tmp_path / "named.json", bearer_token=GOOD + "file")
    write(tmp_path / "token.json", bearer_token=GOOD + "config")
    spec = spec_of(inline_token=GOOD + "spec")

    by_all = nsc(tmp_path, NSC_TOKEN_SPEC=spec, NSC_TOKEN_FILE=str(named))
    by_file = nsc(tmp_path, NSC_TOKEN_FILE=str(named))

    assert by_all.bearer() == GOOD + "spec"
    assert by_file.bearer() == GOOD + "file"
    assert nsc(tmp_path).bearer() == GOOD + "config"


def test_a_keychain_goes_before_every_variable(tmp_path: Path) -> None:
    (tmp_path / "keychain").mkdir()
    write(tmp_path / "keychain" / "ci.json", bearer_token=GOOD)

    chosen = Nsc(environ={"NSC_TOKEN_SPEC": "!"}, config=tmp_path, keychain="ci", now=lambda: START)

    assert chosen.bearer() == GOOD


def test_the_spec_of_the_contract_is_decoded() -> None:
    spec = "eyJ2ZXJzaW9uIjoidjEiLCJtZXRhZGF0YV91cmwiOiJodHRwOi8vMTI3LjAuMC4xOjgxMjcvbnNjL3YxIn0"

    assert decoded_spec(spec + "\n") == {
        "version": "v1",
        "metadata_url": "http://127.0.0.1:8127/nsc/v1",
    }


@pytest.mark.parametrize("spec", ["e30=", "e3 0", "e30-", "e30_", "e"])
def test_padding_spaces_and_other_alphabets_are_no_spec(spec: str) -> None:
    with pytest.raises(NotLoggedIn, match="token spec"):
        decoded_spec(spec)


@pytest.mark.parametrize(
    ("bearer", "complaint"),
    [
        (bearer_of(ends_at=START), "login token expired"),
        (bearer_of(ends_at=START, prefix="nscw_"), "workload token expired"),
        ("nsct_" + jwt_of({"tenant_id": "ws_1"}), "login token expired"),
        ("nsct_" + jwt_of({"exp": 1e11}, algorithm="ROT13"), "unknown algorithm"),
        ("oidc_" + jwt_of({"exp": 1e11}), "not logged in"),
        (GOOD + "\n.", "three parts"),
        ('{"code":"NotFound"}', "not logged in"),
    ],
)
def test_what_nsc_would_not_use(tmp_path: Path, bearer: str, complaint: str) -> None:
    write(tmp_path / "token.json", bearer_token=bearer)

    with pytest.raises(NotLoggedIn, match=complaint):
        nsc(tmp_path).bearer()


def test_a_quoted_end_is_taken_and_a_revocable_token_is_not_looked_into(tmp_path: Path) -> None:
    quoted = "nsct_" + jwt_of({"exp": str(int(HOUR.timestamp()))})
    write(tmp_path / "token.json", bearer_token=quoted)
    assert nsc(tmp_path).bearer() == quoted

    write(tmp_path / "token.json", bearer_token="nsrt_opaque")
    assert nsc(tmp_path).bearer() == "nsrt_opaque"


def test_an_older_longer_token_in_the_cache_is_preferred_to_a_short_one(tmp_path: Path) -> None:
    write(tmp_path / "token.json", bearer_token=bearer_of(ends_at=START + timedelta(minutes=10)))
    (tmp_path / "token.cache").write_text(GOOD)

    assert nsc(tmp_path).bearer() == GOOD


@pytest.mark.parametrize(
    "cached",
    [bearer_of(ends_at=HOUR, tenant_id="ws_2"), bearer_of(ends_at=START + timedelta(minutes=15))],
)
def test_a_cache_of_another_workspace_or_with_too_little_left_is_not_used(
    tmp_path: Path, cached: str
) -> None:
    short = bearer_of(ends_at=START + timedelta(minutes=10))
    write(tmp_path / "token.json", bearer_token=short)
    (tmp_path / "token.cache").write_text(cached)

    assert nsc(tmp_path).bearer() == short
    assert (tmp_path / "token.cache").read_text() == short


def test_only_older_versions_trip_over_a_bad_cache(tmp_path: Path) -> None:
    write(tmp_path / "token.json", bearer_token=bearer_of(ends_at=START + timedelta(minutes=10)))
    (tmp_path / "token.cache").write_text("half a tok")

    with pytest.raises(NotLoggedIn):
        nsc(tmp_path, older=True).bearer()
    nsc(tmp_path).bearer()


@pytest.mark.parametrize(("ends_at", "raised"), [(HOUR, WouldMint), (START, NotLoggedIn)])
def test_a_session_is_what_is_judged_where_there_is_one(
    tmp_path: Path, ends_at: datetime, raised: type[Exception]
) -> None:
    session = bearer_of(ends_at=ends_at, prefix="st_")
    bearer = bearer_of(ends_at=START + timedelta(minutes=1))
    write(tmp_path / "token.json", session_token=session, bearer_token=bearer)

    with pytest.raises(raised):
        nsc(tmp_path).bearer()
