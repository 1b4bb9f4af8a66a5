"""Auth methods: ways to become a token other than being handed one.

Each method verifies a proof of its own (`Caller.PROOF`) and ends in `Logins.issue`, which makes the token. So what
tokens of methods have in common (policies, bounds of time and use, networks, the end of all tokens of a mount
that is removed) exists once. Nothing here decides what a token may do.
"""
