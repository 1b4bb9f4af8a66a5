"""ACME's table of operations. What a client sends is proof of itself (`Caller.PROOF`); the role decides what it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kms.operation import (
    WHOLE_BODY,
    Call,
    Caller,
    Capability,
    Change,
    Effect,
    External,
    Field,
    Operation,
    Outcome,
    Runs,
    Type,
)
from pki.acme.finalize import resolve_finalize
from pki.acme.service import AcmeService
from pki.acme.settings import LIMITS
from pki.acme.validation import OPERATION
from pki.declaring import Kinds
from pki.fields import clear

_PKI = Kinds("pki")
_PLACE = (clear("role"), clear("issuer_ref"))
_SIGNED = (*_PLACE, Field(WHOLE_BODY, Type.MAP, {}))
_ACCOUNT, _ORDER, _AUTHORIZATION = (clear("account"),), (clear("order"),), (clear("authorization"),)


def operations(service: AcmeService, now: Callable[[], float]) -> list[Operation]:
    """All operations of ACME, for the registry."""
    return [*_public(service), *_signed(service, now), *_managed(service), *_background()]


def _public(service: AcmeService) -> list[Operation]:
    entrance, info = service.entrance, (*_PLACE, clear("certificate"))
    return [
        _PKI.document("acme-directory", entrance.directory, _PLACE, runs=Runs.THREAD),
        _PKI.document("acme-new-nonce", entrance.nonce, _PLACE, runs=Runs.THREAD),
        _PKI.document("acme-renewal-info", service.renewal_info.read, info, runs=Runs.THREAD),
    ]


def _signed(service: AcmeService, now: Callable[[], float]) -> list[Operation]:
    def proof(
        name: str,
        act: Callable[[Call], Outcome],
        *fields: Field,
        effect: Effect = Effect.STATE,
        resolve: Callable[[Mapping[str, str | int]], External[Any] | None] | None = None,
    ) -> Operation:
        return Operation(
            f"pki.acme-{name}",
            Capability.UPDATE,
            service.answering(act),
            caller=Caller.PROOF,
            effect=effect,
            runs=Runs.THREAD,
            resolve=resolve,
            fields=(*_SIGNED, *fields),
        )

    def close(intent: Mapping[str, str | int]) -> External[Any]:
        return resolve_finalize(intent, int(now()))

    external, none = Effect.EXTERNAL, Effect.NONE
    return [
        proof("new-account", service.accounts.create),
        proof("account", service.accounts.update, *_ACCOUNT),
        proof("account-orders", service.accounts.orders, *_ACCOUNT, effect=none),
        proof("key-change", service.accounts.change_key),
        proof("new-authz", service.preauthorizations.create),
        proof("new-order", service.orders.create),
        proof("order", service.orders.read, *_ORDER, effect=none),
        proof("finalize", service.finalizing.finalize, *_ORDER, effect=external, resolve=close),
        proof("certificate", service.certificates.read, *_ORDER, clear("chain"), effect=none),
        proof("authorization", service.authorizations.read, *_AUTHORIZATION),
        proof("challenge", service.authorizations.challenge, *_AUTHORIZATION, clear("type")),
        proof("revoke-cert", service.certificates.revoke),
    ]


def _managed(service: AcmeService) -> list[Operation]:
    strings = ("allowed_roles", "allowed_issuers", "challenge_types", "allowed_networks", "caa_identities")
    texts = ("default_directory_policy", "dns_resolver", "eab_policy", "terms_of_service", "website")
    fields = (
        clear("enabled", Type.BOOL, False),
        clear("allow_role_ext_key_usage", Type.BOOL, False),
        clear("pre_authorization", Type.BOOL, False),
        clear("profiles", Type.MAP, {}),
        *(clear(name, Type.STRINGS, []) for name in strings),
        *(clear(name) for name in texts),
        *(clear(name, Type.INT, 0) for name in LIMITS),
    )
    bindings, settings = service.bindings, service.settings
    return [
        _PKI.read("config-acme-read", settings.read),
        _PKI.state("config-acme-write", settings.write, fields),
        _PKI.state("acme-new-eab", bindings.create, _PLACE),
        _PKI.listing("eab-list", bindings.list),
        _PKI.delete("eab-delete", bindings.delete, (clear("key_id"),)),
    ]


def _background() -> list[Operation]:
    """What the jobs process records under; no route leads to it."""

    def nothing(call: Call) -> Change:
        raise TypeError(f"{call.operation.name} is background work")

    return [Operation(OPERATION, Capability.UPDATE, nothing, effect=Effect.STATE)]
