"""What stands before the broker in files below ``~/.aws``, and the settings that stay."""

import os
from pathlib import Path

import pytest

from broker.cli.environment import container_variables
from broker.cli.isolation import isolated, standing_before
from tests.support.fake_broker import CLIENT, Cli, FakeBroker

CONFIG = """\
# of this team
[default]
region = eu-central-1
role_arn = arn:aws:iam::123456789012:role/other
source_profile = base
s3 =
    max_concurrent_requests = 20
    addressing_style = path

[profile work]
region = us-west-2
sso_session = mine
retry_mode = adaptive

[profile base]
aws_access_key_id = AKID
aws_secret_access_key = secret-of-base
region = eu-west-1

[sso-session mine]
sso_region = us-east-1
sso_start_url = https://example.com

[services local]
s3 =
  endpoint_url = http://127.0.0.1:9000
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(CONFIG)
    return tmp_path


def test_the_settings_of_the_profile_in_use_become_the_default_ones(home: Path) -> None:
    aside = standing_before({"HOME": str(home), "AWS_PROFILE": "work"})

    assert aside.variables == ["AWS_PROFILE"]
    assert aside.places == [f"[{name}] in {home}/.aws/config" for name in ("work", "default")]
    assert aside.config is not None
    default, _, others = aside.config.partition("\n\n")
    assert default == "[default]\nregion = us-west-2\nretry_mode = adaptive"
    assert "role/other" not in aside.config
    assert "[profile base]\nregion = eu-west-1\n" in others
    assert "[sso-session mine]\nsso_region = us-east-1\n" in others
    assert "[services local]\ns3 =\n  endpoint_url = http://127.0.0.1:9000\n" in others


def test_nested_settings_stay_and_keys_are_never_copied(home: Path) -> None:
    config = standing_before({"HOME": str(home)}).config

    assert config is not None
    assert "s3 =\n    max_concurrent_requests = 20\n    addressing_style = path\n" in config
    assert "secret-of-base" not in config


@pytest.mark.parametrize("text", ["", "[default]\nregion = eu-central-1\n", "no section", "[", "="])
def test_files_without_another_identity_stay_as_they_are(home: Path, text: str) -> None:
    (home / ".aws/config").write_text(text)

    aside = standing_before({"HOME": str(home)})

    assert (str(aside), aside.config, aside.credentials) == ("", None, False)
    assert isolated(aside, {}).set == {}


def test_files_named_by_variables_are_looked_at(home: Path) -> None:
    elsewhere = home / "elsewhere"
    elsewhere.write_text("[default]\naws_access_key_id = AKID\n")

    aside = standing_before({"HOME": "/none", "AWS_SHARED_CREDENTIALS_FILE": str(elsewhere)})

    assert aside.places == [f"[default] in {elsewhere}"]
    assert isolated(aside, {}).set == {"AWS_SHARED_CREDENTIALS_FILE": os.devnull}


def test_env_warns_of_what_comes_before_and_with_isolate_hides_it(
    cli: Cli, fake: FakeBroker
) -> None:
    (cli.home / ".aws").mkdir()
    (cli.home / ".aws/credentials").write_text("[default]\naws_access_key_id = AKID\n")

    warned = cli.run("env")
    hidden = cli.run("env", "--isolate")
    in_container = cli.run("env", "--for", "docker")

    assert warned.stderr == (
        f"namespace-broker: warning: AWS clients use [default] in {cli.home}/.aws/credentials"
        " before the broker; add --isolate\n"
    )
    assert "AWS_SHARED_CREDENTIALS_FILE" not in warned.stdout
    assert "export AWS_SHARED_CREDENTIALS_FILE='/dev/null'\n" in hidden.stdout
    assert (hidden.stderr, in_container.stderr) == ("", "")


def test_without_a_token_file_of_ours_another_brokers_is_taken_away() -> None:
    variable = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"

    variables = container_variables(CLIENT, role=None, token_file=None, environ={})

    assert variable not in variables.over({variable: "/of/another/broker"})
