"""Requests to one server, told one by one."""

from __future__ import annotations

import re
from typing import Any

from tests.namespaces.sides import ENVELOPE, PLACES, Side

MANY = re.compile(r"1 error occurred:\n\t\* (.*)\n\n\Z", re.DOTALL)
# Words that differ on purpose: one server's -> what is compared.
SAID = {"operation only available in root namespace": "operation unavailable in namespaces"}
ELSEWHERE = [(ns, of) for of in PLACES for ns in PLACES if ns != of]
"""(where something is asked for, whose it is), for all pairs."""


class Play:
    """Requests to one server, with what it answered."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.told: list[tuple[str, Any]] = []

    def ask(
        self,
        verb: str,
        path: str,
        body: object = None,
        *,
        ns: str = "",
        token: str | None = None,
        who: str = "root",
    ) -> Any:
        """One request that is compared."""
        status, answer = self.side.call(verb, path, body, token=token, ns=ns)
        what = f"{verb} {self.side.form(path)} {self.side.form(body) if body else ''} in {ns or '-'} by {who}"
        if isinstance(answer, dict) and "data" in answer:
            # Some routes repeat the data beside itself, for old clients; by path the peer's do not.
            answer = {name: value for name, value in answer.items() if name in ENVELOPE}
        shown = self.side.form(answer) or None
        if isinstance(shown, dict) and "errors" in shown:
            texts = [MANY.sub(r"\1", text) for text in shown["errors"]]
            shown["errors"] = [SAID.get(text, text) for text in texts]
            status = 400 if status == 500 else status  # what the caller got wrong is the caller's mistake
        self.told.append((what, (status, shown)))
        return answer

    def each(
        self, verb: str, path: str, body: object = None, *, token: str | None = None, who: str = "root"
    ) -> None:
        """The same request in every namespace."""
        for ns in PLACES:
            self.ask(verb, path, body, ns=ns, token=token, who=who)
