"""Every command in the README and the docs is one that works, word for word."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.cli.commands import load as load_command
from broker.cli.parser import command_of, read
from broker.sandbox import Sandbox, sandbox_in_thread
from tests.support.broker_process import broker_process

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CI_JOBS = ROOT / "docs" / "ci-jobs.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

# What a reader puts in place of the examples, here: the sandbox's role, and any free port.
READERS_OWN = {
    "arn:aws:iam::123456789012:role/deploy": "$ROLE_ARN",
    "http://127.0.0.1:8171": "$OPS",
    "tenant_01hxyz": "$WORKSPACE",
}
LIMIT_S = 60


def commands(page: Path) -> list[str]:
    """Return the lines after a prompt in the page's console blocks, comments removed."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [re.sub(r"\s+# .*", "", line.removeprefix("$ ")) for line in lines]


def documented() -> list[str]:
    """Return every command that works by itself: those of ci-jobs.md belong together."""
    return [command for page in PAGES if page != CI_JOBS for command in commands(page)]


def of_make() -> list[str]:
    return [command for command in documented() if command.startswith("make ")]


def of_the_broker() -> list[str]:
    """All others, but for the benchmark's own flags: those are tried in tests/bench."""
    elsewhere = ("make ", ".venv/bin/python -m bench")
    return [command for command in documented() if not command.startswith(elsewhere)]


def first_use() -> list[str]:
    """Return the README's three lines from a start to a copy in S3, which belong together."""
    lines = of_the_broker()
    start = next(i for i, line in enumerate(lines) if line.startswith("namespace-broker run"))
    return lines[start : start + 3]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator["Shell"]:
    with sandbox_in_thread(s3=True) as sandbox, broker_process(sandbox, tmp_path) as broker:
        broker.wait_for("daemon.ready")
        yield Shell(sandbox, tmp_path, ops=broker.endpoints["ops"][0])


class Shell:
    """A reader's shell: the commands are on the path, a broker runs, the clouds are the sandbox."""

    def __init__(self, sandbox: Sandbox, home: Path, *, ops: str) -> None:
        programs = home / "bin"
        programs.mkdir()
        self._program(programs / "namespace-broker", f'exec {sys.executable} -m broker "$@"')
        aws = Path(sys.executable).with_name("aws")
        self._program(programs / "aws", f'exec {sys.executable} {aws} "$@"')
        self.home = home
        # Where a caller's copy of the container token is: else root's is one for the whole machine.
        own_runtime = home / "user"
        own_runtime.mkdir(mode=0o700)
        self.environ = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(own_runtime),
            "PYTHONPATH": str(ROOT),
            "ROLE_ARN": sandbox.role_arn,
            "OPS": ops,
            "WORKSPACE": sandbox.namespace.workspace,
            **sandbox.aws_environment(sandbox.guide_by_sts("builder")),
            "NSC_TOKEN_FILE": str(home / "token.json"),
            "NAMESPACE_BROKER_RUNTIME_DIR": str(home / "run"),
            **sandbox.environment(),
            **sandbox.client_environment(),
        }
        self._keys = sandbox.administrator_environment()

    @property
    def administrator(self) -> dict[str, str]:
        """The environment of a reader who may set up trust."""
        own = {name: text for name, text in self.environ.items() if name != "AWS_SESSION_TOKEN"}
        return own | self._keys

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-euc", script],
            env=self.environ,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def _program(self, path: Path, line: str) -> None:
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)


def adapted(command: str) -> str:
    for example, own in READERS_OWN.items():
        command = command.replace(example, f'"{own}"')
    return command


def test_every_make_command_of_the_docs_is_a_target_of_the_makefile() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    wanted = {word for command in of_make() for word in command.split()[1:]}

    assert wanted
    assert wanted <= set(targets)


ELSEWHERE = "--runtime-dir own --container 127.0.0.1:0 --ops 127.0.0.1:0"
"""Beside the broker that the shell has already."""


