"""The README and its guides name every command with every option, every setting, and every script."""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec
import pytest

from kms.cli import keystead
from kms.config import Config
from tests.gates.sources import TOP, manual

README = manual()


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            inner = command.get_command(context, child)
            assert inner is not None, child
            yield from commands(inner, f"{name} {child}")
    else:
        yield name, command


def settings(model: type[msgspec.Struct]) -> Iterator[str]:
    for field in msgspec.structs.fields(model):
        yield field.name
        for kind in getattr(field.type, "__args__", (field.type,)):
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                yield from settings(kind)


COMMANDS = dict(commands(keystead, "keystead"))


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_in_the_table_with_its_options(name: str) -> None:
    row = next((line for line in README.splitlines() if line.startswith(f"| `{name}` |")), "")
    assert row, name
    for parameter in COMMANDS[name].params:
        for option in parameter.opts:
            if option.startswith("--") and option != "--help":
                assert f"`{option}`" in row, option


@pytest.mark.parametrize("name", sorted(set(settings(Config))))
def test_setting_is_in_the_example(name: str) -> None:
    example = README.partition("```toml")[2].partition("```")[0]
    assert f"{name} = " in example or f"[{name}]" in example


@pytest.mark.parametrize("path", sorted((TOP / "scripts").iterdir()), ids=lambda path: path.name)
def test_script_is_mentioned(path: object) -> None:
    name = str(path).rpartition("/")[2]
    assert f"scripts/{name}" in README or name in {"demo_steps.py", "__pycache__"}
