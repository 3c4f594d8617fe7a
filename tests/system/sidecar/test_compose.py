"""deploy/compose.yaml works with a real Docker engine and Compose v2.

An app of another user has AWS credentials from the broker beside it, and nobody else has.
"""

import pytest

from tests.support.broker_process import until
from tests.system.sidecar.engine import APP_IMAGE, Engine, environment_of
from tests.system.sidecar.project import DEPLOY, NAME, UID, Project, app_once

TOKEN = "/run/namespace-broker-token/container-token"
URI = "http://169.254.170.2/v1/credentials"
KNOWS_ALL = (
    *("--env", f"AWS_CONTAINER_CREDENTIALS_FULL_URI={URI}"),
    *("--env", f"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE={TOKEN}"),
    *("--env", "AWS_ENDPOINT_URL=http://clouds:8002", "--env", "AWS_DEFAULT_REGION=eu-central-1"),
    *("--volume", f"{NAME}_token:/run/namespace-broker-token:ro"),
)
OTHER_NETWORK = "other"
DEFAULT_NETWORK = f"{NAME}_default"
CREDENTIALS_NETWORK = f"{NAME}_credentials"
BOTH = (DEFAULT_NETWORK, CREDENTIALS_NETWORK)
MAY = ("--user=10002:10002", "--group-add=65532")
BY_ANOTHER_WAY = """
import os, subprocess, sys
subprocess.run(["ip", "route", "add", "169.254.170.2/32", "via", sys.argv[1]], check=True)
os.setgroups([65532])
os.setuid(10001)
os.execv(sys.executable, [sys.executable, "/app.py", "once"])
"""


def test_without_an_identity_compose_names_the_variable(engine: Engine) -> None:
    file = ("--file", str(DEPLOY / "compose.yaml"))

    with pytest.raises(AssertionError, match="NAMESPACE_TOKEN_DIR is missing a value"):
        engine.compose(*file, "config", environ={})


def test_an_unmodified_sdk_in_the_app_has_the_role(project: Project) -> None:
    said = project.app_says_more(after=0)

    assert {line["uid"] for line in said} == {10001}
    assert {line["arn"].split("/")[1] for line in said} == {"deploy"}


def test_the_app_is_told_the_region_the_url_and_the_token_file_and_no_more(
    project: Project,
) -> None:
    told = environment_of(project.inspect("app"))

    of_the_proof = {"AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION"}
    assert {name for name in told if name.startswith(("AWS_", "NSC_"))} - of_the_proof == {
        "AWS_REGION",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    }
    assert [mount["Destination"] for mount in project.inspect("app")["Mounts"]] == [
        "/run/namespace-broker-token"
    ]


def test_the_app_starts_when_the_broker_is_ready(project: Project) -> None:
    broker, app = project.inspect("broker"), project.inspect("app")

    first_healthy = next(
        check["End"] for check in broker["State"]["Health"]["Log"] if check["ExitCode"] == 0
    )
    assert broker["State"]["Health"]["Status"] == "healthy"
    assert first_healthy.split("+")[0] < app["State"]["StartedAt"]


def test_the_token_is_for_its_group_alone(project: Project) -> None:
    read = f"import os; s = os.stat('{TOKEN}'); print(oct(s.st_mode), s.st_uid, s.st_gid)"
    told = project.engine.done(
        *("exec", project.container("app"), "/opt/app/bin/python", "-c", read)
    )
    stranger = app_once(project.engine, *KNOWS_ALL, "--user=10002:10002", networks=BOTH)

    assert told == f"0o100640 {UID} {UID}"
    assert stranger.returncode != 0
    assert "Permission denied" in stranger.stderr


def test_who_is_in_the_network_without_the_token_gets_nothing(project: Project) -> None:
    ask = (
        "import urllib.request, urllib.error\n"
        f"try: urllib.request.urlopen('{URI}', timeout=5)\n"
        "except urllib.error.HTTPError as answer: print(answer.code)"
    )
    answer = project.engine.done(
        *("run", "--rm", f"--network={CREDENTIALS_NETWORK}", "--entrypoint=/opt/app/bin/python"),
        *(APP_IMAGE, "-c", ask),
    )

    assert answer == "401"


def test_the_broker_is_confined(project: Project) -> None:
    broker = project.container("broker")
    look = (
        "import os; status = open('/proc/self/status').read().splitlines()\n"
        "print(os.getuid(), *[line.split()[1] for line in status"
        " if line.startswith(('CapEff', 'CapBnd', 'NoNewPrivs'))])"
    )
    write = "open('/opt/namespace-broker/own.py', 'w')"

    inside = ("exec", broker, "python", "-c")
    seen = project.engine.done(*inside, look)
    written = project.engine.docker(*inside, write)

    assert seen == f"{UID} 0000000000000000 0000000000000000 1"
    assert "Read-only file system" in written.stderr


def test_from_another_network_the_broker_is_not_reached_even_with_the_token(
    project: Project,
) -> None:
    project.engine.done("network", "create", OTHER_NETWORK)
    reach = "import socket; socket.create_connection(('169.254.170.2', 80), 3)"

    of_another = project.engine.docker(
        *("run", "--rm", f"--network={OTHER_NETWORK}", "--entrypoint=/opt/app/bin/python"),
        *(APP_IMAGE, "-c", reach),
    )

    assert of_another.returncode == 1
    assert "Error" in of_another.stderr.splitlines()[-1]


def test_a_neighbour_that_routes_around_gets_nothing_even_with_the_token(
    project: Project,
) -> None:
    """Route to the broker's other addresses by the one in a network that both are in."""
    networks = project.inspect("broker")["NetworkSettings"]["Networks"]
    way = networks[DEFAULT_NETWORK]["IPAddress"]

    neighbour = project.engine.docker(
        *("run", "--rm", f"--network={DEFAULT_NETWORK}", "--cap-add=NET_ADMIN", *KNOWS_ALL),
        *("--entrypoint=/opt/app/bin/python", APP_IMAGE, "-c", BY_ANOTHER_WAY, way),
    )

    assert neighbour.returncode == 1
    assert "no such credentials" in neighbour.stderr


def test_the_app_lives_through_an_outage_of_the_broker(project: Project) -> None:
    """The app asks for new credentials all the time.

    What it has never lives longer than the quarter of an hour before whose end botocore asks again.
    """
    before, token = key_in_use(project), token_in_use(project)

    project.compose("stop", "broker")
    (away,) = project.app_says_more(after=len(project.said_by_app()), lines=1)
    project.compose("start", "broker")
    until(lambda: key_in_use(project) != before, what="new credentials in the app")

    assert away["key"] == before
    assert token_in_use(project) == token


def test_after_a_restart_another_app_gets_in_by_the_same_token(project: Project) -> None:
    project.compose("restart", "broker")

    until(lambda: project.health("broker") == "healthy", what="a healthy broker")
    ran = app_once(project.engine, *KNOWS_ALL, *MAY, networks=BOTH)

    assert "/deploy/" in ran.stdout, ran.stderr


def key_in_use(project: Project) -> str:
    """Return the key that the app says next."""
    (said,) = project.app_says_more(after=len(project.said_by_app()), lines=1)[:1]
    return str(said["key"])


def token_in_use(project: Project) -> str:
    read = f"print(open('{TOKEN}').read())"
    return project.engine.done("exec", project.container("broker"), "python", "-c", read)
