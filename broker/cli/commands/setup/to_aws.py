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
from broker.setup import checks, to_aws
from broker.setup.admission import Verdict, admission
from broker.setup.apply import make
from broker.setup.aws_api import NO_REGION
from broker.setup.cloud import standing_in
from broker.setup.clouds import Aws, OpenedAws, opened_aws
from broker.setup.iam import iam_hands
from broker.setup.plan import plan
from broker.setup.proof import proven
from broker.setup.render import Draft
from broker.setup.steps import Standing
from broker.setup.to_aws import ToAws
from broker.setup.wanted import Document, OidcProvider, Place
from broker.setup.wanted import Role as WantedRole

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

    place: Place
    caller: str
    standing: tuple[Standing, ...]

    @property
    def provider(self) -> tuple[OidcProvider, Any]:
        return next(
            (each.wanted, each.found)
            for each in self.standing
            if isinstance(each.wanted, OidcProvider)
        )

    @property
    def role(self) -> tuple[WantedRole, Any]:
        return next(
            (each.wanted, each.found)
            for each in self.standing
            if isinstance(each.wanted, WantedRole)
        )

    @property
    def role_arn(self) -> str:
        """The role's own ARN, which has its path, where it has one."""
        wanted, found = self.role
        return wanted.arn if found is None else str(found.arn)

    def admits(self, identity: AtHand) -> Verdict:
        return admission(self.provider, self.role, claims=identity.claims)

    @property
    def heading(self) -> str:
        return (
            f"Account {self.place.account} ({self.caller}), workspace {self.place.workspace}, "
            f"region {self.place.region}"
        )


def run(options: Options) -> int:
    form = form_of(options)
    if form is not None:
        return written(draft_of(options), form)
    asked, workspace, identity = asked_of(options)
    aws = aws_of(options)
    looked = waited_for(look(aws, asked, workspace))
    work = Work(options=options, plan=plan(looked.standing), heading=looked.heading)
    if work.agreed():
        work.carry_out(carried_out(aws, work, looked.standing))
    early = work.ended_early()
    if early is not None:
        return early
    if work.plan.to_do:
        looked = waited_for(look(aws, asked, workspace))
    return ended(options, work, asked, looked, identity)


# What was asked for.


def asked_of(options: Options) -> tuple[ToAws, str, AtHand | None]:
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
            lambda: checks.subject(str(subject), workspace=workspace, place="--subject")
        )
    return replace(asked, subject=subject), workspace, identity


def _asked_without_subject(options: Options) -> ToAws:
    name = required(options, "role-name", "give the name of the role, new or there already")
    return ToAws(
        role_name=checks.role_name(name, place="--role-name"),
        issuer=checks.issuer(options.text("issuer") or to_aws.ISSUER, place="--issuer"),
        policy_arns=checks.policy_arns(options.many("policy-arn"), place="--policy-arn"),
        policies=policies_of(options),
        max_session_duration_s=checks.max_session_duration_s(
            options.seconds("max-session-duration"), place="--max-session-duration"
        ),
    )


def policies_of(options: Options) -> dict[str, Document]:
    """Return the policies of ``--policy-file`` by the names that they get."""
    place, found = "--policy-file", dict[str, Document]()
    for text in options.many("policy-file"):
        path = Path(text)
        name = checks.policy_name(path.stem, place=place)
        if name in found:
            raise Misuse(place, f"gives two policies the name {name}", "name the files apart")
        try:
            content = text_of(read_bounded(path), path)
        except ConfigError as error:
            raise Misuse(place, f"{error.place} {error.what}", "give a JSON file") from error
        found[name] = checks.policy_document(content, place=f"{place} {path}")
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
    place = Place(
        account=str(account),
        partition=aws.partition_of_region(region or NO_REGION),
        region=region or NO_REGION,
        workspace=workspace,
    )
    checked(lambda: checks.same_partition(asked.policy_arns, place.partition, place="--policy-arn"))
    return Draft(
        title="What programs on Namespace need to use AWS",
        wanted=to_aws.wanted_of(asked, place),
        place=place,
        command=command_line(),
        next_command=(
            *("namespace-broker", "run", "--role-arn"),
            *(named_arn(asked, place.role_arn(asked.role_name)), "--region", place.region),
        ),
        profile=options.text("profile"),
    )


# The account.


async def look(aws: Aws, asked: ToAws, workspace: str, *, deeply: bool = False) -> Looked:
    """Read what stands of what is asked for. *deeply*: also what taking it back has to know."""
    async with opened_aws(aws, clock=SystemClock()) as opened:
        place = opened.place(workspace)
        checks.same_partition(asked.policy_arns, place.partition, place="--policy-arn")
        standing = await standing_in(hands(opened), to_aws.wanted_of(asked, place), deeply=deeply)
        return Looked(place=place, caller=opened.caller.arn, standing=standing)


def hands(opened: OpenedAws) -> Any:
    return iam_hands(opened.api, clock=SystemClock())


async def carried_out(aws: Aws, work: Work, standing: tuple[Standing, ...]) -> None:
    async with opened_aws(aws, clock=SystemClock()) as opened:
        await make(work.plan, standing, hands(opened), work.done.append)


# The proof, and what is next.


def ended(
    options: Options, work: Work, asked: ToAws, looked: Looked, identity: AtHand | None
) -> int:
    proof = None
    if not options.switch("no-verify"):
        try:
            proof = proof_of(options, asked, looked, identity)
        except Failure:
            if work.as_json:
                work.show_json(role_arn=looked.role_arn, proof=None)
            raise
    snippet = to_aws.snippet(asked, looked.place, role_arn=looked.role_arn)
    next_command = f"namespace-broker run --role-arn {named_arn(asked, looked.role_arn)}"
    next_command += f" --region {looked.place.region}"
    if work.as_json:
        work.show_json(
            role_arn=looked.role_arn, proof=proof, config=snippet, next_command=next_command
        )
        return 0
    if proof:
        print(f"\n{proof}")
    print(f"\nFor the configuration file of the broker:\n\n{snippet}\nNext:\n\n    {next_command}")
    return 0


def named_arn(asked: ToAws, role_arn: str) -> str:
    """Return the ARN as ``--role-arn`` takes it: with a name where the role's own is too short."""
    key = to_aws.role_key(asked.role_name)
    return role_arn if key == asked.role_name else f"{key}={role_arn}"


def proof_of(options: Options, asked: ToAws, looked: Looked, identity: AtHand | None) -> str:
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
            f"{looked.place.workspace}, run\n\n    {over_there}"
        )
    if not to_aws.is_meant_for(asked, looked.place, identity.token):
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


async def obtained(asked: ToAws, looked: Looked, identity: AtHand) -> Lease[AwsCredentials]:
    from broker.daemon.offline import obtain

    name = to_aws.role_key(asked.role_name)
    role = Role(
        name=name,
        arn=looked.role_arn,
        region=looked.place.region,
        duration_s=asked.max_session_duration_s or 3600,
    )
    entry = RoleConfig(role=role, identity=identity.identity, audience=to_aws.AUDIENCE)
    config = replace(identity.config, roles=(entry,), default_role=name)
    return await proven(
        lambda: obtain(config, name, runtime()), clock=SystemClock(), waiting=tell_waiting
    )


def tell_waiting(pause_s: float, reason: Refused) -> None:
    say(
        f"not admitted yet ({reason.word}): AWS takes up to some minutes to know of it "
        f"everywhere; trying again in {pause_s:g} s"
    )
