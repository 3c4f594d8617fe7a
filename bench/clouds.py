"""python -m bench.clouds TOKEN_FILE: run both clouds and count their calls.

Prints a line when it listens, and one with the counts for each line of input.
"""

import json
import sys
from pathlib import Path

from broker.sandbox import sandbox_in_thread


def main(token_file: Path) -> None:
    with sandbox_in_thread() as sandbox:
        sandbox.namespace.write_token_file(token_file)
        say(event="ready", role_arn=sandbox.role_arn, environment=sandbox.environment())
        for _ in sys.stdin:
            say(
                event="counts",
                sts=len(sandbox.aws.calls_of("AssumeRoleWithWebIdentity")),
                id_tokens=len(sandbox.namespace.calls_of("IssueIdToken")),
            )


def say(**said: object) -> None:
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
