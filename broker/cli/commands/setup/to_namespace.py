"""`setup to-namespace`: trust for AWS workloads that use Namespace."""

import os
import shlex
from dataclasses import replace
from typing import Any

from broker import aws
from broker.cli.commands.setup.flags import (
    CHANGING,
    RENDERING,
    SETTING_UP,
    TO_NAMESPACE,
    VERIFYING,
)
from broker.cli.commands.setup.workflow import (
    Observed,
    PlanRun,
    account_of,
    aws_settings,
    checked,
    command_line,
    completed,
    print_draft,
    region_of,
    render_form,
    report_wait,
    required,
    workspace_flag,
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
from broker.config.load import upstream_of
from broker.setup.arguments import ToNamespaceFlags, cognito_request, region_in, sts_request
from broker.setup.aws import NO_REGION, Target
from broker.setup.both_clouds import BothClouds, ToNamespaceTask, open_clouds
from broker.setup.plan import apply, plan_changes
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

Reads what exists in both clouds, shows the plan, asks, carries it out, and proves it by signing in
as the role, where this machine's AWS identity may assume it. What exists stays: other trust
relationships are not changed. Running it twice changes nothing more.

    namespace-broker setup to-namespace --via sts --role-name builder --dry-run
    namespace-broker setup to-namespace --via cognito --role-name builder

Uses this machine's own AWS identity and its Namespace identity, which needs the right to change
the workspace's trust; without one, what is missing is printed as an nsc command.

Exit code 0: done, or nothing to do; 1: it failed; 2: wrong use; 3: --dry-run found something to do.
"""

FLAGS = (*TO_NAMESPACE, *CHANGING, *VERIFYING, *RENDERING, *SETTING_UP)

PLACE = "setup to-namespace"
HOLDS = {True: "yes", False: "NO", None: "unknown"}


def run(options: Options) -> int:
    form = render_form(options)
    if form is not None:
        return print_draft(draft_of(options), form)
    task = task_of(options)
    observed = completed(observe_to_set_up(task))
    work = PlanRun(options=options, plan=plan_changes(observed.states), heading=observed.heading)
    if work.confirmed():
        outputs = work.carry_out(carry_out(task, work, observed))
        observed = with_outputs(observed, outputs)
    code = work.dry_run_code()
    return report(work, task, observed) if code is None else code


def task_of(options: Options) -> ToNamespaceTask:
    """Return what the flags ask for; nothing is read from a network.

    Raises:
        Misuse: A flag is wrong.
    """
    request = request_of(options)
    in_pool = checked(lambda: region_in(options.text("identity-pool")))
    settings = aws_settings(options)
    return ToNamespaceTask(
        request=request,
        aws=replace(settings, region=in_pool or settings.region),
        upstream=checked(lambda: upstream_of(os.environ)),
        identity=identity_of(options),
        workspace=checked(lambda: workspace_flag(options)),
        environ=dict(os.environ),
        clock=SystemClock(),
    )


def request_of(options: Options) -> StsRequest | CognitoRequest:
    texts: dict[str, Any] = {
        name: options.text(name.replace("_", "-"))
        for name in (
            *("role_name", "issuer", "subject_match", "audience", "algorithm", "duration"),
            *("token_duration", "identity_pool", "pool_name", "region"),
        )
    }
    flags = ToNamespaceFlags(
        grants=options.many("grant"), unconditional=options.switch("unconditional"), **texts
    )
    via = required(options, "via", "give sts or cognito")
    if via == "sts":
        return checked(lambda: sts_request(flags))
    return checked(lambda: cognito_request(flags, region=region_of(options)))


def identity_of(options: Options) -> IdentityConfig:
    """Return the identity that changes the trust at Namespace.

    One that is itself obtained from an AWS identity is what is being set up here: instead of it,
    the login of this machine is used.
    """
    flags = Flags(config=options.text("config"))
    config = checked(lambda: load_identity(flags, os.environ, None))
    warn(config.warnings)
    ((_, identity),) = config.identities.items()
    if isinstance(identity, AwsIdentityConfig):
        return AutoIdentityConfig(name=identity.name)
    return identity


def draft_of(options: Options) -> Draft:
    """Return what is to be rendered, without asking any cloud.

    Raises:
        Misuse: A flag is wrong, or missing: what is not read has to be given.
    """
    request = request_of(options)
    account, workspace = account_of(options), checked(lambda: workspace_flag(options))
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
    if isinstance(request, CognitoRequest):
        pool_id = request.pool_id or Placeholder.POOL_ID.value
        desired = desired_by_cognito(request, target)
    else:
        role_arn = role_arn_given(request, target)
        desired = checked(lambda: desired_by_sts(request, target, role_arn=role_arn))
    return Draft(
        title=f"What AWS workloads need to use Namespace, by {options.text('via')}",
        desired=desired,
        target=target,
        command=command_line(),
        next_command=tuple(shlex.split(login_line(request, target, pool_id=pool_id))),
        profile=options.text("profile"),
    )


def role_arn_given(request: StsRequest, target: Target) -> str:
    """Return the role's ARN: one with a path is known where it is the subject match."""
    subject, without_path = request.subject_match or "", target.role_arn(request.role_name)
    beginning, name = without_path.removesuffix(request.role_name), f"/{request.role_name}"
    has_path = subject.startswith(beginning) and subject.endswith(name) and "*" not in subject
    return subject if has_path else without_path


async def observe(
    task: ToNamespaceTask, *, deep: bool = False, without_role: bool = False
) -> Observed:
    """Read what exists. *deep*: also what a removal has to know."""
    async with open_clouds(task, without_role=without_role) as clouds:
        return await observed_in(clouds, deep=deep)


async def observe_to_set_up(task: ToNamespaceTask) -> Observed:
    async with open_clouds(task) as clouds:
        await clouds.check_issuer()
        return await observed_in(clouds)


async def observed_in(clouds: BothClouds, *, deep: bool = False) -> Observed:
    return Observed(
        target=clouds.target,
        caller=clouds.aws.caller.arn,
        role_arn=clouds.role_arn,
        states=await clouds.states(deep=deep),
    )


async def carry_out(task: ToNamespaceTask, work: PlanRun, observed: Observed) -> Outputs:
    async with open_clouds(task) as clouds:
        return await apply(work.plan, observed.states, clouds.access, work.done.append)


def with_outputs(observed: Observed, outputs: Outputs) -> Observed:
    """Return the desired resources with what AWS said of them once they were made."""
    states = [replace(each, desired=resolve(each.desired, outputs)) for each in observed.states]
    return replace(observed, states=tuple(states))


def pool_id_of(observed: Observed) -> str | None:
    """Return the identity pool's id, None where none is used."""
    trusts = [each.desired for each in observed.states if isinstance(each.desired, PoolTrust)]
    return trusts[0].pool_id if trusts else None


def report(work: PlanRun, task: ToNamespaceTask, observed: Observed) -> int:
    pool_id = pool_id_of(observed)
    lines = snippet(task.request, observed.target, pool_id=pool_id)
    login = login_line(task.request, observed.target, pool_id=pool_id)
    if work.report(
        role_arn=observed.role_arn,
        proof=lambda: completed(proof_of(task, observed)),
        config=lines,
        command=login,
    ):
        print(
            f"\nFor the configuration file of a broker that runs as {observed.role_arn}:\n\n"
            f"{lines}\nNext, there: `namespace-broker run --config FILE`; or once, without a "
            f"broker:\n\n    {login}"
        )
    return 0


async def proof_of(task: ToNamespaceTask, observed: Observed) -> str:
    """Sign in as the workload, and return a sentence about it.

    Where this machine cannot, check what exists instead.

    Raises:
        Failure: The workload would not be admitted.
        SourceError: It is not.
    """
    async with open_clouds(task) as clouds:
        workspace = await clouds.sign_in(pool_id=pool_id_of(observed), on_wait=report_wait)
        if workspace is not None:
            return f"Proven: {observed.role_arn} signed in to workspace {workspace}."
        requirements = await clouds.requirements(await clouds.states())
    failing = [one for one in requirements if one.holds is False]
    if failing:
        raise Failure(
            PLACE,
            f"everything was done, and {observed.role_arn} would not be admitted: "
            + "; ".join(f"{one.what}: no: {one.reason}" for one in failing),
            "correct that, and run the command again",
        )
    return not_proven(task, observed, requirements)


def not_proven(
    task: ToNamespaceTask, observed: Observed, requirements: tuple[Requirement, ...]
) -> str:
    lines = "\n".join(f"  {HOLDS[one.holds]:<8}{one.what}: {one.reason}" for one in requirements)
    login = login_line(task.request, observed.target, pool_id=pool_id_of(observed))
    return (
        f"Not proven: {observed.caller} is not the role {observed.role_arn}, and may not assume "
        f"it. What exists in both clouds:\n\n{lines}\n\nAs that role, run\n\n    {login}"
    )
