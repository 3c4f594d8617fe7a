"""The flags that several `setup` commands share."""

from broker.cli.parser import CONFIG, JSON, MANY, SECONDS, SWITCH, Flag

PROFILE = Flag(
    "profile",
    "The AWS profile. Default: as for every AWS tool. Also --aws_profile.",
    metavar="NAME",
    aliases=("aws-profile",),
)

SETTING_UP = (
    Flag(
        "workspace",
        "The workspace's id. Default: that of this machine's Namespace identity. Also --tenant_id.",
        metavar="ID",
        aliases=("tenant-id",),
    ),
    Flag(
        "account",
        "The AWS account's id; any other account is refused.",
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
    Flag("dry-run", "Show the plan only; exit code 3 if there is something to do.", kind=SWITCH),
    Flag("yes", "Do not ask.", kind=SWITCH),
)
RENDERING = (
    Flag(
        "render",
        "Print the plan as a file, without asking any cloud. Needs --account and --workspace.",
        choices=("cloudformation", "terraform", "aws-cli", "json"),
    ),
)
VERIFYING = (Flag("no-verify", "Do not prove the trust by using it.", kind=SWITCH),)
TO_AWS = (
    Flag("role-name", "The role, new or existing.", metavar="NAME"),
    Flag(
        "subject",
        "Which identities: a pattern that begins with the workspace. Default: WORKSPACE/*. Of"
        " another issuer's tokens: a pattern for their sub, such as repo:OWNER/REPOSITORY:*.",
        metavar="PATTERN",
    ),
    Flag(
        "policy-arn",
        "A managed policy to attach to the role; repeatable.",
        kind=MANY,
        metavar="ARN",
    ),
    Flag(
        "policy-file",
        "An inline policy of the role, as JSON, named like the file; repeatable.",
        kind=MANY,
        metavar="FILE",
    ),
    Flag(
        "max-session-duration",
        "How long a session of the role may last, 3600 to 43200. Default: unchanged; 3600 for a"
        " new role.",
        kind=SECONDS,
        metavar="SECONDS",
    ),
    Flag(
        "issuer",
        "Who issues the ID tokens. Default: https://federation.namespaceapis.com. Another"
        " issuer needs --subject, and no workspace.",
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
        "Which roles the workspace trusts: a pattern for ARNs, such as"
        " arn:aws:iam::ACCOUNT:role/*. Default: the role alone.",
        metavar="PATTERN",
    ),
    Flag(
        "audience",
        "The audience of STS's tokens. Default: https://federation.namespaceapis.com.",
        metavar="AUDIENCE",
    ),
    Flag(
        "algorithm",
        "The algorithm that STS signs with. Default: ES384.",
        choices=("ES384", "RS256"),
    ),
    Flag(
        "duration",
        "The longest life of a token of STS, 60 to 3600. Default: 300.",
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
        "How long Namespace's tokens live, such as 1800s. Default: Namespace's own.",
        metavar="DURATION",
    ),
    Flag(
        "unconditional",
        "Use the guide's plain policy, which allows tokens for any audience.",
        kind=SWITCH,
    ),
    Flag(
        "issuer",
        "The account's issuer, for --render. Default: read from AWS.",
        metavar="URL",
    ),
    Flag("identity-pool", "Cognito: the pool, its guid or region:guid.", metavar="POOL"),
    Flag(
        "pool-name",
        "Cognito: the pool's name. Default: the only pool for Namespace, else namespace.",
        metavar="NAME",
    ),
)
