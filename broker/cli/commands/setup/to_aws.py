"""`setup to-aws`: trust for programs on Namespace that use AWS."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from broker import aws
from broker.cli.commands.setup.flags import CHANGING, RENDERING, SETTING_UP, TO_AWS, VERIFYING
from broker.cli.commands.setup.render import command_line, form_of, written
from broker.cli.commands.setup.workflow import (
    AtHand,
    Work,
    account_of,
    at_hand,
    aws_of,
    checked,
    region_of,
    required,
    runtime,
    say,
    waited_for,
    workspace_of,
)
from broker.cli.errors import Failure, Misuse
from broker.cli.offline import ends_at
from broker.cli.parser import Options
from broker.clock import SystemClock
from broker.config import ConfigError, RoleConfig
from broker.config.file import read_bounded, text_of
from broker.credentials import AwsCredentials, Role
from broker.lease import Lease, Refused
from broker.policy import Verdict
from broker.setup import arguments, to_aws
from broker.setup.aws import NO_REGION, AwsAccount, AwsSettings, Target, open_aws
from broker.setup.documents import Document
from broker.setup.plan import State, apply, plan_changes, read_states
from broker.setup.render import Draft
from broker.setup.resource import CloudAccess
from broker.setup.resources import IamRole, OidcProvider
from broker.setup.sign_in import until_effective
from broker.setup.to_aws import ToAwsRequest
from broker.setup.verify import aws_admits

DESCRIPTION = """Let programs on Namespace use AWS: make the account trust the workspace.

Reads what stands, shows what it would do, asks, does it, and proves it by obtaining credentials
the way the broker will. What is there already stays: a role's trust policy is added to, never
written over. Twice does no more than once.

    namespace-broker setup to-aws --role-name deploy --dry-run
    namespace-broker setup to-aws --role-name deploy \\
        --policy-arn arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess

Uses this machine's own AWS identity, which needs rights in IAM, and writes no credential.

Exit code 0: done, or nothing to do; 1: it failed; 2: wrong use; 3: --dry-run found something to do.
"""

FLAGS = (*TO_AWS, *CHANGING, *VERIFYING, *RENDERING, *SETTING_UP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What stands in the account, and where that is."""

    target: Target
    caller: str
    standing: tuple[State, ...]

    @property
    def provider(self) -> tuple[OidcProvider, Any]:
        return next(
            (each.desired, each.actual)
            for each in self.standing
            if isinstance(each.desired, OidcProvider)
        )

    @property
    def role(self) -> tuple[IamRole, Any]:
        return next(
            (each.desired, each.actual)
            for each in self.standing
            if isinstance(each.desired, IamRole)
        )

    @property
    def role_arn(self) -> str:
        """The role's own ARN, which has its path, where it has one."""
        wanted, found = self.role
        return wanted.arn if found is None else str(found.arn)

    def admits(self, identity: AtHand) -> Verdict:
        return aws_admits(self.provider, self.role, claims=identity.claims)

    @property
    def heading(self) -> str:
        return (
            f"Account {self.target.account} ({self.caller}), workspace {self.target.workspace}, "
            f"region {self.target.region}"
        )


def run(options: Options) -> int:
    form = form_of(options)
    if form is not None:
        return written(draft_of(options), form)
    asked, workspace, identity = asked_of(options)
    aws = aws_of(options)
    looked = waited_for(look(aws, asked, workspace))
    work = Work(options=options, plan=plan_changes(looked.standing), heading=looked.heading)
    if work.agreed():
        work.carry_out(carried_out(aws, work, looked.standing))
    early = work.ended_early()
    if early is not None:
        return early
    if work.plan.pending:
        looked = waited_for(look(aws, asked, workspace))
    return ended(options, work, asked, looked, identity)


# What was asked for.


def asked_of(options: Options) -> tuple[ToAwsRequest, str, AtHand | None]:
    """Return what is asked for, the workspace, and the identity where one was asked for that.

    Raises:
        Misuse: A flag is no good; found before anything is read from a network.
        Failure: The workspace could not be read.
    """
    asked = checked(lambda: _asked_without_subject(options))
    workspace, identity = workspace_of(options, audience=to_aws.AUDIENCE)
    subject = options.text("subject")
    if subject is not None:
        subject = checked(
            lambda: arguments.subject(str(subject), workspace=workspace, place="--subject")
        )
    return replace(asked, subject=subject), workspace, identity


def _asked_without_subject(options: Options) -> ToAwsRequest:
    name = required(options, "role-name", "give the name of the role, new or there already")
    return ToAwsRequest(
        role_name=arguments.role_name(name, place="--role-name"),
        issuer=arguments.issuer(options.text("issuer") or to_aws.ISSUER, place="--issuer"),
        policy_arns=arguments.policy_arns(options.many("policy-arn"), place="--policy-arn"),
        policies=policies_of(options),
        max_session_duration_s=arguments.max_session_duration_s(
            options.seconds("max-session-duration"), place="--max-session-duration"
        ),
    )


def policies_of(options: Options) -> dict[str, Document]:
    """Return the policies of ``--policy-file`` by the names that they get."""
    place, found = "--policy-file", dict[str, Document]()
    for text in options.many("policy-file"):
        path = Path(text)
        name = arguments.policy_name(path.stem, place=place)
        if name in found:
            raise Misuse(place, f"gives two policies the name {name}", "name the files apart")
        try:
            content = text_of(read_bounded(path), path)
        except ConfigError as error:
            raise Misuse(place, f"{error.place} {error.what}", "give a JSON file") from error
        found[name] = arguments.policy_document(content, place=f"{place} {path}")
    return found


