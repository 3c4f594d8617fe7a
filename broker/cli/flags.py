"""Every command and its flags, once: both parsers and the help are made from this table.

Read by the commands that run at every SDK start, so it imports nothing.
"""

from __future__ import annotations

TEXT, SWITCH, SECONDS, DURATION, MANY = "text", "switch", "seconds", "duration", "many"


class Flag:
    """One flag. ``says`` is its line in the help; ``kind`` is how its value reads."""

    __slots__ = ("aliases", "choices", "default", "kind", "metavar", "name", "says")

    def __init__(
        self,
        name: str,
        says: str,
        *,
        kind: str = TEXT,
        metavar: str = "",
        default: str | float | None = None,
        choices: tuple[str, ...] = (),
        aliases: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.says = says
        self.kind = kind
        self.metavar = metavar
        self.default = default
        self.choices = choices
        self.aliases = aliases

    @property
    def unsaid(self) -> object:
        """What the flag is worth when it is not given."""
        return {SWITCH: False, MANY: ()}.get(self.kind, self.default)


class Command:
    """One command. ``words`` names what may follow the flags, where something may. ``hidden``: it
    is for our own units, and shown to nobody."""

    __slots__ = ("flags", "hidden", "name", "summary", "words")

    def __init__(
        self,
        name: str,
        summary: str,
        flags: tuple[Flag, ...],
        words: str = "",
        *,
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.summary = summary
        self.flags = flags
        self.words = words
        self.hidden = hidden

    @property
    def module(self) -> str:
        """Where its ``DESCRIPTION`` and its ``run(options) -> int`` are."""
        return "broker.cli.commands." + self.name.replace(" ", ".", 1).replace(" ", "_").replace(
            "-", "_"
        )


class Options:
    """What was said on one command line; a flag that was not has its default."""

    __slots__ = ("_values", "words")

    def __init__(
        self, command: Command, said: dict[str, object], words: tuple[str, ...] = ()
    ) -> None:
        self._values = {flag.name: flag.unsaid for flag in command.flags} | said
        self.words = words

    @property
    def said(self) -> dict[str, object]:
        """Every flag's value, its default where nothing was said."""
        return dict(self._values)

    def text(self, name: str) -> str | None:
        value = self._values[name]
        return None if value is None else str(value)

    def switch(self, name: str) -> bool:
        return self._values[name] is True

    def many(self, name: str) -> tuple[str, ...]:
        value = self._values[name]
        return tuple(map(str, value)) if isinstance(value, tuple) else ()

    def seconds(self, name: str) -> float | None:
        value = self._values[name]
        return value if isinstance(value, float) else None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Options):
            return NotImplemented
        return self._values == other._values and self.words == other.words

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Options({self._values!r}, words={self.words!r})"


def seconds(text: str) -> float:
    """Return a number of seconds, 0 or more.

    Raises:
        ValueError: It is none.
    """
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


UNITS_S = {
    "w": 604800.0,
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ns": 1e-9,
}
UNIT_LETTERS = "".join(UNITS_S)


def duration(text: str) -> float:
    """Return the seconds of a duration as nsc's flags take it: Go's syntax, days and weeks too.

    Raises:
        ValueError: It is none.

    Source: namespace-api 11.
    """
    total_s, rest = 0.0, text if text != "0" else "0s"
    if not rest:
        raise ValueError
    while rest:
        after = rest.lstrip("0123456789.")
        number = rest[: len(rest) - len(after)]
        rest = after.lstrip(UNIT_LETTERS)
        unit = after[: len(after) - len(rest)]
        if unit not in UNITS_S:
            raise ValueError
        total_s += float(number) * UNITS_S[unit]
    return seconds(str(total_s))


CONFIG = Flag(
    "config",
    "The configuration file (TOML). Default: $NAMESPACE_BROKER_CONFIG, else"
    " /etc/namespace-broker/config.toml if it is there.",
    metavar="FILE",
)
REGION = Flag(
    "region",
    "The AWS region: of STS, and told to clients. Default: $AWS_REGION, $AWS_DEFAULT_REGION.",
    metavar="REGION",
)
RUNTIME_DIR = Flag(
    "runtime-dir",
    "Where the broker keeps its socket. Default: $NAMESPACE_BROKER_RUNTIME_DIR,"
    " $XDG_RUNTIME_DIR/namespace-broker, /run/namespace-broker, whichever has a running one.",
    metavar="DIR",
)
ROLE = Flag("role", "Which role, by its name. Default: your default role.", metavar="NAME")
ROLE_ARN = Flag(
    "role-arn",
    "Assume this role without asking a running broker; NAME=ARN names it.",
    metavar="ARN",
)
JSON = Flag("json", "Print JSON instead of a table.", kind=SWITCH)

BROKER_FLAGS = (
    CONFIG,
    Flag(
        "role-arn",
        "A role to serve; repeatable. NAME=ARN names it, else it has its role's name."
        " The first is the default.",
        kind=MANY,
        metavar="ARN",
    ),
    REGION,
    Flag(
        "imds",
        "Serve EC2 instance metadata here: HOST:PORT or [V6]:PORT; repeatable; port 0 picks one."
        " Default: off.",
        kind=MANY,
        metavar="ADDR",
    ),
    Flag(
        "container",
        "Serve container credentials here; repeatable; or off. Default: 127.0.0.1:8170.",
        kind=MANY,
        metavar="ADDR",
    ),
    Flag(
        "ops",
        "Serve health and metrics here; repeatable; or off. Default: 127.0.0.1:8171.",
        kind=MANY,
        metavar="ADDR",
    ),
    Flag(
        "container-token-file",
        "The secret that clients of the container endpoint present; written 0600 when absent."
        " Default: container-token in the runtime directory.",
        metavar="FILE",
    ),
    Flag(
        "state-dir",
        "What must survive a restart is kept here. Default: $STATE_DIRECTORY, else nothing is.",
        metavar="DIR",
    ),
    Flag(
        "runtime-dir",
        "The socket and what else ends with the process. Default: $RUNTIME_DIRECTORY, else"
        " $XDG_RUNTIME_DIR/namespace-broker, else one of your own in the temporary directory.",
        metavar="DIR",
    ),
    Flag(
        "log-format",
        "auto is console on a terminal, else json.",
        choices=("auto", "console", "json"),
    ),
    Flag("log-level", "How much is logged.", choices=("debug", "info", "warning", "error")),
    Flag(
        "start-timeout",
        "Open the credential endpoints after this long at the latest, credentials or not."
        " Default: 10.",
        kind=SECONDS,
        metavar="SECONDS",
    ),
)

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

COMMANDS = {
    command.name: command
    for command in (
        Command("run", "Run the broker, in the foreground, until SIGTERM or Ctrl-C.", BROKER_FLAGS),
        Command(
            "check",
            "Say whether the configuration is good, and what would run.",
            (
                Flag("live", "Also obtain every credential once.", kind=SWITCH),
                JSON,
                *BROKER_FLAGS,
            ),
        ),
        Command(
            "wait",
            "Wait until the running broker has every credential.",
            (
                Flag(
                    "timeout",
                    "Give up after this long; 0 asks once.",
                    kind=SECONDS,
                    metavar="SECONDS",
                    default=60.0,
                ),
                Flag("role", "Wait for this role only.", metavar="NAME"),
                RUNTIME_DIR,
            ),
        ),
        Command(
            "status",
            "Show what the running broker holds.",
            (
                Flag("watch", "Show it again every 2 seconds, until Ctrl-C.", kind=SWITCH),
                JSON,
                RUNTIME_DIR,
            ),
        ),
        Command(
            "env",
            "Print the environment that lets AWS clients use the broker.",
            (
                Flag(
                    "for",
                    "Who reads it: a shell's eval, $GITHUB_ENV, docker's --env-file, or a program.",
                    choices=("shell", "github", "docker", "json"),
                    default="shell",
                ),
                Flag(
                    "surface",
                    "Which endpoint clients are pointed to.",
                    choices=("container", "imds"),
                    default="container",
                ),
                ROLE,
                Flag("static", "Write the keys themselves, which end.", kind=SWITCH),
                Flag(
                    "output",
                    "The file for the keys; only you can read it. Also --write_env.",
                    metavar="FILE",
                    aliases=("write-env",),
                ),
                ROLE_ARN,
                REGION,
                CONFIG,
                RUNTIME_DIR,
            ),
        ),
        Command(
            "exec",
            "Run a program with that environment; with a broker of its own if none runs.",
            (ROLE, ROLE_ARN, REGION, CONFIG, RUNTIME_DIR),
            words="CMD...",
        ),
        Command(
            "credential-process",
            "Print credentials as the AWS setting credential_process wants them.",
            (ROLE, ROLE_ARN, REGION, CONFIG, RUNTIME_DIR),
        ),
        Command(
            "login",
            "Become a Namespace token from an AWS identity, once, where nsc finds it.",
            (
                Flag(
                    "via",
                    "How AWS vouches for us: by STS, or by a Cognito identity pool.",
                    choices=("sts", "cognito"),
                ),
                Flag(
                    "workspace",
                    "The workspace's id. Default with sts: Namespace chooses one that trusts us."
                    " Also --tenant_id.",
                    metavar="ID",
                    aliases=("tenant-id",),
                ),
                Flag("identity-pool", "The pool: its guid, or region:guid.", metavar="POOL"),
                Flag(
                    "region",
                    "The AWS region that is asked. Default: $AWS_REGION, $AWS_DEFAULT_REGION, the"
                    " profile's. Also --aws_region.",
                    metavar="REGION",
                    aliases=("aws-region",),
                ),
                Flag(
                    "profile",
                    "The AWS profile. Default: as for every AWS tool. Also --aws_profile.",
                    metavar="NAME",
                    aliases=("aws-profile",),
                ),
                Flag(
                    "audience",
                    "Whom STS's token is for. Default: https://federation.namespaceapis.com.",
                    metavar="AUDIENCE",
                ),
                Flag(
                    "algorithm",
                    "How STS signs. Default: ES384.",
                    choices=("ES384", "RS256"),
                ),
                Flag(
                    "ensure",
                    "Do nothing while the token that is there lives longer than this; 0 always logs"
                    " in. Default: 15m.",
                    kind=DURATION,
                    metavar="DURATION",
                    default=900.0,
                ),
                Flag(
                    "output",
                    "The file. Default: $NSC_TOKEN_FILE, else token.json where nsc login has it.",
                    metavar="FILE",
                ),
                Flag(
                    "replace-login",
                    "Also where a person's own login is; a copy of that is kept.",
                    kind=SWITCH,
                ),
            ),
        ),
        Command(
            "setup to-aws",
            "Let programs on Namespace use AWS.",
            (*TO_AWS, *CHANGING, *VERIFYING, *RENDERING, *SETTING_UP),
        ),
        Command(
            "setup show",
            "Show what stands, and whether it would let us in.",
            (
                Flag("role-name", "The role, of both directions.", metavar="NAME"),
                Flag(
                    "via",
                    "How AWS vouches for workloads that use Namespace.",
                    choices=("sts", "cognito"),
                    default="sts",
                ),
                *(flag for flag in SETTING_UP if flag is not JSON),
            ),
        ),
        Command(
            "setup show to-aws",
            "Show what stands of it, and whether it would let this identity in.",
            (*TO_AWS, *SETTING_UP),
        ),
        Command(
            "setup remove to-aws",
            "Take it back.",
            (*TO_AWS, *CHANGING, *SETTING_UP),
        ),
        Command(
            "setup to-namespace",
            "Let AWS workloads use Namespace.",
            (*TO_NAMESPACE, *CHANGING, *VERIFYING, *RENDERING, *SETTING_UP),
        ),
        Command(
            "setup show to-namespace",
            "Show what stands of it, and whether it would let the workload in.",
            (*TO_NAMESPACE, *SETTING_UP),
        ),
        Command(
            "setup remove to-namespace",
            "Take it back.",
            (*TO_NAMESPACE, *CHANGING, *SETTING_UP),
        ),
        Command(
            "token",
            "Tell about the Namespace token, or print it.",
            (
                Flag("show", "Print the token itself.", kind=SWITCH),
                Flag("audience", "Print an ID token for this audience.", metavar="AUDIENCE"),
                Flag(
                    "identity",
                    "Whose, by its name. Default: the first that is handed on.",
                    metavar="NAME",
                ),
                JSON,
                CONFIG,
                RUNTIME_DIR,
            ),
        ),
        Command(
            "who",
            "Tell what a caller would get, and by which rule.",
            (
                Flag("pid", "This process.", metavar="N"),
                Flag("uid", "Any program of this user, by number.", metavar="N"),
                Flag("addr", "Whoever asks from this address, elsewhere.", metavar="ADDRESS"),
                JSON,
                RUNTIME_DIR,
            ),
        ),
        Command(
            "install",
            "Make it a service of systemd, for programs that have nothing configured.",
            (
                Flag(
                    "role-arn",
                    "A role to serve; repeatable. NAME=ARN names it, else it has its role's name."
                    " The first is the default.",
                    kind=MANY,
                    metavar="ARN",
                ),
                Flag(
                    "allow",
                    "Who may have them: user:NAME, repeatable, or any-local, which is every user of"
                    " this host. Default: user:$SUDO_USER.",
                    kind=MANY,
                    metavar="WHO",
                ),
                REGION,
                Flag(
                    "token-file",
                    "Where root has the Namespace token. Default: /var/run/nsc/token.json, unless"
                    " there is only a token.spec beside it.",
                    metavar="FILE",
                ),
                Flag(
                    "token-spec",
                    "Where root has the token spec, instead of a token.",
                    metavar="FILE",
                ),
                Flag("dry-run", "Print what would be written, and change nothing.", kind=SWITCH),
            ),
        ),
        Command(
            "uninstall",
            "Take back what install made.",
            (Flag("purge", "Also configuration, state and logs.", kind=SWITCH),),
        ),
        Command(
            "metadata-address",
            "Put EC2's metadata addresses on the loopback device, or take them away.",
            (
                Flag("add", "Put them there, unless something answers.", kind=SWITCH),
                Flag("remove", "Take away what was put there.", kind=SWITCH),
            ),
            hidden=True,
        ),
        Command(
            "copy-token",
            "Keep a copy of a token file for the service.",
            (
                Flag("from", "The token file.", metavar="FILE"),
                Flag("to", "The copy.", metavar="FILE"),
            ),
            hidden=True,
        ),
        Command(
            "demo",
            "See it all work on this machine: no account, no root, nothing to configure.",
            (
                Flag("once", "Leave after the proof, also on a terminal.", kind=SWITCH),
                Flag(
                    "to-namespace",
                    "The other direction: an AWS identity becomes a Namespace token.",
                    kind=SWITCH,
                ),
            ),
        ),
    )
}

SHOWN = tuple(command for command in COMMANDS.values() if not command.hidden)
"""What a person may type, for whatever lists it."""
