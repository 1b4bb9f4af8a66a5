"""Programs in the Common Expression Language that roles are made of, and the room in which they run.

Promises: a program is bounded in size before it is stored; it is parsed, checked and run in another process
that has no key, no socket and no file of ours, half a gibibyte of memory and one second of processor time. What a
program does to that process, a worker sees as one refused request. Never: evaluates anything in the worker itself,
or takes an answer that is not of the closed set of `Outcome`. Callers: the roles of pki and of the jwt method.
"""

from __future__ import annotations

from kms.cel.program import Program, Variable, parse, patched, shown
from kms.cel.sandbox import Outcome, Sandbox

__all__ = ["Outcome", "Program", "Sandbox", "Variable", "parse", "patched", "shown"]
