"""The page on which a person signs in for another service: a browser's way to the OpenID Connect provider's `authorize`.

Promises: no script, no style but its own, no frame around it, every word of a stranger escaped, nothing of an error
repeated; no session: one request signs in, gets the code and gives the token of the sign-in back, so there is nothing to
fix, steal or forget. A login that lacks a second factor, or happens at another provider, waits where the API has it wait; the
browser alone knows which one, under a MAC. Never: decides anything. Each step is a call of the Vault door, with its limits, lockouts, policy
and records.
"""

from __future__ import annotations

from kms.http.signin.page import SignIn

__all__ = ["SignIn"]
