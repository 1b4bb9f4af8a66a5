"""Fixtures of this suite."""

from tests.keys.fixtures import hsm_rig, rig, token

__all__ = ["hsm_rig", "rig", "token"]
