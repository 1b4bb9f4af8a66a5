"""Real parts for tests and scripts: a Keystead server, the `bao` client, nginx, and the process table.

Everything here starts on loopback, in a private folder, on a free port, and is stopped by its owner. A part
that is not installed is an error and never a skip: the tests are worth only what they ran against.
"""
