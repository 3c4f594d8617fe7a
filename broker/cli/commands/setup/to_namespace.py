"""`setup to-namespace`: trust for AWS workloads that use Namespace."""

import os
import shlex
from dataclasses import dataclass, replace

from broker import aws
from broker.cli.commands.setup.flags import CHANGING, RENDERING, SETTING_UP, TO_NAMESPACE, VERIFYING
from broker.cli.commands.setup.render import command_line, form_of, written
from broker.cli.commands.setup.workflow import (
    Work,
    account_of,
    aws_of,
    checked,
    region_of,
    say,
    upstream,
    waited_for,
)
from broker.cli.errors import Failure, Misuse
from broker.cli.offline import warn
from broker.cli.parser import Options
from broker.clock import SystemClock
from broker.config import (
    AutoIdentityConfig,
    AwsIdentityConfig,
    Flags,
    IdentityConfig,
    load_identity,
)
from broker.lease import Refused
from broker.setup import arguments
from broker.setup.arguments import ToNamespaceFlags, cognito_request, region_in, sts_request
from broker.setup.aws import NO_REGION, Target
from broker.setup.both_clouds import BothClouds, ToNamespaceTask, open_clouds
from broker.setup.plan import State, apply, plan_changes
from broker.setup.render import Draft
from broker.setup.resource import Outputs, Placeholder, resolve
from broker.setup.resources import PoolTrust
from broker.setup.to_namespace import (
    CognitoRequest,
    StsRequest,
    desired_by_cognito,
    desired_by_sts,
    login_line,
    snippet,
)
from broker.setup.verify import Requirement

DESCRIPTION = """Let AWS workloads use Namespace: make the workspace trust a role of the account.

Reads what stands in both clouds, shows what it would do, asks, does it, and proves it by signing in
as the role, where this machine's AWS identity may become it. What is there already stays: other
trust relationships come back as they were. Twice does no more than once.

    namespace-broker setup to-namespace --via sts --role-name builder --dry-run
    namespace-broker setup to-namespace --via cognito --role-name builder

Uses this machine's own AWS identity and its Namespace identity, which needs the right to change
whom the workspace trusts; without one, what is missing is printed as a command of nsc's.

Exit code 0: done, or nothing to do; 1: it failed; 2: wrong use; 3: --dry-run found something to do.
"""

FLAGS = (*TO_NAMESPACE, *CHANGING, *VERIFYING, *RENDERING, *SETTING_UP)

PLACE = "setup to-namespace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What stands in both clouds, and where that is."""

    target: Target
    caller: str
    role_arn: str
    standing: tuple[State, ...]

    @property
    def heading(self) -> str:
        return (
            f"Account {self.target.account} ({self.caller}), workspace {self.target.workspace}, "
            f"region {self.target.region}"
        )

    @property
    def pool_id(self) -> str | None:
        """The identity pool's id, where one is wanted."""
        pools = [each.desired for each in self.standing if isinstance(each.desired, PoolTrust)]
        return f"{pools[0].region}:{pools[0].guid}" if pools else None


def run(options: Options) -> int:
    form = form_of(options)
    if form is not None:
        return written(draft_of(options), form)
    task = task_of(options)
    looked = waited_for(look_to_set_up(task))
    work = Work(options=options, plan=plan_changes(looked.standing), heading=looked.heading)
    if work.agreed():
        known = work.carry_out(carried_out(task, work, looked.standing))
        looked = replace(looked, standing=knowing_all(looked.standing, known))
    early = work.ended_early()
    if early is not None:
        return early
    return ended(options, work, task, looked)


# What was asked for.


def task_of(options: Options) -> ToNamespaceTask:
    """Return what is asked for; nothing is read from a network.

    Raises:
        Misuse: A flag is no good.
    """
    asked = asked_of(options)
    in_pool = checked(lambda: region_in(options.text("identity-pool")))
    aws = aws_of(options)
    return ToNamespaceTask(
        request=asked,
        aws=replace(aws, region=in_pool or aws.region),
        upstream=upstream(),
        identity=identity_of(options),
        workspace=workspace_said(options),
        environ=dict(os.environ),
        clock=SystemClock(),
    )


def asked_of(options: Options) -> StsRequest | CognitoRequest:
    flags = ToNamespaceFlags(
        role_name=options.text("role-name"),
        issuer=options.text("issuer"),
        subject_match=options.text("subject-match"),
        audience=options.text("audience"),
        algorithm=options.text("algorithm"),
        duration=options.text("duration"),
        grants=options.many("grant"),
        token_duration=options.text("token-duration"),
        unconditional=options.switch("unconditional"),
        identity_pool=options.text("identity-pool"),
        pool_name=options.text("pool-name"),
        region=options.text("region"),
    )
    via = options.text("via")
    if via is None:
        raise Misuse("--via", "is not given", "give sts or cognito")
    if via == "sts":
        return checked(lambda: sts_request(flags))
    return checked(lambda: cognito_request(flags, region=region_of(options)))


def workspace_said(options: Options) -> str | None:
    said = options.text("workspace")
    return None if said is None else checked(lambda: arguments.workspace(said, place="--workspace"))


def identity_of(options: Options) -> IdentityConfig:
    """Return who changes the trust at Namespace. One that is itself bought with an AWS identity is
    what is being set up here: then it is whoever has logged in."""
    flags = Flags(config=options.text("config"))
    config = checked(lambda: load_identity(flags, os.environ, None))
    warn(config.warnings)
    ((_, identity),) = config.identities.items()
    if isinstance(identity, AwsIdentityConfig):
        return AutoIdentityConfig(name=identity.name)
    return identity


