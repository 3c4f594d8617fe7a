"""Render the plan as a script for a plain shell, with the AWS CLI."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from broker import aws
from broker.setup.documents import Document, policy_of
from broker.setup.render.draft import (
    ENABLING,
    READING_THE_ISSUER,
    TAGS,
    Draft,
    comment,
    existing_roles,
    grants_note,
    head,
    shell_line,
    shell_word,
)
from broker.setup.resource import Placeholder
from broker.setup.resources import (
    AttachedPolicy,
    DesiredResource,
    IamRole,
    InlinePolicy,
    OidcProvider,
    OutboundFederation,
    PoolTrust,
    TrustRelationship,
)
from broker.setup.resources.identity_pool import DEFAULT_POOL_NAME, IdentityPool

_VARIABLES: Mapping[Placeholder, str] = {
    Placeholder.ISSUER: '"$issuer"',
    Placeholder.POOL_ID: '"$pool_id"',
    Placeholder.POOL_GUID: '"$guid"',
}

# What looks like a shell expansion in single quotes belongs to a policy or to JMESPath.
_MODES = """\
# shellcheck disable=SC2016 # what is in single quotes is not to be expanded
set -eu
"""

_FUNCTIONS = """\
say() { printf '%s\\n' "$*"; }

stop() {
    printf '%s\\n' "$*" >&2
    exit 1
}

# Runs a command. False where AWS answers with the error given first; any other error exits.
unless() {
    expected=$1
    shift
    if answer=$("$@" 2>&1); then return 0; fi
    case $answer in *"($expected)"*) return 1 ;; esac
    stop "$answer"
}
"""


def rendered(draft: Draft) -> str:
    """Return the script. Run twice, it changes nothing more."""
    parts = [
        "#!/bin/sh\n" + comment(_head(draft)) + "\n" + _MODES,
        _surroundings(draft),
        _FUNCTIONS,
        _check_account(draft),
        *(_require_role(name, draft) for name in existing_roles(draft)),
        *(_step(desired, draft) for desired in draft.desired),
        _next(draft),
    ]
    return "\n".join(parts)


def _head(draft: Draft) -> list[str]:
    return [
        *head(draft),
        "",
        "To run it: sh FILE, with an AWS identity of that account. It keeps what exists; where it",
        "cannot tell whether that is enough, it stops and says so.",
    ]


def _surroundings(draft: Draft) -> str:
    # IAM is signed for one region; where another matters, --region gives it.
    target = draft.target
    region = shlex.quote(aws.IAM_REGIONS.get(target.partition, target.region))
    lines = [f"export AWS_PAGER='' AWS_REGION={region} AWS_DEFAULT_REGION={region}"]
    if draft.profile is not None:
        # By a flag: keys in the environment would win over AWS_PROFILE.
        lines.append(f'aws() {{ command aws {_option("profile", draft.profile)} "$@"; }}')
    return _text(*lines)


def _check_account(draft: Draft) -> str:
    account = shlex.quote(draft.target.account)
    reading = f"aws sts get-caller-identity {_option('region', draft.target.region)}"
    complaint = f"of account $account, and this is for {draft.target.account}"
    return _text(
        f"account=$({reading} --query Account --output text)",
        f'[ "$account" = {account} ] || stop "This AWS identity is {complaint}."',
    )


def _require_role(name: str, draft: Draft) -> str:
    reading = f"aws iam get-role {_option('role-name', name)} --query Role.Arn --output text"
    if draft.role_without_path is None:
        return _text(f"{reading} >/dev/null")
    complaint = shlex.quote("The role has a path; render again with --subject-match ")
    return _text(
        f"role_arn=$({reading})",
        f'[ "$role_arn" = {shlex.quote(draft.role_without_path)} ] || stop {complaint}"$role_arn"',
    )


def _step(desired: DesiredResource, draft: Draft) -> str:
    match desired:
        case OidcProvider():
            return _provider(desired)
        case IamRole():
            return _role(desired)
        case AttachedPolicy():
            return _attached(desired)
        case InlinePolicy():
            return _kept_policy(desired, draft) if desired.required else _policy(desired, draft)
        case OutboundFederation():
            return _federation(draft)
        case IdentityPool():
            return _new_pool(desired) if desired.pool_id is None else _standing_pool(desired)
        case TrustRelationship() | PoolTrust():
            return _namespace(desired, draft)


def _provider(desired: OidcProvider) -> str:
    arn = _option("open-id-connect-provider-arn", desired.arn)
    adding = [
        f"    aws iam add-client-id-to-open-id-connect-provider {arn} {_option('client-id', one)}"
        for one in desired.audiences
    ]
    creating = _command(
        "aws iam create-open-id-connect-provider",
        _option("url", desired.url),
        f"--client-id-list {shlex.join(desired.audiences)}",
        f"--thumbprint-list {shlex.join(desired.thumbprints)}" if desired.thumbprints else "",
        _tags(),
    )
    return _text(
        _saying(desired.title),
        f"if unless NoSuchEntity aws iam get-open-id-connect-provider {arn}; then",
        *adding,
        "else",
        f"    {creating} >/dev/null",
        "fi",
    )


def _role(desired: IamRole) -> str:
    name = _option("role-name", desired.name)
    duration_s = desired.max_session_duration_s
    creating = _command(
        "aws iam create-role",
        name,
        _document("assume-role-policy-document", policy_of(desired.trust_statement)),
        "" if duration_s is None else f"--max-session-duration={duration_s}",
        _option("description", desired.description) if desired.description else "",
        _tags(),
    )
    complaint = (
        f"The role {desired.name} exists, and its trust policy does not have this very "
        "statement. It is not overwritten: namespace-broker setup to-aws, without --render, "
        "adds to it."
    )
    return _text(
        _saying(desired.title),
        f"if unless NoSuchEntity aws iam get-role {name}; then",
        f"    trusted=$(aws iam get-role {name} {_option('query', _same(desired.trust_statement))}"
        " --output text)",
        f"    case $trusted in *Allow*) ;; *) stop {shlex.quote(complaint)} ;; esac",
        "else",
        f"    {creating} >/dev/null",
        f"    aws iam wait role-exists {name}",
        "fi",
    )


def _same(statement: Document) -> str:
    """Return JMESPath that finds the effect of an equal statement in a role's trust policy."""
    literal = json.dumps(statement).replace("`", "\\u0060")
    return f"[Role.AssumeRolePolicyDocument.Statement][] | [?@ == `{literal}`].Effect"


