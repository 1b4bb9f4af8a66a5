"""What the transit engine does for callers: encrypt, sign, MAC, data keys, random, and key management.

Promises: ciphertexts, signatures and HMACs are byte-compatible with Vault's formats; an item of a
batch that cannot be done never hides that the others were; one text answers every way in which a
ciphertext can fail to authenticate.
Never: stores anything itself, sees a credential, or knows a web framework.
Used by: kms.app, which registers `operations(service)`; the pipeline calls the handlers.
"""

from kms.operations.table import operations

__all__ = ["operations"]