def test_the_readmes_first_use_works_word_for_word(shell: Shell) -> None:
    start, *rest = [adapted(line) for line in first_use()]
    bucket = (
        "import boto3; boto3.client('s3').create_bucket("
        "Bucket='bucket', CreateBucketConfiguration={'LocationConstraint': 'eu-central-1'})"
    )
    script = "\n".join(
        [
            "export NAMESPACE_BROKER_RUNTIME_DIR=own",
            start.replace(" &", f" {ELSEWHERE} &"),
            "trap 'kill $!; wait $!' EXIT",
            rest[0],
            f'{sys.executable} -c "{bucket}"',
            "echo hello > test.txt",
            rest[1],
        ]
    )

    done = shell.run(script)

    assert done.returncode == 0, done.stderr
    assert "upload: ./test.txt to s3://bucket/test2.txt" in done.stdout


def test_the_page_about_ci_jobs_works_word_for_word(shell: Shell) -> None:
    start, *rest = [adapted(line) for line in commands(CI_JOBS)]
    script = "\n".join(
        [
            "export NAMESPACE_BROKER_RUNTIME_DIR=own",
            start.replace(" 2>", f" {ELSEWHERE} 2>"),
            "trap 'kill $!; wait $!' EXIT",
            *rest,
        ]
    )

    done = shell.run(script)

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("assumed-role") == 2
    assert "AWS_CONTAINER_CREDENTIALS_FULL_URI" in (shell.home / "github.env").read_text()


@pytest.mark.parametrize("command", [line for line in of_the_broker() if line not in first_use()])
def test_a_command_of_the_docs_works_word_for_word(shell: Shell, command: str) -> None:
    shell.environ["NSC_TOKEN_FILE"] = str(shell.home / "mine" / "token.json")
    if "check" in command or "setup" in command:  # they need an identity of Namespace's
        shell.environ["NSC_TOKEN_FILE"] = str(shell.home / "token.json")
    if "setup" in command:
        shell.environ = shell.administrator

    done = shell.run(adapted(command))

    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_page_that_is_linked_is_there() -> None:
    missing = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
        if not (page.parent / target).exists()
    ]

    assert missing == []


def test_every_path_of_the_tree_that_is_named_is_there() -> None:
    missing = [
        f"{page.name}: {path}"
        for page in PAGES
        for path in re.findall(
            r"`((?:broker|tests|deploy|docs|bench|systemd)/[\w./-]*)`", page.read_text()
        )
        if not (ROOT / path).exists()
    ]

    assert missing == []


def test_every_name_in_a_strangers_answer_is_in_one_of_the_files_beside_it() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("\n## Where things are\n")[2]
    rows = [line for line in table.partition("\n```")[0].splitlines() if line.startswith("| ")]
    missing = []
    for row in rows:
        words = re.findall(r"`([^`]+)`", row)
        paths = [ROOT / word for word in words if word.startswith("broker/")]
        code = "".join(path.read_text() for path in paths if path.suffix == ".py")
        names = [word.rpartition(".")[2] for word in words if re.fullmatch(r"[A-Za-z_.]+", word)]
        missing += [
            name
            for name in names
            if name not in ("json", "py", "main", "stop")
            and code
            and not re.search(rf"\b(?:class|def) {name}\b", code)
        ]

    assert len(rows) >= 7
    assert missing == []


def test_the_page_about_the_code_names_every_package() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()

    packages = [path.parent.name for path in (ROOT / "broker").glob("*/__init__.py")]

    assert [name for name in packages if f"── {name}/" not in text] == []


def fenced(text: str) -> str:
    """Return what stands in the page's blocks."""
    return "\n".join(re.findall(r"```\w+\n(.*?)```", text, re.DOTALL))


def mentioned() -> list[str]:
    """Return every command of ours in a block or in running text, as far as its shell part."""
    inline = re.compile(r"`namespace-broker ([a-z][^`]*)`")
    in_block = re.compile(r"^\s*(?:\$ |sudo |- run: )*namespace-broker ([a-z].*)$", re.MULTILINE)
    found = (
        command
        for page in PAGES
        for text in [page.read_text().replace("\\\n", " ")]
        for command in [*inline.findall(text), *in_block.findall(fenced(text))]
    )
    return sorted({re.split(r"\s+#|[|;&>]|\s2>|\)\"|…", command)[0].strip() for command in found})


@pytest.mark.parametrize("command", mentioned())
def test_a_command_that_is_mentioned_is_one_that_the_program_takes(command: str) -> None:
    name, flags = command_of(shlex.split(command))
    assert name, "no such command"
    program = "CMD" if name == "exec" and "--" in flags else ""

    # What is said of a command in running text may leave out what it needs.
    assert read(name, flags, load_command(name).FLAGS, program) is not None
