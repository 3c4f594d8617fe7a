"""Print the access key that boto3 finds with nothing configured, as JSON, or null."""

import json
import os
from importlib import import_module

import boto3

from tests.root.becoming import become, options

NEEDED_LATER = ("encodings.idna", "_strptime")
"""What is imported at first use: too late for whoever may not read this Python."""


def main() -> None:
    chosen = options().parse_args()
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
    session = boto3.Session()
    for name in NEEDED_LATER:
        import_module(name)
    become(chosen)
    credentials = session.get_credentials()
    print(json.dumps(None if credentials is None else credentials.access_key), flush=True)


if __name__ == "__main__":
    main()
