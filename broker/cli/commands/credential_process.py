"""`credential-process`: print credentials as the AWS setting of that name reads them."""

from __future__ import annotations

import json

from broker.cli.control_client import credentials_for
from broker.cli.parser import CONFIG, REGION, ROLE, ROLE_ARN, RUNTIME_DIR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from broker.cli.parser import Options

DESCRIPTION = """Print credentials in the format of the AWS setting credential_process.

They come from the running broker; where none runs, they are obtained once, which takes a second
or two and needs --role-arn or a configuration file.

For clients that read ~/.aws/config:

    [profile deploy]
    credential_process = namespace-broker credential-process --role deploy

Then:
    aws --profile deploy sts get-caller-identity
"""

FLAGS = (ROLE, ROLE_ARN, REGION, CONFIG, RUNTIME_DIR)


def run(options: Options) -> int:
    credentials, _ = credentials_for(options)
    document = {
        "Version": 1,
        "AccessKeyId": credentials["AccessKeyId"],
        "SecretAccessKey": credentials["SecretAccessKey"],
        "SessionToken": credentials["Token"],
        "Expiration": credentials["Expiration"],
    }
    if credentials.get("AccountId"):
        document["AccountId"] = credentials["AccountId"]
    print(json.dumps(document))
    return 0
