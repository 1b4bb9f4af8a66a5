"""Keystead's core: keys, operations, secrets, identity, policy and evidence.

Everything here stands on two promises: master keys are born in a PKCS#11 token and never leave it,
and no answer leaves the process before the record of it is written. Imports go downhill only
(doors -> pipeline -> domains -> audit, hsm, storage -> floor); the contracts in pyproject.toml hold
that in the test run, and `kms.app` is the single place where the parts meet.
"""

__version__ = "0.1.0"
