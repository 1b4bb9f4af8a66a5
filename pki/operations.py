"""The CA's table of operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kms.operation import (
    Call,
    Caller,
    Capability,
    Effect,
    Evidence,
    External,
    Field,
    Needs,
    Operation,
    Result,
    Runs,
    Type,
)
from pki.fields import (
    CA_FIELDS,
    CSR_FIELDS,
    ISSUE_FIELDS,
    LIST_FIELDS,
    ROLE_FIELDS,
    SIGN_FIELDS,
    SUBORDINATE_FIELDS,
    clear,
)
from pki.issuance import resolve_issue
from pki.service import PkiService

_ROLE = (clear("role"),)
_ISSUER = (clear("issuer_ref"),)
_URLS = tuple(
    clear(name, Type.STRINGS, [])
    for name in ("issuing_certificates", "crl_distribution_points", "ocsp_servers")
)

Facts = Mapping[str, str | int]


def operations(service: PkiService) -> list[Operation]:
    """All operations of the engine, for the registry."""
    return [
        *_authority_operations(service),
        *_leaf_operations(service),
        *_revocation_operations(service),
        *_role_operations(service),
        *_setting_operations(service),
        *_public_operations(service),
    ]


def _authority_operations(service: PkiService) -> list[Operation]:
    def undo(intent: Facts) -> External[Any] | None:
        return service.leftovers.resolve(intent, int(service.clock.now()))

    def close(intent: Facts) -> External[Any] | None:
        return resolve_issue(intent, int(service.clock.now()))

    def sign(call: Call) -> External[bytes]:
        return service.subordinates.sign(call, str(call.args.get("issuer_ref") or "default"))

    return [
        _external("root-generate", service.ceremonies.root, undo, CA_FIELDS),
        _external("intermediate-generate", service.ceremonies.intermediate, undo, CSR_FIELDS),
        _external(
            "intermediate-set-signed",
            service.imports.certificates,
            _nothing_happened,
            (Field("certificate"), Field("pem_bundle")),
        ),
        _external(
            "sign-intermediate", sign, close, (*SUBORDINATE_FIELDS, clear("issuer_ref", default="default"))
        ),
        _state(
            "issuer-write",
            service.issuers.issuer_write,
            (
                *_ISSUER,
                clear("issuer_name"),
                clear("leaf_not_after_behavior", default="err"),
                clear("usage", Type.STRINGS, []),
                *_URLS,
            ),
        ),
        _read("issuer-read", service.issuers.issuer_read, _ISSUER),
        _list("issuers-list", service.issuers.issuer_list),
        _read("key-read", service.issuers.key_read, (clear("key_ref"),)),
        _list("keys-list", service.issuers.key_list),
        Operation(
            "pki.issuer-delete",
            Capability.DELETE,
            service.issuers.issuer_delete,
            effect=Effect.STATE,
            fields=_ISSUER,
        ),
        # Of external effect because the background job that destroys the object records it under this name.
        Operation(
            "pki.key-delete",
            Capability.DELETE,
            service.issuers.key_delete,
            effect=Effect.EXTERNAL,
            resolve=undo,
            fields=(clear("key_ref"),),
        ),
        Operation(
            "pki.root-delete",
            Capability.DELETE,
            service.issuers.root_delete,
            effect=Effect.STATE,
            sudo=True,
        ),
    ]


def _leaf_operations(service: PkiService) -> list[Operation]:
    def close(intent: Facts) -> External[Any] | None:
        return resolve_issue(intent, int(service.clock.now()))

    # The issuer comes from the path or from the role, never from the body: it is what policy saw.
    def issue(call: Call) -> External[bytes]:
        return service.issuance.issue(call)

    def sign(call: Call) -> External[bytes]:
        return service.issuance.sign(call)

    def issue_by(call: Call) -> External[bytes]:
        return service.issuance.issue(call, str(call.args["issuer_ref"]))

    def sign_by(call: Call) -> External[bytes]:
        return service.issuance.sign(call, str(call.args["issuer_ref"]))

    return [
        _external("issue", issue, close, (*_ROLE, *ISSUE_FIELDS), Runs.THREAD),
        _external("sign", sign, close, (*_ROLE, *SIGN_FIELDS), Runs.THREAD),
        _external("issuer-issue", issue_by, close, (*_ISSUER, *_ROLE, *ISSUE_FIELDS), Runs.THREAD),
        _external("issuer-sign", sign_by, close, (*_ISSUER, *_ROLE, *SIGN_FIELDS), Runs.THREAD),
        _list("certs-list", service.lists.cert_list),
    ]


def _revocation_operations(service: PkiService) -> list[Operation]:
    renew = service.renewals.resolve
    return [
        _external(
            "revoke", service.revocations.revoke, renew, (clear("serial_number"), Field("certificate"))
        ),
        _list("certs-revoked-list", service.lists.revoked_list),
        Operation(
            "pki.crl-rotate",
            Capability.READ,
            service.renewals.rotate,
            effect=Effect.EXTERNAL,
            resolve=renew,
        ),
        _state(
            "tidy",
            service.tidying.tidy,
            (
                clear("tidy_cert_store", Type.BOOL, False),
                clear("tidy_revoked_certs", Type.BOOL, False),
                clear("tidy_revocation_list", Type.BOOL, False),
                clear("safety_buffer", Type.SECONDS, 259_200),
            ),
        ),
        Operation("pki.tidy-cancel", Capability.UPDATE, service.tidying.cancel),
        _read("tidy-status", service.tidying.status),
    ]


def _role_operations(service: PkiService) -> list[Operation]:
    roles, name = service.roles, clear("name")
    return [
        Operation(
            "pki.role-write",
            Capability.UPDATE,
            roles.write,
            effect=Effect.STATE,
            exists=roles.exists,
            fields=(name, *ROLE_FIELDS),
        ),
        Operation(
            "pki.role-patch",
            Capability.PATCH,
            roles.patch,
            effect=Effect.STATE,
            fields=(name, *ROLE_FIELDS),
        ),
        _read("role-read", roles.read, (name,)),
        Operation(
            "pki.role-delete",
            Capability.DELETE,
            roles.delete,
            effect=Effect.STATE,
            fields=(name,),
        ),
        _list("roles-list", roles.list),
    ]


def _setting_operations(service: PkiService) -> list[Operation]:
    settings = service.settings
    text = [
        clear(name)
        for name in ("expiry", "ocsp_expiry", "auto_rebuild_grace_period", "delta_rebuild_interval")
    ]
    flags = [
        clear(name, Type.BOOL, False)
        for name in (
            "allow_expired_cert_revocation",
            "auto_rebuild",
            "disable",
            "enable_delta",
            "ocsp_disable",
        )
    ]
    more_urls = (
        clear("delta_crl_distribution_points", Type.STRINGS, []),
        clear("enable_templating", Type.BOOL, False),
    )
    follows = clear("default_follows_latest_issuer", Type.BOOL, False)
    return [
        _read("config-urls-read", settings.urls_read),
        _state("config-urls-write", settings.urls_write, (*_URLS, *more_urls)),
        _read("config-crl-read", settings.crl_read),
        _state("config-crl-write", settings.crl_write, (*text, *flags)),
        _read("config-issuers-read", settings.issuers_config_read),
        _state("config-issuers-write", settings.issuers_config_write, (clear("default"), follows)),
        _read("config-keys-read", settings.keys_config_read),
        _state("config-keys-write", settings.keys_config_write, (clear("default"),)),
    ]


def _public_operations(service: PkiService) -> list[Operation]:
    public, serial = service.public, (clear("serial"),)
    return [
        _public("ca", public.ca),
        _public("ca-pem", public.ca_pem),
        _public("ca-chain", public.ca_chain),
        _public("crl", public.crl),
        _public("crl-pem", public.crl_pem),
        _public("cert-ca", public.cert_ca),
        _public("cert-ca-chain", public.cert_ca_chain),
        _public("cert-crl", public.cert_crl),
        _public("issuer-json", public.issuer_json, _ISSUER),
        _public("issuer-der", public.issuer_der, _ISSUER),
        _public("issuer-pem", public.issuer_pem, _ISSUER),
        _public("issuer-crl-json", public.issuer_crl_json, _ISSUER),
        _public("issuer-crl", public.crl, _ISSUER),
        _public("issuer-crl-pem", public.crl_pem, _ISSUER),
        # Certificates lie in sealed rows, with what became of them.
        _public("cert", public.cert, serial, Needs.UNSEALED),
        _public("cert-raw", public.cert_raw, serial, Needs.UNSEALED),
        _public("cert-raw-pem", public.cert_raw_pem, serial, Needs.UNSEALED),
    ]


def _nothing_happened(intent: Facts) -> External[None]:
    """An import that died left no state behind; its CRL was never published."""
    return External(
        intent,
        lambda _: None,
        lambda: None,
        lambda _tx, _done: Result(subject=intent, partial=True),
        lambda _tx, _error: None,
    )


def _external(
    name: str,
    act: Callable[[Call], Any],
    resolve: Callable[[Facts], External[Any] | None],
    fields: tuple[Field, ...] = (),
    runs: Runs = Runs.POOL,
) -> Operation:
    return Operation(
        f"pki.{name}",
        Capability.UPDATE,
        act,
        effect=Effect.EXTERNAL,
        runs=runs,
        resolve=resolve,
        fields=fields,
    )


def _state(name: str, act: Callable[[Call], Any], fields: tuple[Field, ...] = ()) -> Operation:
    return Operation(f"pki.{name}", Capability.UPDATE, act, effect=Effect.STATE, fields=fields)


def _read(name: str, act: Callable[[Call], Result], fields: tuple[Field, ...] = ()) -> Operation:
    return Operation(f"pki.{name}", Capability.READ, act, fields=fields)


def _list(name: str, act: Callable[[Call], Result]) -> Operation:
    return Operation(f"pki.{name}", Capability.LIST, act, fields=LIST_FIELDS)


def _public(
    name: str,
    act: Callable[[Call], Result],
    fields: tuple[Field, ...] = (),
    needs: Needs = Needs.NOTHING,
) -> Operation:
    return Operation(
        f"pki.{name}",
        Capability.READ,
        act,
        caller=Caller.PUBLIC,
        evidence=Evidence.COUNTED,
        needs=needs,
        fields=fields,
    )
