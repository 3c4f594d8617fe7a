"""`setup show to-aws`: what stands, and whether it would let this identity in."""

import json
import sys
from collections.abc import Iterator

from broker.cli.commands.setup.flags import SETTING_UP, TO_AWS
from broker.cli.commands.setup.to_aws import Looked, asked_of, look
from broker.cli.commands.setup.workflow import AtHand, at_hand, aws_of, waited_for
from broker.cli.output import columns, printable
from broker.cli.parser import Options
from broker.policy import Verdict
from broker.setup import to_aws
from broker.setup.plan import Plan, plan_changes

DESCRIPTION = """Show what stands of what setup to-aws makes, and hold this machine's Namespace
identity against every condition of it. Changes nothing.

Exit code 0: it would be admitted; 1: it would not.

    namespace-broker setup show to-aws --role-name deploy
"""

FLAGS = (*TO_AWS, *SETTING_UP)

STANDS = {"keep": "stands", "create": "missing", "change": "differs"}
HOLDS = {True: "yes", False: "NO", None: "unknown"}


def run(options: Options) -> int:
    asked, workspace, identity = asked_of(options)
    identity = identity or at_hand(options, audience=to_aws.AUDIENCE)
    looked = waited_for(look(aws_of(options), asked, workspace))
    found = plan_changes(looked.standing)
    if identity is None:
        return show_without_identity(options, looked, found)
    verdict = looked.admits(identity)
    if options.switch("json"):
        print(json.dumps(document(looked, found, identity, verdict), indent=2))
    else:
        sys.stdout.write(described(looked, found))
        sys.stdout.writelines(f"{printable(line)}\n" for line in judged(identity, verdict))
    return 0 if verdict else 1


def show_without_identity(options: Options, looked: Looked, found: Plan) -> int:
    """Say whether everything stands as it is wanted, for want of an identity to judge."""
    if options.switch("json"):
        print(json.dumps(document(looked, found, None, None), indent=2))
    else:
        sys.stdout.write(described(looked, found))
        print(
            "This machine has no Namespace identity to hold against it. "
            + (
                "It is not as setup to-aws would make it."
                if found.pending
                else f"It admits {to_aws.subject_in(looked.role[0])}."
            )
        )
    return 1 if found.pending else 0


def described(looked: Looked, found: Plan) -> str:
    rows = [[STANDS[step.kind], step.title, step.note] for step in found.steps]
    table = columns(["STANDS", "WHAT", "NOTE"], rows)
    return f"{printable(looked.heading)}\n\n{table}\n"


def judged(identity: AtHand, verdict: Verdict) -> Iterator[str]:
    """Yield the identity's claims, each condition that they are held against, and the verdict."""
    for claim, value in identity.claims.items():
        yield f"{claim}  {value}"
    yield ""
    for statement in verdict.statements:
        yield f"{statement.place} ({statement.effect})"
        for check in statement.checks:
            yield f"  {HOLDS[check.holds]:<8}{check.text}"
    if verdict.statements:
        yield ""
    if verdict.undecided:
        yield f"Whether it would be admitted cannot be told here: {verdict.reason}"
    else:
        yield f"It {'would' if verdict else 'would not'} be admitted: {verdict.reason}"


def document(
    looked: Looked, found: Plan, identity: AtHand | None, verdict: Verdict | None
) -> dict[str, object]:
    return {
        "account": looked.target.account,
        "workspace": looked.target.workspace,
        "role_arn": looked.role_arn,
        "things": [
            {"what": step.title, "stands": STANDS[step.kind], "note": step.note}
            for step in found.steps
        ],
        "claims": None if identity is None else dict(identity.claims),
        "admitted": None if verdict is None else verdict.admitted,
        "reason": None if verdict is None else verdict.reason,
        "statements": [
            {
                "place": statement.place,
                "effect": statement.effect,
                "applies": statement.applies,
                "checks": [
                    {"told": check.text, "holds": check.holds} for check in statement.checks
                ],
            }
            for statement in (verdict.statements if verdict else ())
        ],
    }
