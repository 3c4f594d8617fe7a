"""Ask STS who we are, once for each line on stdin, with the keys of one awscrt provider chain.

The CRT has no STS client in Python, so its signer signs and http.client sends.
"""

import http.client
import os
import re
import sys
from urllib.parse import urlsplit

from awscrt.auth import (  # type: ignore[import-untyped]
    AwsCredentialsProvider,
    AwsSigningConfig,
    aws_sign_request,
)
from awscrt.http import HttpHeaders, HttpRequest  # type: ignore[import-untyped]
from awscrt.io import (  # type: ignore[import-untyped]
    ClientBootstrap,
    DefaultHostResolver,
    EventLoopGroup,
)

LIMIT_S = 20
ASK = "/?Action=GetCallerIdentity&Version=2011-06-15"

host = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc
group = EventLoopGroup(1)
provider = AwsCredentialsProvider.new_default_chain(
    ClientBootstrap(group, DefaultHostResolver(group))
)
for _ in sys.stdin:
    provider.get_credentials().result(LIMIT_S)
    config = AwsSigningConfig(
        credentials_provider=provider, region=os.environ["AWS_REGION"], service="sts"
    )
    request = HttpRequest("GET", ASK, HttpHeaders([("Host", host)]))
    signed = aws_sign_request(request, config).result(LIMIT_S)
    connection = http.client.HTTPConnection(host, timeout=LIMIT_S)
    connection.request("GET", signed.path, headers=dict(signed.headers))
    answer = connection.getresponse().read().decode()
    connection.close()
    arns = re.findall("<Arn>(.*)</Arn>", answer)
    print(*(arns or sys.exit(answer)), flush=True)
