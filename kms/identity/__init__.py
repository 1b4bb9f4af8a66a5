"""Who is asking: tokens, from the credential of a request to a `Principal`.

It promises: when the answer to a revocation leaves, no worker accepts the token or a descendant of it;
a token of N uses is accepted N times over all workers; an expired one never; nobody hands on policies
that he does not hold. Token strings are stored nowhere, only their HMAC under a key from the keyring.

It never decides what a principal may do (that is `kms.policy`), keeps no timer, and says nothing about
why a credential was refused. The pipeline calls `TokenService.authenticate` and reaches everything else
through the operation table; the jobs process calls `TokenService.reap`; init calls `create_root`.
"""

from kms.identity.model import Token, TokenRole
from kms.identity.operations import operations
from kms.identity.service import TokenService

__all__ = ["Token", "TokenRole", "TokenService", "operations"]
