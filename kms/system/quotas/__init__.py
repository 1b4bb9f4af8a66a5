"""Rate-limit quotas: how often one client may call a path, a mount, or log in under a role.

They promise: over all workers together, exactly as many requests of an address pass in an interval as the rule says,
and what is refused has cost neither a look at a credential nor a record of its own. Counts live in the shared page
and are gone with the server; rules are rows. The road asks `Limiter.admit` before anything else.
"""

from kms.system.quotas.limiter import Limiter
from kms.system.quotas.operations import QuotaHandlers
from kms.system.quotas.store import TABLES

__all__ = ["TABLES", "Limiter", "QuotaHandlers"]
