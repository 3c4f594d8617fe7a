"""`token`: show the Namespace token's details, the token itself, or an ID token."""

import json
from collections.abc import Iterator

import pytest

from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.fake_broker import FORBIDDEN, Cli, FakeBroker

TOKEN = {
    "identity": "aws",
    "token": "nscw_a.b.c",
    "kind": "nscw",
    "expires_at": "2000-01-02T03:04:05Z",
    "tenant_id": "ws_1",
    "instance_id": "i-abc",
}
ID_TOKEN = {"token": "a.b.c", "expires_at": "2030-01-02T03:04:05Z"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with sandbox_in_thread() as sandbox:
        yield sandbox


class TestBesideABroker:
    @pytest.fixture
    def fake(self, fake: FakeBroker) -> FakeBroker:
        fake.answers["/v1/namespace-token"] = (200, TOKEN)
        fake.answers["/v1/id-token"] = (200, ID_TOKEN)
        return fake

    def test_facts_are_told_and_the_token_is_not(self, cli: Cli, fake: FakeBroker) -> None:
        lines = cli.run("token").stdout.splitlines()
        told = json.loads(cli.run("token", "--json").stdout)

        assert lines == [
            "identity   aws",
            "kind       workload",
            "workspace  ws_1",
            "instance   i-abc",
            "expires    2000-01-02T03:04:05Z (in now)",
        ]
        assert told == {name: TOKEN[name] for name in TOKEN if name != "token"} | {
            "kind": "workload"
        }

    def test_what_is_not_known_is_said(self, cli: Cli, fake: FakeBroker) -> None:
        unknown = {"kind": "nsrt", "expires_at": None, "tenant_id": None, "instance_id": None}
        fake.answers["/v1/namespace-token"] = (200, TOKEN | unknown | {"token": None})

        text = cli.run("token").stdout

        assert [line.split(maxsplit=1)[1] for line in text.splitlines()] == [
            "aws",
            "revocable",
            "unknown",
            "none",
            "by revocation",
        ]

    def test_shown_it_is_the_token_alone(self, cli: Cli, fake: FakeBroker) -> None:
        assert cli.run("token", "--show").stdout == "nscw_a.b.c\n"
        assert json.loads(cli.run("token", "--show", "--json").stdout)["token"] == "nscw_a.b.c"

    def test_one_that_is_not_handed_on_is_not_shown(self, cli: Cli, fake: FakeBroker) -> None:
        fake.answers["/v1/namespace-token"] = (200, TOKEN | {"token": None})

        line = cli.error("token", "--show", code=1)

        assert line == (
            "--show: the broker does not export the token of aws;"
            " name it under namespace_tokens in the broker's configuration"
        )

    def test_an_identity_and_an_audience_are_asked_for(self, cli: Cli, fake: FakeBroker) -> None:
        cli.run("token", "--identity", "aws")
        id_token = cli.run("token", "--audience", "https://a.example/?b=c")
        in_json = cli.run("token", "--audience", "x", "--json")

        assert fake.asked == [
            "/v1/namespace-token?identity=aws",
            "/v1/id-token?audience=https%3A%2F%2Fa.example%2F%3Fb%3Dc",
            "/v1/id-token?audience=x",
        ]
        assert id_token.stdout == "a.b.c\n"
        assert json.loads(in_json.stdout) == ID_TOKEN

    def test_whose_id_token_it_is_the_broker_says(self, cli: Cli, fake: FakeBroker) -> None:
        line = cli.error("token", "--audience", "x", "--identity", "aws", code=2)

        assert line == ("--identity: has no effect on the running broker's ID tokens; leave it out")

    def test_what_it_has_not_or_not_for_us_is_said(self, cli: Cli, fake: FakeBroker) -> None:
        fake.answers["/v1/namespace-token"] = [
            (403, FORBIDDEN),
            (404, {"message": "identity/aws: namespace is down"}),
        ]
        fake.answers["/v1/id-token"] = (403, FORBIDDEN)

        assert "has no access to the Namespace token; an administrator" in cli.error(
            "token", code=1
        )
        assert cli.error("token", "--identity", "aws", code=1) == (
            "--identity: identity/aws: namespace is down; see namespace-broker status"
        )
        assert cli.error("token", "--audience", "x", code=1) == (
            "--audience: uid 7 may not have that here;"
            " name it under id_tokens in the broker's configuration"
        )


class TestWithoutABroker:
    @pytest.fixture
    def cloud(self, cli: Cli, sandbox: Sandbox) -> Cli:
        token = cli.home / "token.json"
        sandbox.namespace.write_token_file(token)
        cli.environ |= {**sandbox.environment(), "NSC_TOKEN_FILE": str(token)}
        return cli

    def test_it_is_obtained_once_from_where_nsc_has_it(self, cloud: Cli) -> None:
        done = cloud.run("token", "--json")
        shown = cloud.run("token", "--show")

        told = json.loads(done.stdout)
        assert (done.returncode, done.stderr) == (0, "")
        assert (told["identity"], told["kind"], told["tenant_id"]) == (
            "default",
            "workload",
            "ws_1",
        )
        assert shown.stdout.startswith("nscw_")

    def test_the_workspace_of_an_opaque_token_is_namespaces_to_tell(
        self, cloud: Cli, sandbox: Sandbox
    ) -> None:
        file, bearer = cloud.home / "opaque.json", sandbox.namespace.revocable_token()
        file.write_text(json.dumps({"bearer_token": bearer}))
        environ = {"NSC_TOKEN_FILE": str(file)}

        known = cloud.run("token", "--json", environ=environ)
        sandbox.namespace.revoke(bearer)
        revoked = cloud.run("token", "--json", environ=environ)

        facts = json.loads(known.stdout)
        assert (facts["kind"], facts["tenant_id"], known.stderr) == ("revocable", "ws_1", "")
        assert json.loads(revoked.stdout)["tenant_id"] is None
        assert "warning: the workspace of the token is not known: " in revoked.stderr

    def test_an_id_token_is_obtained_once(self, cloud: Cli, sandbox: Sandbox) -> None:
        done = cloud.run("token", "--audience", "https://example.com")

        (call,) = sandbox.namespace.calls_of("IssueIdToken")[-1:]
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count(".") == 2
        assert call.params["audience"] == "https://example.com"

    def test_the_configuration_names_identities(self, cloud: Cli, sandbox: Sandbox) -> None:
        file = cloud.home / "config.toml"
        file.write_text(
            '[identities.aws]\nsource = "sts"\nworkspace = "ws_1"\n[identities.unused]\n'
        )
        environ = sandbox.aws_environment(sandbox.guide_by_sts())
        arguments = ("token", "--config", str(file), "--identity")

        done = cloud.run(*arguments, "aws", "--json", environ=environ)
        line = cloud.error(*arguments, "nobody", code=2)

        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["kind"] == "tenant"
        assert line.startswith("--identity: is 'nobody', which is no identity; the identities are")

    def test_a_refusal_is_one_line(self, cloud: Cli) -> None:
        line = cloud.error("token", code=1, environ={"NSC_TOKEN_FILE": "/nonexistent"})

        assert line.startswith("identity/default: /nonexistent, which NSC_TOKEN_FILE names, does")