def draft_of(options: Options) -> Draft:
    """Return what is to be written down, without asking any cloud.

    Raises:
        Misuse: A flag is no good, or missing: what is not read has to be said.
    """
    for name in ("account", "workspace"):
        required(options, name, "rendering asks no cloud: give its id")
    asked, workspace, _ = asked_of(options)
    account, region = checked(lambda: account_of(options)), checked(lambda: region_of(options))
    target = Target(
        account=str(account),
        partition=aws.partition_of_region(region or NO_REGION),
        region=region or NO_REGION,
        workspace=workspace,
    )
    checked(
        lambda: arguments.same_partition(asked.policy_arns, target.partition, place="--policy-arn")
    )
    return Draft(
        title="What programs on Namespace need to use AWS",
        desired=to_aws.desired_resources(asked, target),
        target=target,
        command=command_line(),
        next_command=(
            *("namespace-broker", "run", "--role-arn"),
            *(named_arn(asked, target.role_arn(asked.role_name)), "--region", target.region),
        ),
        profile=options.text("profile"),
    )


# The account.


async def look(
    aws: AwsSettings, asked: ToAwsRequest, workspace: str, *, deep: bool = False
) -> Looked:
    """Read what stands of what is asked for. *deep*: also what taking it back has to know."""
    async with open_aws(aws, clock=SystemClock()) as opened:
        target = opened.target(workspace)
        arguments.same_partition(asked.policy_arns, target.partition, place="--policy-arn")
        standing = await read_states(
            hands(opened), to_aws.desired_resources(asked, target), deep=deep
        )
        return Looked(target=target, caller=opened.caller.arn, standing=standing)


def hands(opened: AwsAccount) -> Any:
    return CloudAccess(aws=opened.api, clock=SystemClock())


async def carried_out(aws: AwsSettings, work: Work, standing: tuple[State, ...]) -> None:
    async with open_aws(aws, clock=SystemClock()) as opened:
        await apply(work.plan, standing, hands(opened), work.done.append)


# The proof, and what is next.


def ended(
    options: Options, work: Work, asked: ToAwsRequest, looked: Looked, identity: AtHand | None
) -> int:
    proof = None
    if not options.switch("no-verify"):
        try:
            proof = proof_of(options, asked, looked, identity)
        except Failure:
            if work.as_json:
                work.show_json(role_arn=looked.role_arn, proof=None)
            raise
    snippet = to_aws.snippet(asked, looked.target, role_arn=looked.role_arn)
    next_command = f"namespace-broker run --role-arn {named_arn(asked, looked.role_arn)}"
    next_command += f" --region {looked.target.region}"
    if work.as_json:
        work.show_json(
            role_arn=looked.role_arn, proof=proof, config=snippet, next_command=next_command
        )
        return 0
    if proof:
        print(f"\n{proof}")
    print(f"\nFor the configuration file of the broker:\n\n{snippet}\nNext:\n\n    {next_command}")
    return 0


def named_arn(asked: ToAwsRequest, role_arn: str) -> str:
    """Return the ARN as ``--role-arn`` takes it: with a name where the role's own is too short."""
    key = to_aws.role_key(asked.role_name)
    return role_arn if key == asked.role_name else f"{key}={role_arn}"


def proof_of(options: Options, asked: ToAwsRequest, looked: Looked, identity: AtHand | None) -> str:
    """Obtain credentials the way the daemon will, and return what to say of them; where this
    machine cannot, which command does it elsewhere.

    Raises:
        Failure: They are refused.
    """
    identity = identity or at_hand(options, audience=to_aws.AUDIENCE)
    over_there = f"namespace-broker check --live --role-arn {named_arn(asked, looked.role_arn)}"
    if identity is None:
        return (
            "Not proven: this machine has no Namespace identity. On an instance of the workspace "
            f"{looked.target.workspace}, run\n\n    {over_there}"
        )
    if not to_aws.is_meant_for(asked, looked.target, identity.token):
        return (
            f"Not proven: the Namespace identity of this machine ({identity.token.subject}) is "
            f"not one of those that are admitted. As one of them, run\n\n    {over_there}"
        )
    verdict = looked.admits(identity)
    if not verdict and not verdict.undecided:
        raise Failure(
            "setup to-aws",
            f"all of it stands, and {looked.role_arn} does not admit {identity.token.subject}: "
            f"{verdict.reason}",
            "take away what stands against it in the role's trust policy",
        )
    lease = waited_for(obtained(asked, looked, identity))
    return (
        f"Proven: {identity.token.subject} obtained credentials of {lease.value.role_arn}, good "
        f"until {ends_at(lease)}."
    )


async def obtained(asked: ToAwsRequest, looked: Looked, identity: AtHand) -> Lease[AwsCredentials]:
    from broker.daemon.offline import obtain

    name = to_aws.role_key(asked.role_name)
    role = Role(
        name=name,
        arn=looked.role_arn,
        region=looked.target.region,
        duration_s=asked.max_session_duration_s or 3600,
    )
    entry = RoleConfig(role=role, identity=identity.identity, audience=to_aws.AUDIENCE)
    config = replace(identity.config, roles=(entry,), default_role=name)
    return await until_effective(
        lambda: obtain(config, name, runtime()), clock=SystemClock(), on_wait=tell_waiting
    )


def tell_waiting(pause_s: float, reason: Refused) -> None:
    say(
        f"not admitted yet ({reason.word}): AWS takes up to some minutes to know of it "
        f"everywhere; trying again in {pause_s:g} s"
    )
