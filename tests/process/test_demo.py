"""The demos, run to their end as without a terminal, within a minute.

They wait for a renewal: nothing else here is as slow.
"""

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
LIMIT_S = 60.0


def shown_by_demo(*flags: str, home: Path) -> str:
    """Return what the demo prints until it has ended well."""
    ran = subprocess.run(
        [sys.executable, "-m", "broker", "demo", *flags],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        cwd=PROJECT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def test_from_namespace_to_aws_by_both_surfaces_and_across_a_renewal(tmp_path: Path) -> None:
    shown = shown_by_demo(home=tmp_path)

    deploy = "arn:aws:sts::123456789012:assumed-role/deploy/"
    assert shown.count(f"sts get-caller-identity  {deploy}") == 2
    assert shown.count("s3 cp                    upload: ./test.txt to s3://") == 2
    assert shown.count("verified by the sandbox: key id ...") == 2
    assert "role/deploy renewed: key ..." in shown
    assert shown.endswith("\nDone.\n")


def test_from_aws_to_namespace_by_file_and_spec_and_across_a_renewal(tmp_path: Path) -> None:
    shown = shown_by_demo("--to-namespace", home=tmp_path)

    assert "by token file:  GetTenant  Acme ws_1" in shown
    assert "by token spec:  GetTenant  Acme ws_1" in shown
    assert "renewed in token.json; GetTenant  Acme ws_1" in shown
    assert shown.endswith("\nDone.\n")
