"""`setup to-aws`: trust for programs on Namespace that use AWS."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from broker import aws
from broker.cli.commands.setup.flags import CHANGING, RENDERING, SETTING_UP, TO_AWS, VERIFYING
from broker.cli.commands.setup.workflow import (
    LocalIdentity,
    Observed,
    PlanRun,
    account_of,
    aws_settings,
    checked,
    command_line,
    completed,
    local_identity,
    print_draft,
    region_of,
    render_form,
    report_wait,
    required,
    runtime,
    workspace_flag,
)
from broker.cli.errors import Failure, Misuse
from broker.cli.offline import ends_at
from broker.cli.parser import Options
from broker.clock import SystemClock
from broker.config import ConfigError, RoleConfig
from broker.config.file import read_bounded, text_of
from broker.credentials import AwsCredentials, Role
from broker.lease import Lease
from broker.policy import Verdict
from broker.setup import arguments, to_aws
from broker.setup.aws import NO_REGION, AwsAccount, AwsSettings, Target, open_aws
from broker.setup.documents import Document
from broker.setup.plan import apply, plan_changes, read_states
from broker.setup.render import Draft
from broker.setup.resource import CloudAccess
from broker.setup.resources import IamRole, OidcProvider
from broker.setup.sign_in import until_effective
from broker.setup.to_aws import ToAwsRequest
from broker.setup.verify import aws_admits

DESCRIPTION = """Let programs on Namespace use AWS: make the account trust the workspace.

Reads what exists, shows the plan, asks, carries it out, and proves it by obtaining credentials the
way the broker will. What exists stays: a role's trust policy is added to, never overwritten.
Running it twice changes nothing more.

    namespace-broker setup to-aws --role-name deploy --dry-run
    namespace-broker setup to-aws --role-name deploy \\
        --policy-arn arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess
    namespace-broker setup to-aws --role-name deploy \\
        --issuer https://token.actions.githubusercontent.com --subject 'repo:OWNER/REPOSITORY:*'

Uses this machine's own AWS identity, which needs rights in IAM, and writes no credential.

Exit code 0: done, or nothing to do; 1: it failed; 2: wrong use; 3: --dry-run found something to do.
"""

FLAGS = (*TO_AWS, *CHANGING, *VERIFYING, *RENDERING, *SETTING_UP)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToAwsTask:
    """What the flags ask for.

    ``workspace`` is empty where another issuer than Namespace is to be trusted. ``identity`` is
    this machine's, where it was read for the workspace.
    """

    request: ToAwsRequest
    workspace: str
    aws: AwsSettings
    identity: LocalIdentity | None


def run(options: Options) -> int:
    form = render_form(options)
    if form is not None:
        return print_draft(draft_of(options), form)
    task = task_of(options)
    observed = completed(observe(task))
    work = PlanRun(options=options, plan=plan_changes(observed.states), heading=observed.heading)
    if work.confirmed():
        work.carry_out(carry_out(task, work, observed))
    code = work.dry_run_code()
    if code is not None:
        return code
    if work.plan.pending:
        observed = completed(observe(task))
    return report(options, work, task, observed)


def task_of(options: Options) -> ToAwsTask:
    """Return what the flags ask for.

    Raises:
        Misuse: A flag is wrong; found before anything is read from a network.
        Failure: The workspace could not be read.
    """
    request = checked(lambda: request_without_subject(options))
    settings = aws_settings(options)
    subject = options.text("subject")
    if not request.is_for_namespace and options.text("workspace") is None:
        subject = required(options, "subject", f"say whom of {request.issuer} to admit")
        subject = checked(lambda: arguments.foreign_subject(str(subject), place="--subject"))
        request = replace(request, subject=subject)
        return ToAwsTask(request=request, workspace="", aws=settings, identity=None)
    workspace, identity = workspace_of(options)
    if subject is not None:
        subject = checked(
            lambda: arguments.subject(str(subject), workspace=workspace, place="--subject")
        )
    return ToAwsTask(
        request=replace(request, subject=subject),
        workspace=workspace,
        aws=settings,
        identity=identity,
    )


def request_without_subject(options: Options) -> ToAwsRequest:
    name = required(options, "role-name", "give the name of the role, new or existing")
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
    place, policies = "--policy-file", dict[str, Document]()
    for text in options.many("policy-file"):
        path = Path(text)
        name = arguments.policy_name(path.stem, place=place)
        if name in policies:
            raise Misuse(place, f"gives two policies the name {name}", "rename one of the files")
        try:
            content = text_of(read_bounded(path), path)
        except ConfigError as error:
            raise Misuse(place, f"{error.place} {error.what}", "give a JSON file") from error
        policies[name] = arguments.policy_document(content, place=f"{place} {path}")
    return policies


def workspace_of(options: Options) -> tuple[str, LocalIdentity | None]:
    """Return the workspace, and this machine's identity where it was read for that.

    Raises:
        Misuse, Failure: It is not given, and there is no identity to read it from; or as
            `local_identity`.
    """
    workspace = checked(lambda: workspace_flag(options))
    if workspace is not None:
        return workspace, None
    identity = local_identity(options, audience=to_aws.AUDIENCE)
    if identity is None:
        raise Misuse(
            "--workspace",
            "is not given, and this machine has no Namespace identity to read it from",
            "give the workspace's id, or run `nsc login`",
        )
    place = f"identity/{identity.identity}"
    return checked(lambda: arguments.workspace(identity.workspace, place=place)), identity


def draft_of(options: Options) -> Draft:
    """Return what is to be rendered, without asking any cloud.

    Raises:
        Misuse: A flag is wrong, or missing: what is not read has to be given.
    """
    is_foreign = options.text("issuer") not in (None, to_aws.ISSUER)
    for name in ("account",) if is_foreign else ("account", "workspace"):
        required(options, name, "rendering asks no cloud: give its id")
    task = task_of(options)
    request = task.request
    region = checked(lambda: region_of(options)) or NO_REGION
    target = Target(
        account=str(checked(lambda: account_of(options))),
        partition=aws.partition_of_region(region),
        region=region,
        workspace=task.workspace,
    )
    checked(
        lambda: arguments.same_partition(
            request.policy_arns, target.partition, place="--policy-arn"
        )
    )
    return Draft(
        title=f"What {request.users} need to use AWS",
        desired=to_aws.desired_resources(request, target),
        target=target,
        command=command_line(),
        next_command=next_command(request, target, target.role_arn(request.role_name)),
        profile=options.text("profile"),
    )


async def observe(task: ToAwsTask, *, deep: bool = False) -> Observed:
    """Read what exists of what is asked for. *deep*: also what a removal has to know."""
    async with open_aws(task.aws, clock=SystemClock()) as account:
        target = account.target(task.workspace)
        request = task.request
        arguments.same_partition(request.policy_arns, target.partition, place="--policy-arn")
        desired = to_aws.desired_resources(request, target)
        observed = Observed(
            target=target,
            caller=account.caller.arn,
            role_arn=target.role_arn(request.role_name),
            states=await read_states(access(account), desired, deep=deep),
        )
    _, role = observed.state_of(IamRole)
    # The role's own ARN has its path, where it has one.
    return observed if role is None else replace(observed, role_arn=str(role.arn))


def access(account: AwsAccount) -> CloudAccess:
    return CloudAccess(aws=account.api, clock=SystemClock())


async def carry_out(task: ToAwsTask, work: PlanRun, observed: Observed) -> None:
    async with open_aws(task.aws, clock=SystemClock()) as account:
        await apply(work.plan, observed.states, access(account), work.done.append)


def report(options: Options, work: PlanRun, task: ToAwsTask, observed: Observed) -> int:
    snippet = to_aws.snippet(task.request, observed.target, role_arn=observed.role_arn)
    command = shlex.join(next_command(task.request, observed.target, observed.role_arn))
    if work.report(
        role_arn=observed.role_arn,
        proof=lambda: proof_of(options, task, observed),
        config=snippet,
        command=command,
    ):
        print(f"\nFor the broker's configuration file:\n\n{snippet}\nNext:\n\n    {command}")
    return 0


def next_command(request: ToAwsRequest, target: Target, role_arn: str) -> tuple[str, ...]:
    """Return the command that uses the trust."""
    if not request.is_for_namespace:
        words = ("aws", "sts", "assume-role-with-web-identity", "--role-arn", role_arn)
        return (*words, "--role-session-name", "NAME", "--web-identity-token", "file://TOKEN")
    return (
        *("namespace-broker", "run", "--role-arn", named_arn(request, role_arn)),
        *("--region", target.region),
    )


def named_arn(request: ToAwsRequest, role_arn: str) -> str:
    """Return the ARN as ``--role-arn`` takes it: with a name where the role's own is too short."""
    key = to_aws.role_key(request.role_name)
    return role_arn if key == request.role_name else f"{key}={role_arn}"