def _attached(desired: AttachedPolicy) -> str:
    name, arn = _option("role-name", desired.role), _option("policy-arn", desired.arn)
    return _text(
        _saying(f"policy of {desired.role}: {desired.arn}"),
        f"aws iam attach-role-policy {name} {arn}",
    )


def _policy(desired: InlinePolicy, draft: Draft) -> str:
    return _text(_saying(desired.title, draft), _putting(desired, draft))


def _kept_policy(desired: InlinePolicy, draft: Draft) -> str:
    """Keep an existing one: it may allow more, and others may need that."""
    words = f"{_option('role-name', desired.role)} {_option('policy-name', desired.name, draft)}"
    note = "  it exists, and is left as it is: check that it allows what is needed"
    return _text(
        _saying(desired.title, draft),
        f"if unless NoSuchEntity aws iam get-role-policy {words}; then",
        f"    say {shlex.quote(note)}",
        "else",
        f"    {_putting(desired, draft)}",
        "fi",
    )


def _putting(desired: InlinePolicy, draft: Draft) -> str:
    return _command(
        "aws iam put-role-policy",
        _option("role-name", desired.role),
        _option("policy-name", desired.name, draft),
        _document("policy-document", desired.document, draft),
    )


def _federation(draft: Draft) -> str:
    lines = [
        _saying("outbound web identity federation"),
        f"unless FeatureEnabled {shlex.join(ENABLING)} || say '  it is on already'",
    ]
    if Placeholder.ISSUER in draft.placeholders:
        lines.append(f"issuer=$({shell_line(READING_THE_ISSUER, {})})")
    return _text(*lines)


