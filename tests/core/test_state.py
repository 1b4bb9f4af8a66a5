"""The gate: uninitialised, sealed, open, and the HSM away; the same in every process at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kms.errors import ErrorKind, KmsError
from kms.http.vault.errors import render_error
from kms.operation import Capability, Effect, Needs, Operation, Result
from kms.shared import Shared
from kms.storage import SqliteStore
from kms.system.choices import TO_DO, strange_token
from kms.system.instance import INSTANCE, Instance, insert_instance, read_instance
from kms.system.state import Phase, ServerState
from tests.hsm.parts import StepClock
from tests.support import make_store


class Server:
    """One process's state over a shared page and a real database."""

    def __init__(self, store: SqliteStore, shared: Shared) -> None:
        self.store, self.shared, self.clock = store, shared, StepClock()
        self.problem: KmsError | None = None
        self.opened = 0
        self.closed = 0
        self.renewed = 0
        self.lag = 0.0
        self.state = self.process()

    def process(self) -> ServerState:
        return ServerState(
            self.store,
            self.shared,
            self.clock,
            open_keyring=self._open,
            close_keyring=self._close,
            renew_keyring=self._renew,
            audit_lag=lambda: self.lag,
        )

    def _open(self, _instance: str) -> None:
        self.opened += 1
        if self.problem is not None:
            raise self.problem

    def _renew(self) -> None:
        self.renewed += 1

    def _close(self) -> None:
        self.closed += 1

    def change(self, **fields: bool) -> None:
        with self.store.transaction() as tx:
            row = read_instance(tx)
            if row is None:
                insert_instance(tx, Instance(id="i", cluster_name="c", created=0, **fields))  # type: ignore[arg-type]
            else:
                tx.replace(INSTANCE, row, msgspec.structs.replace(row.value, **fields))
        self.shared.bump_seal_epoch()


def _act(_call: object) -> Result:
    return Result()


READ = Operation("t.read", Capability.READ, _act)
WRITE = Operation("t.write", Capability.UPDATE, _act, effect=Effect.STATE)
HEALTH = Operation("t.health", Capability.READ, _act, needs=Needs.NOTHING)


@pytest.fixture(name="server")
def _server(tmp_path: Path) -> Iterator[Server]:
    store = make_store(tmp_path)
    yield Server(store, Shared())
    store.close()


def refusal(state: ServerState, operation: Operation = READ) -> ErrorKind | None:
    try:
        state.admit(operation)
    except KmsError as error:
        return error.kind
    return None


def test_before_init_only_what_needs_nothing_is_served(server: Server) -> None:
    assert refusal(server.state) is ErrorKind.UNINITIALIZED
    assert refusal(server.state, HEALTH) is None
    assert server.opened == 0, "the HSM is not touched before init"


def test_a_seal_reaches_every_process_with_the_next_request(server: Server) -> None:
    server.change(initialized=True)
    other = server.process()
    assert [refusal(server.state), refusal(other)] == [None, None]
    server.change(sealed=True)
    assert [refusal(server.state), refusal(other)] == [ErrorKind.SEALED, ErrorKind.SEALED]
    assert server.closed == 2, "both processes forgot their keys"
    assert server.state.leaving
    assert not server.process().leaving, "a fresh process holds nothing to forget"
    server.change(sealed=False)
    fresh = server.process()
    assert refusal(fresh) is None
    assert not fresh.leaving


def test_an_hsm_that_is_away_is_asked_once_a_second_at_most(server: Server) -> None:
    server.change(initialized=True)
    server.problem = KmsError(ErrorKind.HSM_UNAVAILABLE, "gone")
    assert [refusal(server.state) for _ in range(20)] == [ErrorKind.HSM_UNAVAILABLE] * 20
    assert server.opened == 1
    server.clock.sleep(1.5)
    server.problem = None
    assert refusal(server.state) is None
    assert server.opened == 2
    assert server.state.phase is Phase.OPEN


def test_without_sequencing_changes_stop_and_reads_go_on(server: Server) -> None:
    server.change(initialized=True)
    server.lag = 61.0
    server.state.admit(WRITE)
    with pytest.raises(KmsError) as error:
        server.state.admit_change(WRITE)
    assert error.value.kind is ErrorKind.AUDIT_UNAVAILABLE
    server.state.admit_change(HEALTH)
    server.lag = 59.0
    server.state.admit_change(WRITE)


@pytest.mark.parametrize("choice", TO_DO)
def test_a_strange_token_is_named_to_everybody_with_what_to_do(server: Server, choice: str) -> None:
    server.change(initialized=True)
    server.problem = strange_token(Instance(id="i", cluster_name="c", created=0, recovery=choice))
    assert not server.state.serving
    for ask in (server.state.demand_open, server.state.refuse_stranger):
        with pytest.raises(KmsError) as refused:
            ask()
        answer = render_error(refused.value)
        assert answer.status == 503
        assert b"root keys" in answer.body
        assert TO_DO[choice] in refused.value.detail
    server.problem = KmsError(ErrorKind.HSM_UNAVAILABLE, "no slot in /some/path")
    server.clock.seconds += 2
    assert not server.state.serving
    server.state.refuse_stranger()  # it may come back
    with pytest.raises(KmsError) as refused:
        server.state.demand_open()
    assert b"/some/path" not in render_error(refused.value).body
