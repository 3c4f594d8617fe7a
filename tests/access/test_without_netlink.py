"""Where the kernel cannot be asked, nobody is known, and the operator learns why."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from broker.access.caller import Caller

ROOT = Path(__file__).parents[2]


def test_without_netlink_a_client_on_this_host_is_nobody_and_not_from_elsewhere() -> None:
    command = [sys.executable, "-m", "tests.access.without_netlink"]

    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    said = json.loads(shown.stdout)
    assert said["caller"] == json.loads(json.dumps(asdict(Caller(address="127.0.0.1"))))
    assert "allow AF_NETLINK sockets to the broker" in said["why"]
