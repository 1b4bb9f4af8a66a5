"""The auth method `kubernetes`: service accounts, by asking their cluster's API server (TokenReview).

    account.py   what a service account's token says, and what the API server says of it; pure
    cluster.py   the API server: TokenReview, and the labels of a namespace
    fields.py    fields of configuration and roles
    method.py    login

Nothing that a token says counts before the API server has said the same of it.
"""
