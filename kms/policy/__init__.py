"""Who may do what to which path: the ACL policy language of the Vault API, and its decisions.

It promises: the same text gives the same answer as the peer's `sys/capabilities`; what is not granted
is denied; among rules of one pattern deny wins; a text that says anything we do not enforce is refused
when it is written, never ignored. `parse`, `compile_acl`, `decide` and `capabilities` are pure.

Rules may have conditions, and may demand the consent of others; `explain` says why, with the same function. Requests
that wait for consent are kept by `kms.identity.consent`; what the road needs of them is in `release`.

It never fetches: a decision is a function of the compiled rules, a canonical path, a capability, the
arguments and the context handed in. It knows neither tokens nor keys nor requests. `PolicyService` keeps the texts and
caches compiled sets; the pipeline calls `PolicyService.decide`, and nothing else on the hot path.
"""

from kms.policy.builtin import DEFAULT, NOT_ASSIGNABLE, OIDC_ACCESS, RESPONSE_WRAPPING, ROOT
from kms.policy.compiler import Acl, compile_acl
from kms.policy.conditions import Context
from kms.policy.decide import Arguments, capabilities, decide, has_sudo
from kms.policy.language import parse
from kms.policy.model import PolicyDocument, Rule
from kms.policy.names import canonical_name, canonical_names
from kms.policy.operations import TokenPolicies, operations
from kms.policy.service import PolicyService
from kms.policy.union import Decision

__all__ = [
    "DEFAULT",
    "NOT_ASSIGNABLE",
    "OIDC_ACCESS",
    "RESPONSE_WRAPPING",
    "ROOT",
    "Acl",
    "Arguments",
    "Context",
    "Decision",
    "PolicyDocument",
    "PolicyService",
    "Rule",
    "TokenPolicies",
    "canonical_name",
    "canonical_names",
    "capabilities",
    "compile_acl",
    "decide",
    "has_sudo",
    "operations",
    "parse",
]