def _new_pool(desired: IdentityPool) -> str:
    """Names are not unique: it is looked for by name and provider, as the command does."""
    creating = _command(
        f"aws cognito-identity create-identity-pool {_option('region', desired.region)}",
        _option("identity-pool-name", desired.name),
        "--no-allow-unauthenticated-identities",
        _option("developer-provider-name", desired.developer_provider),
        *(f"--identity-pool-tags {shlex.quote(f'{key}={value}')}" for key, value in TAGS.items()),
        "--query IdentityPoolId --output text",
    )
    named = f"IdentityPools[?IdentityPoolName=='{desired.name}'].IdentityPoolId"
    looking = [f"pools=$(pools_like {shlex.quote(named)})"]
    if desired.name == DEFAULT_POOL_NAME:
        looking.append("[ -n \"$pools\" ] || pools=$(pools_like 'IdentityPools[].IdentityPoolId')")
    return _text(
        _saying(f"identity pool {desired.name}"),
        "# The ids of the pools that have the developer provider, of those that JMESPath picks;",
        "# of all pages: with --max-results, the CLI reads only one.",
        "pools_like() {",
        f"    listed=$(aws cognito-identity list-identity-pools {_option('region', desired.region)}"
        ' --cli-input-json \'{"MaxResults": 60}\' --query "$1" --output text) || exit 1',
        "    for one in $listed; do",
        f"        provider=$({_reading_its_provider(desired)}) || exit 1",
        f'        if [ "$provider" = {shlex.quote(desired.developer_provider)} ]; then'
        " printf '%s ' \"$one\"; fi",
        "    done",
        "}",
        *looking,
        "pool_id=${pools%% *}",
        'case ${pools#"$pool_id"} in',
        '    *[!\\ ]*) stop "Several pools will do: ${pools}- render with --identity-pool." ;;',
        "esac",
        'if [ -z "$pool_id" ]; then',
        f"    pool_id=$({creating})",
        "fi",
        "guid=${pool_id#*:}",
    )


def _reading_its_provider(pool: IdentityPool) -> str:
    return (
        f"aws cognito-identity describe-identity-pool {_option('region', pool.region)}"
        ' --identity-pool-id="$one" --query DeveloperProviderName --output text'
    )


def _standing_pool(desired: IdentityPool) -> str:
    pool_id = str(desired.pool_id)
    complaint = (
        f"The pool {pool_id} does not have the developer provider {desired.developer_provider}."
    )
    return _text(
        _saying(f"identity pool {pool_id}"),
        f"one={shlex.quote(pool_id)}",
        f"provider=$({_reading_its_provider(desired)})",
        f'[ "$provider" = {shlex.quote(desired.developer_provider)} ] || '
        f"stop {shlex.quote(complaint)}",
    )


def _namespace(desired: TrustRelationship | PoolTrust, draft: Draft) -> str:
    line = shell_line(draft.namespace_command or (), _variables(draft))
    as_text = shell_line(draft.namespace_command or (), draft.unfilled)
    doing = f"    {line}"
    if isinstance(desired, TrustRelationship):
        # nsc would add a relationship a second time.
        subject = shlex.quote(json.dumps(desired.subject_match))
        doing = _text(
            "    listed=$(nsc auth trust-relationships list -o json)",
            "    case $listed in",
            f"        *{subject}*) say '  one for it exists, and is left as it is' ;;",
            f"        *) {line} ;;",
            "    esac",
        ).rstrip("\n")
    return _text(
        comment([f"Namespace's side: the workspace {desired.workspace}.", *grants_note(draft)[:1]])
        + _saying(f"trust of workspace {desired.workspace}"),
        "if command -v nsc >/dev/null; then",
        doing,
        "else",
        "    say '  not done: nsc is not installed here. Where it is, as who administers it:'",
        f"    say {shell_word(f'    {as_text}', _variables(draft))}",
        "fi",
    )


def _next(draft: Draft) -> str:
    as_text = shell_line(draft.next_command, draft.unfilled)
    return _text(f"say 'Next:' {shell_word(as_text, _variables(draft))}")


def _variables(draft: Draft) -> dict[Placeholder, str]:
    return {placeholder: _VARIABLES[placeholder] for placeholder in draft.placeholders}


def _text(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


def _command(*parts: str) -> str:
    return " \\\n        ".join(filter(None, parts))


def _option(name: str, value: str, draft: Draft | None = None) -> str:
    """Return one option. With ``=``: some values may begin with a dash."""
    return f"--{name}={shell_word(value, {} if draft is None else _variables(draft))}"


def _document(name: str, document: Document, draft: Draft | None = None) -> str:
    return _option(name, json.dumps(document, indent=2), draft)


def _tags() -> str:
    return "--tags " + " ".join(
        shlex.quote(f"Key={key},Value={value}") for key, value in TAGS.items()
    )


def _saying(what: str, draft: Draft | None = None) -> str:
    return f"say {shell_word(what, {} if draft is None else _variables(draft))}"
