"""The auth method `cert`: whoever holds the key of a certificate that an authority of the operator's choice has issued.

    trust.py     is this chain good for that entry: path, names, extensions; pure
    crls.py      revocation lists: given, or fetched and verified
    ocsp.py      asking the authority's responder, and believing its signature only
    fields.py    fields of entries
    method.py    configuration, login, renewal

That the client holds the key is proved by the TLS handshake, here or at a trusted front proxy (`kms.http.chains`).
"""
