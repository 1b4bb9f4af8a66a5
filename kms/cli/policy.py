"""policy explain, who, grants, unused, test: what policies decide, and why.

`explain`, `who` and `grants` ask a running server; `test` and `explain --policies` need none: they decide with the
server's own function. `unused` reads an audit log offline.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from kms.cli import client
from kms.cli.policyfile import Case, load_cases, load_policies, run_case
from kms.cli.unused import unused_grants
from kms.clock import SystemClock, rfc3339
from kms.errors import invalid
from kms.namespaces import scoped, unscoped
from kms.operation import ROOT_NAMESPACE, NamespaceRef

_address = click.option("--address", help="The server; BAO_ADDR or VAULT_ADDR otherwise.")
_token_file = click.option(
    "--token-file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File with a token that may use sys/policies/; BAO_TOKEN or VAULT_TOKEN otherwise.",
)
_style = click.option(
    "--format", "style", type=click.Choice(["table", "json"]), default="table", show_default=True
)
_texts = click.option(
    "--policies",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Policy texts, or folders of them, instead of a server's; a policy is called as its file.",
)
_CAPABILITIES = ["create", "read", "update", "patch", "delete", "list"]


@click.group()
def policy() -> None:
    """What policies decide, and why."""


@policy.command()
@click.argument("path")
@click.argument("capability", type=click.Choice(_CAPABILITIES))
@click.option("--accessor", help="Of the token that it is about.")
@click.option("--entity", help="Id of the entity that it is about.")
@click.option(
    "--policy", "names", multiple=True, help="Policies that it is about. Nothing of these: the caller's."
)
@click.option("--parameter", "parameters", multiple=True, help="NAME=VALUE that the request sends.")
@click.option("--wrap-ttl", default="", help="The answer is to be wrapped for so long.")
@click.option("--sudo", is_flag=True, help="The operation needs sudo as well.")
@click.option("--peer", default="", help="Address that the request comes from.")
@click.option("--mfa", is_flag=True, help="The login was confirmed by a second factor.")
@_texts
@_address
@_token_file
@_style
def explain(path: str, capability: str, **options: Any) -> None:
    """Why a request of CAPABILITY on PATH is allowed or denied, by which rule. Exit code 0: allowed; 1: denied."""
    case = Case(
        path=path,
        capability=capability,
        policies=options["names"],
        parameters=dict(_pair(text) for text in options["parameters"]),
        wrap_ttl=options["wrap_ttl"],
        sudo=options["sudo"],
        peer=options["peer"],
        mfa=True if options["mfa"] else None,
    )
    if options["files"]:
        if not case.policies:
            raise invalid("name the policies that it is about: --policy NAME")
        told = run_case(case, load_policies(options["files"]), SystemClock().now())
    else:
        told = _asked(case, options)
    if options["style"] == "json":
        click.echo(json.dumps(told, sort_keys=True))
    else:
        click.echo("\n".join(_sentences(told)))
    sys.exit(0 if told["allowed"] else 1)


def _asked(case: Case, options: dict[str, Any]) -> dict[str, Any]:
    body = case.body()
    subject = {
        "accessor": options["accessor"],
        "entity_id": options["entity"],
        "policies": list(case.policies),
    }
    body |= {name: value for name, value in subject.items() if value}
    own = not any(subject.values())
    url, token = client.address(options["address"]), client.token(options["token_file"])
    where = "sys/policies/explain-self" if own else "sys/policies/explain"
    answer: dict[str, Any] = client.demand(url, "POST", where, token, body)["data"]
    return answer


@policy.command()
@click.argument("path")
@click.argument("capability", type=click.Choice(_CAPABILITIES))
@click.option("--sudo", is_flag=True, help="The operation needs sudo as well.")
@_address
@_token_file
@_style
def who(
    path: str, capability: str, *, sudo: bool, address: str | None, token_file: Path | None, style: str
) -> None:
    """Which policies, entities and tokens may do CAPABILITY on PATH."""
    body = {"path": path, "capability": capability, "sudo": sudo}
    found = client.demand(
        client.address(address), "POST", "sys/policies/who", client.token(token_file), body
    )["data"]
    if style == "json":
        click.echo(json.dumps(found, sort_keys=True))
        return
    click.echo(f"policies that allow it: {', '.join(found['policies']) or 'none'}")
    for holder in found["holders"]:
        click.echo(f"{holder['kind']} {holder['id']} {holder['name']}")
    if found["more"]:
        click.echo("and more, which are not shown")


@policy.command()
@click.option("--accessor", help="Of the token that it is about.")
@click.option("--entity", help="Id of the entity that it is about.")
@click.option("--policy", "names", multiple=True, help="Policies that it is about.")
@_address
@_token_file
@_style
def grants(
    accessor: str | None,
    entity: str | None,
    names: tuple[str, ...],
    address: str | None,
    token_file: Path | None,
    style: str,
) -> None:
    """Everything that a token, an entity or policies together may do."""
    subject = {"accessor": accessor, "entity_id": entity, "policies": list(names)}
    body = {name: value for name, value in subject.items() if value}
    found = client.demand(
        client.address(address), "POST", "sys/policies/grants", client.token(token_file), body
    )
    rows = found["data"]["grants"]
    if style == "json":
        click.echo(json.dumps(rows, sort_keys=True))
        return
    for row in rows:
        mark = ", where its conditions hold" if row["conditional"] else ""
        click.echo(
            f"{row['path']}: {', '.join(row['capabilities']) or 'nothing'} ({', '.join(row['policies'])}{mark})"
        )


@policy.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--days", default=90, show_default=True, help="How long a grant may go unused.")
@_texts
@_address
@_token_file
@_style
def unused(
    folder: Path, days: int, files: tuple[Path, ...], address: str | None, token_file: Path | None, style: str
) -> None:
    """Which patterns of policies decided nothing for --days days, by the audit log in FOLDER. Exit code 1: some."""
    documents = load_policies(files) if files else _of_server(address, token_file)
    rows = unused_grants(folder, documents, SystemClock().now() - days * 86_400)
    if style == "json":
        click.echo(json.dumps(rows, sort_keys=True))
    for row in rows if style == "table" else ():
        last = f"last used {rfc3339(row['last'])}" if row["last"] else "not used as far as the log goes"
        click.echo(f"{unscoped(row['policy'])[1]}: {row['path']}: {last}")
    sys.exit(1 if rows else 0)


def _of_server(address: str | None, token_file: Path | None) -> dict[str, Any]:
    from kms.policy import parse  # noqa: PLC0415  (the parser is slow to load)
    from kms.policy.service import below  # noqa: PLC0415  (the same)

    url, token = client.address(address), client.token(token_file)
    found = client.demand(url, "LIST", "sys/policies/detailed/acl", token)["data"]["key_info"]
    documents = {name: parse(info["policy"]) for name, info in found.items() if info["policy"]}
    here = _namespace(url, token) if client.namespace() else ROOT_NAMESPACE
    return {scoped(here, name): below(document, here) for name, document in documents.items()}


def _namespace(url: str, token: str) -> NamespaceRef:
    """The namespace that is asked, with its ID: rules stand in the log under that."""
    path = client.namespace() + "/"
    own = client.demand(url, "GET", "auth/token/lookup-self", token)["data"]
    if own.get("namespace_path") == path:
        return NamespaceRef(own["accessor"].rpartition(".")[2], path)
    for entry in client.demand(url, "GET", "sys/locked-users", token)["data"]["by_namespace"]:
        if entry["namespace_path"] == path:
            return NamespaceRef(entry["namespace_id"], path)
    raise invalid(f"the ID of the namespace {path} is not told to this token: use one of the namespace")


@policy.command("test")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--server", is_flag=True, help="Ask a running server about its policies instead of reading texts."
)
@_address
@_token_file
@_style
def check(file: Path, *, server: bool, address: str | None, token_file: Path | None, style: str) -> None:
    """Check the expectations in FILE (TOML). Exit code 0: all hold; 1: some do not, and which."""
    texts, cases = load_cases(file)
    url, token = client.address(address), client.token(token_file) if server else ""
    documents = {} if server else load_policies(texts)
    rows = []
    for case in cases:
        if server:
            body = case.body() | {"policies": list(case.policies)}
            told = client.demand(url, "POST", "sys/policies/explain", token, body)["data"]
        else:
            told = run_case(case, documents, SystemClock().now())
        rows.append({"expectation": case.title, "failures": case.failures(told), "rule": told["rule"]})
    failed = [row for row in rows if row["failures"]]
    if style == "json":
        click.echo(json.dumps(rows, sort_keys=True))
    else:
        for row in failed:
            click.echo(f"FAILED {row['expectation']}: {'; '.join(row['failures'])}")
        click.echo(f"{len(rows) - len(failed)} of {len(rows)} expectations hold")
    sys.exit(1 if failed else 0)


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise invalid(f"{text!r} is not NAME=VALUE")
    return name, value


def _sentences(told: dict[str, Any]) -> Iterable[str]:
    yield f"{'allowed' if told['allowed'] else 'denied'}: {told['reason']}"
    if told["rule"]:
        yield f"rule: {told['rule']}"
    for rule in told["rules"]:
        state = "" if rule["applies"] else f" (does not apply: {rule.get('unmet', '')})"
        yield f"  {rule['policy']}: {', '.join(rule['capabilities']) or 'nothing'}{state}"
        limits = {name: value for name, value in rule.items() if "_" in name}
        if limits:
            yield f"    {', '.join(f'{name}={value}' for name, value in limits.items())}"
    for factor in told.get("consent", ()):
        names = ", ".join([*factor["group_names"], *factor["policy_names"]])
        yield f"needs the consent of {factor['approvals']} of {names} ({factor['factor']})"
    if told["overruled"]:
        yield f"less specific, so without effect: {', '.join(told['overruled'])}"


__all__ = ["policy"]
