"""The auth method `jwt`: tokens signed by somebody else whom the operator trusts (RFC 7519), such as a CI system.

    keys.py      the issuer's public keys: given, or fetched from a JWKS URL or by discovery
    token.py     one compact JWS: its signature, by one of those keys and an algorithm that fits it
    claims.py    what it says, against what the role demands; pure
    grouping.py  groups, for providers that say them in ways of their own
    method.py    configuration, roles, login

Only asymmetric algorithms are known here, so no public key can be taken for a shared secret, and `none` is nothing.
"""
