"""Fixtures of this suite."""

from tests.keys.fixtures import hsm_rig, rig, token
from tests.operations.peer import peer

__all__ = ["hsm_rig", "peer", "rig", "token"]
