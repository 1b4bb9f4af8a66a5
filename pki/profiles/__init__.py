"""What our certificates look like: which extensions, with which values, critical or not.

A profile turns checked names and a key into a `Draft`; it decides nothing about who may have it
(roles do) and signs nothing (issuance does). Every certificate gets SKI, AKI, BasicConstraints
(critical) and KeyUsage (critical); AIA and CRL distribution points come from config/urls, but on roots;
the SAN is critical when the subject is empty (RFC 5280 4.2).
"""

from pki.profiles.ca import ca_draft
from pki.profiles.draft import Draft, builder, new_serial
from pki.profiles.leaf import Leaf, LeafTemplate, leaf, leaf_draft
from pki.profiles.usages import EXT_KEY_USAGES, KEY_USAGES

__all__ = [
    "EXT_KEY_USAGES",
    "KEY_USAGES",
    "Draft",
    "Leaf",
    "LeafTemplate",
    "builder",
    "ca_draft",
    "leaf",
    "leaf_draft",
    "new_serial",
]
