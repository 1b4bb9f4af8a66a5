"""Making, changing, locking and removing namespaces; and what may be asked of sys/ inside of one."""

from kms.system.namespaces.operations import NamespaceHandlers
from kms.system.namespaces.removal import Remains, Removal, rows_of
from kms.system.namespaces.scope import Threshold

__all__ = ["NamespaceHandlers", "Remains", "Removal", "Threshold", "rows_of"]
