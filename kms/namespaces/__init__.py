"""Namespaces: tenants of one server, each with its own mounts, policies, tokens and identities.

One thing has one name. A door puts the namespace that a header names and the one that a path begins with together
into one full path ("team/kid/transit/encrypt/app") before anything is decided, and everything behind it knows that
path alone: mounts are kept by full path, a policy of a namespace is compiled with the namespace's path before each of
its patterns. So a policy cannot say anything about what lies outside of its namespace, and what a parent's policy says
about a child needs no rule of its own.

Rows that are named and not mounted (policies, roles of tokens) carry the namespace's ID in their key. That is random
and never used again: whoever makes a namespace with the name of one that was deleted finds nothing of it.

This package holds what there is; `kms.system.namespaces` makes, locks and removes it.
"""

from kms.namespaces.model import NAMESPACES, Namespace, scoped, scoped_prefix, unscoped
from kms.namespaces.table import NamespaceTable

__all__ = ["NAMESPACES", "Namespace", "NamespaceTable", "scoped", "scoped_prefix", "unscoped"]
