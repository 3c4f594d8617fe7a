"""A truthful Namespace and a truthful AWS in one process, over real HTTP on loopback.

async with Sandbox() as sandbox:                      # or: with sandbox_in_thread() as sandbox
    sandbox.environment()                             # points a broker at it
    sandbox.client_environment()                      # points an SDK at it
    sandbox.namespace.write_token_file(path)          # who the broker is at Namespace
    sandbox.role_arn                                  # a role that trusts it, by the guide
    sandbox.aws_environment(sandbox.guide_by_sts())   # makes a program an AWS workload that
                                                      # Namespace trusts, by the guide
    role_arn, pool_id = sandbox.guide_by_cognito()    # the same by Cognito
    sandbox.fail("AssumeRoleWithWebIdentity", code="AccessDenied", count=2)
    sandbox.aws.calls, sandbox.aws.verified_identities

async with Sandbox(empty=True) as sandbox:            # an account with neither provider nor role
    sandbox.administrator_environment()               # makes a program one that may change that
    sandbox.aws.providers(), sandbox.aws.roles(), sandbox.aws.identity_pools()
    sandbox.aws.propagation_s = 20                    # STS sees IAM's changes that much later
"""

from broker.sandbox.calls import Call, VerifiedIdentity
from broker.sandbox.faults import ErrorShape, Fault
from broker.sandbox.sandbox import Sandbox, sandbox_in_thread

__all__ = ["Call", "ErrorShape", "Fault", "Sandbox", "VerifiedIdentity", "sandbox_in_thread"]
