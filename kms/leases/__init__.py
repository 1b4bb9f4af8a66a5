"""Leases: what was issued for a time, to whom, and how it is taken back.

It promises: a lease ends in the commit that takes back what it stands for, once, also right after a kill; a prefix
is revoked in one small commit however much was issued below it, and nothing below it is accepted once that is
answered; nothing is loaded at a start and no timer is kept, so a million leases cost a start nothing.

A lease belongs to a token and dies with it. Tokens have leases themselves, so that one language names all that a
mount issued. Engines issue through `LeaseBook`, in the commit of what they issue, and bring a `Revoker`.
"""

from kms.leases.barriers import Barriers
from kms.leases.book import LeaseBook
from kms.leases.model import Barrier, Lease
from kms.leases.revoking import Revoker, Revokers

__all__ = ["Barrier", "Barriers", "Lease", "LeaseBook", "Revoker", "Revokers"]
