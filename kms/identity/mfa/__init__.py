"""Login MFA: a second factor (TOTP, RFC 6238) before a login gets its token.

It promises: no token leaves before every enforcement that applies to the login is satisfied; a code is accepted once
over all workers, in the one spelling of its digits; codes cannot be guessed faster than the method allows, and a
failure is counted also where it ends the login. Secrets are shown once, when they are made, and sealed like every row.
"""
