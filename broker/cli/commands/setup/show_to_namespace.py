"""`setup show to-namespace`: what stands, and whether it would let the workload in."""

import json
import sys
from collections.abc import Iterator

from broker.cli.commands.setup.flags import SETTING_UP, TO_NAMESPACE
from broker.cli.commands.setup.to_namespace import HOLDS, Looked, looked_at, task_of
from broker.cli.commands.setup.workflow import waited_for
from broker.cli.output import columns, printable
from broker.cli.parser import Options
from broker.setup.both_clouds import ToNamespaceTask, open_clouds
from broker.setup.plan import Plan, plan_changes
from broker.setup.verify import Requirement

DESCRIPTION = """Show what stands of what setup to-namespace makes, and hold the role that the
workload runs as against every condition of it. Changes nothing.

Exit code 0: it would be admitted; 1: it would not, or nobody can tell.

    namespace-broker setup show to-namespace --via sts --role-name builder
"""

FLAGS = (*TO_NAMESPACE, *SETTING_UP)

STANDS = {"keep": "stands", "create": "missing", "change": "differs"}


def run(options: Options) -> int:
    task = task_of(options)
    looked, judged = waited_for(looked_and_judged(task))
    found = plan_changes(looked.standing)
    if options.switch("json"):
        print(json.dumps(document(looked, found, judged), indent=2))
    else:
        sys.stdout.write(described(looked, found))
        sys.stdout.writelines(f"{printable(line)}\n" for line in lines_of(judged, looked, found))
    return 0 if is_admitted(judged, found) else 1


async def looked_and_judged(task: ToNamespaceTask) -> tuple[Looked, tuple[Requirement, ...]]:
    async with open_clouds(task, without_role=True) as clouds:
        looked = await looked_at(clouds)
        return looked, await clouds.requirements(looked.standing)


def is_admitted(judged: tuple[Requirement, ...], found: Plan) -> bool:
    """Does everything hold? What cannot be told does where it stands as we would have made it."""
    if any(one.holds is False for one in judged):
        return False
    return all(one.holds for one in judged) or not found.pending


def described(looked: Looked, found: Plan) -> str:
    rows = [[STANDS[step.kind], step.title, step.note] for step in found.steps]
    table = columns(["STANDS", "WHAT", "NOTE"], rows)
    return f"{printable(looked.heading)}\n\n{table}\n"


def lines_of(judged: tuple[Requirement, ...], looked: Looked, found: Plan) -> Iterator[str]:
    """Yield each thing that has to hold, each condition of it, and the verdict."""
    for one in judged:
        yield f"{HOLDS[one.holds]:<8}{one.what}: {one.reason}"
        for statement in one.relevant_statements:
            yield f"        {statement.place} ({statement.effect})"
            for check in statement.checks:
                yield f"          {HOLDS[check.holds]:<8}{check.text}"
    yield ""
    if is_admitted(judged, found):
        yield f"{looked.role_arn} would be admitted."
    elif any(one.holds is False for one in judged):
        yield f"{looked.role_arn} would not be admitted."
    else:
        yield f"{looked.role_arn} is not known to be admitted: only signing in tells."


def document(looked: Looked, found: Plan, judged: tuple[Requirement, ...]) -> dict[str, object]:
    return {
        "account": looked.target.account,
        "workspace": looked.target.workspace,
        "role_arn": looked.role_arn,
        "things": [
            {"what": step.title, "stands": STANDS[step.kind], "note": step.note}
            for step in found.steps
        ],
        "admitted": is_admitted(judged, found),
        "judged": [
            {
                "what": one.what,
                "holds": one.holds,
                "reason": one.reason,
                "statements": [
                    {
                        "place": statement.place,
                        "effect": statement.effect,
                        "applies": statement.applies,
                        "checks": [
                            {"told": check.text, "holds": check.holds} for check in statement.checks
                        ],
                    }
                    for statement in one.relevant_statements
                ],
            }
            for one in judged
        ],
    }
