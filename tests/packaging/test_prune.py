"""What is pruned for image and Debian package is what a broker can do without."""

import ast
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import botocore
import pytest

ROOT = Path(__file__).parents[2]
PRUNE = ROOT / "deploy" / "prune.py"

# Each service's client, and one operation of each as it would be sent, without sending it.
PROGRAM = """
import json, sys
import botocore, botocore.session

class Sent(Exception):
    pass

def stop(request, **_):
    sent.append(request.url)
    raise Sent

sent = []
session = botocore.session.Session()
assert botocore.__file__.startswith(sys.argv[1]), botocore.__file__
for service, operation, parameters in json.loads(sys.argv[2]):
    client = session.create_client(
        service, region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    client.meta.events.register("before-send", stop)
    try:
        getattr(client, operation)(**parameters)
    except Sent:
        pass
print(json.dumps(sent))
"""

POOL = "eu-central-1:00000000-0000-4000-8000-000000000000"
ROLE = "arn:aws:iam::123456789012:role/deploy"
CALLS = [
    (
        "sts",
        "assume_role_with_web_identity",
        {"RoleArn": ROLE, "RoleSessionName": "name", "WebIdentityToken": "token"},
    ),
    ("sts", "assume_role", {"RoleArn": ROLE, "RoleSessionName": "name"}),
    ("sts", "get_web_identity_token", {"Audience": ["one"], "SigningAlgorithm": "ES384"}),
    ("sts", "get_caller_identity", {}),
    (
        "cognito-identity",
        "get_open_id_token_for_developer_identity",
        {"IdentityPoolId": POOL, "Logins": {"namespace.so": "me"}},
    ),
    (
        "cognito-identity",
        "create_identity_pool",
        {"IdentityPoolName": "pool", "AllowUnauthenticatedIdentities": False},
    ),
    ("iam", "get_role", {"RoleName": "deploy"}),
    ("iam", "list_open_id_connect_providers", {}),
    (
        "sso",
        "get_role_credentials",
        {"roleName": "deploy", "accountId": "123456789012", "accessToken": "token"},
    ),
    (
        "sso-oidc",
        "create_token",
        {"clientId": "id", "clientSecret": "secret", "grantType": "refresh_token"},
    ),
    (
        "signin",
        "create_o_auth2_token",
        {"tokenInput": {"clientId": "id", "grantType": "refresh_token", "refreshToken": "token"}},
    ),
]
"""All that we ask of AWS, and what the standard credential chain asks before."""


@pytest.fixture(scope="module")
def site_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment with botocore in it, an installer, and one small package."""
    folder = tmp_path_factory.mktemp("site-packages")
    shutil.copytree(Path(botocore.__file__).parent, folder / "botocore")
    for path in (
        "pip/__init__.py",
        "pip-1.0.dist-info/METADATA",
        "small/__init__.py",
        "small/tests/test_small.py",
        "small/__pycache__/small.pyc",
        "small/fast.c",
        "small/fast.so",
        "small-1.0.dist-info/METADATA",
        "small-1.0.dist-info/RECORD",
        "small-1.0.dist-info/direct_url.json",
        "small-1.0.dist-info/licenses/LICENSE",
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    prune(folder)
    return folder


def prune(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-B", str(PRUNE), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_every_operation_that_is_asked_of_aws_can_still_be_sent(site_packages: Path) -> None:
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "PYTHONPATH": str(site_packages),
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    command = [sys.executable, "-c", PROGRAM, str(site_packages), json.dumps(CALLS)]

    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == len(CALLS)


def services_named() -> Iterator[str]:
    """Yield each service that our own code makes a client of, as botocore names them."""
    known = {path.name for path in (Path(botocore.__file__).parent / "data").glob("*/")}
    for path in (ROOT / "broker").rglob("*.py"):
        if "sandbox" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Call(
                        func=ast.Attribute(attr="create_client" | "client"),
                        args=[ast.Constant(value=str(name)), *_],
                    ):
                        yield name
                    case ast.keyword(arg="service", value=ast.Constant(value=str(name))):
                        if name in known:
                            yield name


def test_what_our_code_makes_clients_of_is_kept(site_packages: Path) -> None:
    kept = {path.name for path in (site_packages / "botocore" / "data").glob("*/")}

    named = set(services_named())

    assert {"sts", "cognito-identity"} <= named
    assert named <= kept


def test_installers_tests_caches_and_sources_go_and_licences_stay(site_packages: Path) -> None:
    others = {path for path in files(site_packages) if not path.startswith("botocore/")}

    assert others == {
        "small/__init__.py",
        "small/fast.so",
        "small-1.0.dist-info/METADATA",
        "small-1.0.dist-info/licenses/LICENSE",
    }


def test_models_that_are_kept_are_whole(site_packages: Path) -> None:
    (model,) = (site_packages / "botocore" / "data" / "sts").glob("*/service-2.json.gz")

    operations = json.loads(gzip.decompress(model.read_bytes()))["operations"]

    assert {"AssumeRoleWithWebIdentity", "GetWebIdentityToken"} <= set(operations)


def test_pruning_again_changes_nothing(site_packages: Path) -> None:
    before = files(site_packages)

    done = prune(site_packages)

    assert done.returncode == 0
    assert files(site_packages) == before


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()

    done = prune(tmp_path)

    assert done.returncode == 1
    assert done.stderr.startswith(f"prune: {tmp_path} has no botocore/data; ")
    assert (tmp_path / "tests").is_dir()
