"""Fixtures of real parts. Each fails, and never skips, when a part is missing."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import hvac
import pytest

from tests.harness import hangup
from tests.harness.api import Api
from tests.harness.bao import Bao
from tests.harness.dev import DevServer
from tests.harness.gathered import GATHERED
from tests.harness.harvest import harvest
from tests.harness.nginx import Nginx
from tests.harness.secondlook import Record
from tests.harness.verdict import show

hangup.install()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--failed-to", type=Path, help="write the failed tests to this file (tests/harness/secondlook.py)"
    )


def pytest_configure(config: pytest.Config) -> None:
    file = config.getoption("--failed-to")
    if file is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Record(file))


ServerFactory = Callable[..., DevServer]
TokenFactory = Callable[[str], str]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file first, so that it does not run alone at the end; the rest in its random order."""
    items.sort(key=lambda item: item.path.name != "test_chaos.py")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure is shown with what the servers said: an answer such as 503 does not tell its reason, their logs do."""
    report = yield
    if report.failed:
        for running in DevServer.started:
            said = running.errors.read_text(errors="replace") if running.errors.exists() else ""
            report.sections.append((f"the end of {running.folder.name}'s log", said[-3000:]))
    return report


@pytest.fixture(autouse=True)
def _no_connection_left() -> Iterator[None]:
    """What a test leaves open must not fail another that happens to run when it is collected."""
    with hangup.hung_up():
        yield


@pytest.fixture(scope="session", autouse=True)
def relying_parties(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """All that Keystead gave to the tests of this process is shown to others when they are over."""
    yield
    if GATHERED.certificates:
        begun = time.monotonic()
        verdict = show(GATHERED, tmp_path_factory.mktemp("relying-parties"))
        print(f"\nrelying parties, in {time.monotonic() - begun:.0f} s: {verdict}")
        assert verdict.problems == []


@pytest.fixture(scope="session")
def server(relying_parties: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevServer]:
    """A server with four workers that all tests of a process share. Use names of your own on it."""
    del relying_parties  # it comes after this server's harvest
    running = DevServer(tmp_path_factory.mktemp("server"))
    try:
        running.start()
        yield running
        with running.api() as client:
            harvest(client)
    finally:
        running.stop()


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[ServerFactory]:
    """Makes servers that one test has for itself; arguments go to DevServer."""
    made: list[DevServer] = []

    def make(*, start: bool = True, **arguments: object) -> DevServer:
        made.append(DevServer(tmp_path / f"server-{len(made)}", **arguments))  # type: ignore[arg-type]  # passed on
        if start:
            made[-1].start()
        return made[-1]

    yield make
    for running in made:
        running.stop()


@pytest.fixture
def api(server: DevServer) -> Iterator[Api]:
    """The shared server, as root."""
    with server.api() as client:
        yield client


@pytest.fixture
def root(server: DevServer) -> Iterator[hvac.Client]:
    """Hvac on the shared server, as root."""
    client = hvac.Client(url=server.address, token=server.token)
    yield client
    client.adapter.close()


@pytest.fixture
def bao(server: DevServer, tmp_path: Path) -> Bao:
    """The bao command on the shared server, as root."""
    return Bao(server.address, server.token, tmp_path)


@pytest.fixture
def token_with(api: Api) -> TokenFactory:
    """Makes a token that has one policy with the given text (and `default`)."""

    def make(policy: str) -> str:
        name = f"test-{secrets.token_hex(4)}"
        api.ok("POST", f"sys/policies/acl/{name}", {"policy": policy})
        answer = api.post("auth/token/create", {"policies": [name], "ttl": "1h"})
        token: str = answer.json["auth"]["client_token"]
        return token

    return make


@pytest.fixture
def mount(api: Api) -> Callable[[str], str]:
    """Mounts an engine under a name that nobody else uses; returns the path without a slash."""

    def make(engine: str) -> str:
        path = f"{engine}-{secrets.token_hex(4)}"
        api.ok("POST", f"sys/mounts/{path}", {"type": engine})
        return path

    return make


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    """A private nginx, not started yet."""
    private = Nginx(tmp_path / "nginx")
    yield private
    private.stop()