def draft_of(options: Options) -> Draft:
    """Return what is to be written down, without asking any cloud.

    Raises:
        Misuse: A flag is no good, or missing: what is not read has to be said.
    """
    asked = asked_of(options)
    account, workspace = account_of(options), workspace_said(options)
    if account is None:
        raise Misuse("--account", "is not given", "rendering asks no cloud: give its 12 digits")
    if workspace is None:
        raise Misuse("--workspace", "is not given", "rendering asks no cloud: give its id")
    in_pool = checked(lambda: region_in(options.text("identity-pool")))
    region = in_pool or checked(lambda: region_of(options)) or NO_REGION
    target = Target(
        account=account,
        partition=aws.partition_of_region(region),
        region=region,
        workspace=workspace,
    )
    pool_id = None
    if isinstance(asked, CognitoRequest):
        pool_id = asked.pool_id or Placeholder.POOL_ID.value
        desired = desired_by_cognito(asked, target)
    else:
        role_arn = role_arn_said(asked, target)
        desired = checked(lambda: desired_by_sts(asked, target, role_arn=role_arn))
    return Draft(
        title=f"What AWS workloads need to use Namespace, by {options.text('via')}",
        desired=desired,
        target=target,
        command=command_line(),
        next_command=tuple(shlex.split(login_line(asked, target, pool_id=pool_id))),
        profile=options.text("profile"),
    )


def role_arn_said(asked: StsRequest, target: Target) -> str:
    """Return the role's ARN: one that has a path is known where it is the subject match."""
    said, without_path = asked.subject_match or "", target.role_arn(asked.role_name)
    beginning, name = without_path.removesuffix(asked.role_name), f"/{asked.role_name}"
    has_path = said.startswith(beginning) and said.endswith(name) and "*" not in said
    return said if has_path else without_path


# The clouds.


async def look(task: ToNamespaceTask, *, deep: bool = False, without_role: bool = False) -> Looked:
    async with open_clouds(task, without_role=without_role) as clouds:
        return await looked_at(clouds, deep=deep)


async def look_to_set_up(task: ToNamespaceTask) -> Looked:
    async with open_clouds(task) as clouds:
        await clouds.check_issuer()
        return await looked_at(clouds)


async def looked_at(clouds: BothClouds, *, deep: bool = False) -> Looked:
    return Looked(
        target=clouds.target,
        caller=clouds.aws.caller.arn,
        role_arn=clouds.role_arn,
        standing=await clouds.states(deep=deep),
    )


async def carried_out(task: ToNamespaceTask, work: Work, standing: tuple[State, ...]) -> Outputs:
    async with open_clouds(task) as clouds:
        return await apply(work.plan, standing, clouds.access, work.done.append)


def knowing_all(standing: tuple[State, ...], known: Outputs) -> tuple[State, ...]:
    """Return what is wanted with what is known now that it stands."""
    return tuple(replace(each, desired=resolve(each.desired, known)) for each in standing)


# The proof, and what is next.


def ended(options: Options, work: Work, task: ToNamespaceTask, looked: Looked) -> int:
    proof = None
    if not options.switch("no-verify"):
        try:
            proof = waited_for(proof_of(task, looked))
        except Failure:
            if work.as_json:
                work.show_json(role_arn=looked.role_arn, proof=None)
            raise
    lines = snippet(task.request, looked.target, pool_id=looked.pool_id)
    login = login_line(task.request, looked.target, pool_id=looked.pool_id)
    if work.as_json:
        work.show_json(role_arn=looked.role_arn, proof=proof, config=lines, next_command=login)
        return 0
    if proof:
        print(f"\n{proof}")
    print(
        f"\nFor the configuration file of a broker that runs as {looked.role_arn}:\n\n{lines}\n"
        f"Next, there: `namespace-broker run --config FILE`; or once, without a broker:\n\n"
        f"    {login}"
    )
    return 0


async def proof_of(task: ToNamespaceTask, looked: Looked) -> str:
    """Sign in as the workload, and return what to say of it; where this machine cannot, hold what
    stands against it.

    Raises:
        Failure: The workload would not be admitted.
        SourceError: It is not.
    """
    async with open_clouds(task) as clouds:
        workspace = await clouds.sign_in(pool_id=looked.pool_id, on_wait=tell_waiting)
        if workspace is not None:
            return f"Proven: {looked.role_arn} signed in to workspace {workspace}."
        judged = await clouds.requirements(await clouds.states())
    failing = [one for one in judged if one.holds is False]
    if failing:
        raise Failure(
            PLACE,
            f"all of it was done, and {looked.role_arn} would not be admitted: "
            + "; ".join(f"{one.what}: no: {one.reason}" for one in failing),
            "correct what stands against it, and run the command again",
        )
    return judged_text(judged, looked) + login_line(
        task.request, looked.target, pool_id=looked.pool_id
    )


def judged_text(judged: tuple[Requirement, ...], looked: Looked) -> str:
    told = "\n".join(f"  {HOLDS[one.holds]:<8}{one.what}: {one.reason}" for one in judged)
    return (
        f"Not proven: {looked.caller} is not the role {looked.role_arn}, and may not become it. "
        f"What stands in both clouds:\n\n{told}\n\nOver there, run\n\n    "
    )


HOLDS = {True: "yes", False: "NO", None: "unknown"}


def tell_waiting(pause_s: float, reason: Refused) -> None:
    say(
        f"not admitted yet ({reason.word}): it takes up to some minutes to be known everywhere; "
        f"trying again in {pause_s:g} s"
    )
