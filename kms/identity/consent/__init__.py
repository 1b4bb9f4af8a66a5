"""Dual control: requests that wait until other people have consented, in the shape of the peer's control groups.

It promises: such a request happens once, after as many different people as were asked for have consented, none of them
the one who asked (a token's children, and all tokens of one entity or login, are the same person); it is decided anew
when it happens; and what an operator's configuration demands binds root, too. It never carries anything out itself:
`kms.pipeline` does, and each step is in the audit log.
"""
