"""The flags that several setup commands have in common."""

from broker.cli.parser import CONFIG, JSON, MANY, SECONDS, SWITCH, Flag

PROFILE = Flag(
    "profile",
    "The AWS profile. Default: as for every AWS tool. Also --aws_profile.",
    metavar="NAME",
    aliases=("aws-profile",),
)

# Of every `setup`; what only changes something is CHANGING.
SETTING_UP = (
    Flag(
        "workspace",
        "The workspace's id. Default: that of this machine's Namespace identity. Also --tenant_id.",
        metavar="ID",
        aliases=("tenant-id",),
    ),
    Flag(
        "account",
        "The AWS account's id: refuse to work in another.",
        metavar="ID",
    ),
    PROFILE,
    Flag(
        "region",
        "The AWS region. Default: $AWS_REGION, $AWS_DEFAULT_REGION, the profile's, us-east-1."
        " Also --aws_region.",
        metavar="REGION",
        aliases=("aws-region",),
    ),
    JSON,
    CONFIG,
)
CHANGING = (
    Flag("dry-run", "Show the plan and leave: 3 where there is something to do.", kind=SWITCH),
    Flag("yes", "Do not ask.", kind=SWITCH),
)
RENDERING = (
    Flag(
        "render",
        "Ask no cloud: print the same as a file. Needs --account and --workspace.",
        choices=("cloudformation", "terraform", "aws-cli", "json"),
    ),
)
VERIFYING = (Flag("no-verify", "Do not prove it by obtaining something.", kind=SWITCH),)
TO_AWS = (
    Flag("role-name", "The role, new or there already.", metavar="NAME"),
    Flag(
        "subject",
        "Which identities: a pattern that begins with the workspace. Default: WORKSPACE/*.",
        metavar="PATTERN",
    ),
    Flag(
        "policy-arn",
        "A managed policy that the role is to have; repeatable.",
        kind=MANY,
        metavar="ARN",
    ),
    Flag(
        "policy-file",
        "A policy of the role's own, as JSON, named like the file; repeatable.",
        kind=MANY,
        metavar="FILE",
    ),
    Flag(
        "max-session-duration",
        "How long a session of the role may last, 3600 to 43200. Default: as it is; of a new role"
        " 3600.",
        kind=SECONDS,
        metavar="SECONDS",
    ),
    Flag(
        "issuer",
        "Who issues the ID tokens. Default: https://federation.namespaceapis.com.",
        metavar="URL",
    ),
)
TO_NAMESPACE = (
    Flag(
        "via",
        "How AWS vouches for the workload: by STS, or by a Cognito identity pool.",
        choices=("sts", "cognito"),
    ),
    Flag("role-name", "The role that the workload runs as.", metavar="NAME"),
    Flag(
        "subject-match",
        "Whom the workspace trusts: a pattern for the role's ARN, such as"
        " arn:aws:iam::ACCOUNT:role/*. Default: the role alone.",
        metavar="PATTERN",
    ),
    Flag(
        "audience",
        "Whom STS's tokens are for. Default: https://federation.namespaceapis.com.",
        metavar="AUDIENCE",
    ),
    Flag("algorithm", "How STS signs. Default: ES384.", choices=("ES384", "RS256")),
    Flag(
        "duration",
        "How long one of STS's tokens may live, 60 to 3600. Default: 300.",
        metavar="SECONDS",
    ),
    Flag(
        "grant",
        "A permission in the workspace, as a JSON object; repeatable. Default: full access.",
        kind=MANY,
        metavar="JSON",
    ),
    Flag(
        "token-duration",
        "How long Namespace's tokens live, such as 1800s. Default: as Namespace has it.",
        metavar="DURATION",
    ),
    Flag(
        "unconditional",
        "Put the guide's plain policy: tokens for any audience.",
        kind=SWITCH,
    ),
    Flag(
        "issuer",
        "The account's issuer, for --render. Default: as AWS has it.",
        metavar="URL",
    ),
    Flag("identity-pool", "Cognito: the pool, its guid or region:guid.", metavar="POOL"),
    Flag(
        "pool-name",
        "Cognito: the pool's name. Default: the only pool for Namespace, else namespace.",
        metavar="NAME",
    ),
)
