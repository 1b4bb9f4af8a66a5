"""The internal certificate authority: CA keys in the HSM, short-lived leaves, revocation.

Stands on kms (hsm, storage, audit types, operation vocabulary) and is never imported by it, but for
the composition root `kms.app`.
"""
