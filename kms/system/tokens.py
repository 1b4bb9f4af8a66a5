"""sys/hsm/tokens: the HSM tokens of the configuration, and their enrolment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kms.clock import rfc3339
from kms.config import OtherToken, TokenSection
from kms.errors import ErrorKind, KmsError, invalid, not_found
from kms.hsm import Hsm, Purpose
from kms.keys.copies import Copies
from kms.keys.enrolment import Enroller
from kms.keys.joint import shared_roots
from kms.keys.keyring import TERMS
from kms.keys.removal import Remover
from kms.keys.roots import ACTIVE, ROOTS
from kms.keys.tokens import ENROLLED, HSM_TOKENS, OWN_KEYS, REMOVED
from kms.operation import Call, Capability, Change, Effect, External, Field, Operation, Record, Result
from kms.tables import Store


@dataclass(frozen=True)
class TokenHandlers:
    """The operations.

    Args:
        configured: the tokens of the configuration, the first one first.
    """

    store: Store
    hsm: Callable[[], Hsm]
    enroller: Enroller
    copies: Copies
    remover: Remover
    configured: Sequence[TokenSection]

    def list(self, _call: Call) -> Result:
        """Every token that serves, served, or could serve."""
        away = self.hsm().away()
        reader = self.store.reader()
        rows = {row.key: row.value for row in reader.scan(HSM_TOKENS)}
        serving = {name for name, row in rows.items() if row.state == ENROLLED} or {self._first.title}
        names = dict.fromkeys([*(section.title for section in self.configured), *rows])
        tokens = {}
        for name in names:
            row = rows.get(name)
            serves = name in serving
            nameless = serves and (row is None or row.state == REMOVED)
            tokens[name] = {
                "relation": row.relation if row is not None else self._relation(name),
                "configured": any(section.title == name for section in self.configured),
                "state": ENROLLED if serves else row.state if row is not None else "not enrolled",
                "answers": name not in away if serves else None,
                "serial": row.serial if row is not None else "",
                "since": rfc3339(row.since) if row is not None else "",
                **self._holds("" if nameless else name),
            }
        return Result(
            {"tokens": tokens, "terms": reader.count(TERMS, {}), "multi_token": shared_roots(reader)}
        )

    def _holds(self, home: str) -> dict[str, Any]:
        """Its root version, and how many keyring terms are sealed to its roots."""
        reader = self.store.reader()
        seals = reader.find(ROOTS, {"purpose": Purpose.ROOT_SEAL.value, "state": ACTIVE})
        mine = {row.key: row.value.version for row in seals if row.value.home == home}
        terms = [row.value for row in reader.scan(TERMS)]
        sealed = sum(any(form.root in mine for form in term.forms) for term in terms)
        return {"root_version": max(mine.values(), default=0), "terms": sealed}

    def enrol(self, call: Call) -> External[Any] | Change:
        """Make a further token ready to serve."""
        section = self._section(str(call.args["name"]))
        if not isinstance(section, OtherToken):
            raise invalid(f'the HSM token "{section.title}" serves already')
        if section.relation != OWN_KEYS:
            return self.copies.enrol(section.title)
        return self.enroller.enrol(section.title)

    def remove(self, call: Call) -> Change:
        """Give up a token that is lost; the answer names what is lost with it."""
        return self.remover.remove(str(call.args["name"]))

    @property
    def _first(self) -> TokenSection:
        return self.configured[0]

    def _relation(self, name: str) -> str:
        section = self._section(name)
        return section.relation if isinstance(section, OtherToken) else OWN_KEYS

    def _section(self, name: str) -> TokenSection:
        for section in self.configured:
            if section.title == name:
                return section
        raise not_found(f'the configuration names no HSM token "{name}"; add it under [[hsm.others]]')

    def table(self) -> Sequence[Operation]:
        """The operations; the last is the jobs process's own and has no route."""
        name = Field("name", required=True, record=Record.CLEAR)
        update = Capability.UPDATE
        return [
            Operation("sys.hsm.tokens.list", Capability.READ, self.list),
            Operation(
                "sys.hsm.tokens.enrol",
                update,
                self.enrol,
                effect=Effect.EXTERNAL,
                sudo=True,
                fields=(name,),
                resolve=self.enroller.resume,
            ),
            Operation(
                "sys.hsm.tokens.remove",
                Capability.DELETE,
                self.remove,
                effect=Effect.STATE,
                sudo=True,
                fields=(name,),
            ),
            Operation(
                "sys.hsm.tokens.complete",
                update,
                _for_jobs,
                effect=Effect.EXTERNAL,
                sudo=True,
                resolve=self.enroller.resume,
            ),
        ]


def _for_jobs(_call: Call) -> External[Any]:
    raise KmsError(ErrorKind.UNSUPPORTED, "unsupported operation")
