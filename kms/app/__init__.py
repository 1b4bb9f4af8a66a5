"""The composition root: the only package that sees everything, pki too. Nothing here decides or acts.

`App` (process.py) is everything of one process; engines.py lists the engines and what each brings; recovery.py
builds the parts of a server whose HSM is lost.
"""

from kms.app.process import App, build
from kms.app.recovery import recover_server

__all__ = ["App", "build", "recover_server"]