def proof_of(options: Options, task: ToAwsTask, observed: Observed) -> str:
    """Obtain credentials the way the daemon will, and return a sentence about them.

    Where this machine cannot, the sentence names the command that does it elsewhere.

    Raises:
        Failure: They are refused.
    """
    if not task.workspace:
        command = shlex.join(next_command(task.request, observed.target, observed.role_arn))
        return (
            f"Not proven: this machine has no token of {task.request.issuer}. Where there is one, "
            f"for the audience {to_aws.AUDIENCE}, run\n\n    {command}"
        )
    identity = task.identity or local_identity(options, audience=to_aws.AUDIENCE)
    elsewhere = (
        f"namespace-broker check --live --role-arn {named_arn(task.request, observed.role_arn)}"
    )
    if identity is None:
        return (
            "Not proven: this machine has no Namespace identity. On an instance of the workspace "
            f"{observed.target.workspace}, run\n\n    {elsewhere}"
        )
    if not to_aws.is_meant_for(task.request, observed.target, identity.token):
        return (
            f"Not proven: the Namespace identity of this machine ({identity.token.subject}) is "
            f"not one of those that are admitted. As one of them, run\n\n    {elsewhere}"
        )
    verdict = verdict_on(observed, identity)
    if not verdict and not verdict.undecided:
        raise Failure(
            "setup to-aws",
            f"everything is in place, and {observed.role_arn} does not admit "
            f"{identity.token.subject}: {verdict.reason}",
            "remove what forbids it from the role's trust policy",
        )
    lease = completed(obtained(task.request, observed, identity))
    return (
        f"Proven: {identity.token.subject} obtained credentials of {lease.value.role_arn}, good "
        f"until {ends_at(lease)}."
    )


def verdict_on(observed: Observed, identity: LocalIdentity) -> Verdict:
    return aws_admits(
        observed.state_of(OidcProvider), observed.state_of(IamRole), claims=identity.claims
    )


async def obtained(
    request: ToAwsRequest, observed: Observed, identity: LocalIdentity
) -> Lease[AwsCredentials]:
    from broker.daemon.offline import obtain

    name = to_aws.role_key(request.role_name)
    role = Role(
        name=name,
        arn=observed.role_arn,
        region=observed.target.region,
        duration_s=request.max_session_duration_s or 3600,
    )
    entry = RoleConfig(role=role, identity=identity.identity, audience=to_aws.AUDIENCE)
    config = replace(identity.config, roles=(entry,), default_role=name)
    return await until_effective(
        lambda: obtain(config, name, runtime()), clock=SystemClock(), on_wait=report_wait
    )
