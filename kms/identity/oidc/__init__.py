"""Identity tokens, and an OpenID Connect provider for other services: who somebody is here, signed.

    model.py       what is stored
    templates.py   claims that a role or scope adds, filled in for one entity
    signing.py     the signing keys: keys of this server as any others, software or in the HSM
    keyadmin.py    names that stand for a signing key and the one that follows it; rotation
    roleadmin.py   roles of identity tokens, and the issuer
    tokens.py      identity tokens: made, checked, and the documents that verifiers fetch

    shelf.py       assignments and scopes
    clients.py     relying parties
    providers.py   providers, and their documents
    authorize.py   a person agrees: a code
    exchange.py    the code becomes tokens
    userinfo.py    what an access token may know

A code is a row, and spending it deletes the row in the commit that makes the tokens: however many workers are asked at
once, it is good for one answer.
"""
