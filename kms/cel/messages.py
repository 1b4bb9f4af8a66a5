"""The messages that programs can build. Names, numbers and types are those of the peer, so that its programs run here.

Written as data: `name: type`, where a type is one of protobuf's, a message or enum of the same package, or one of
another by its full name; `*` before it makes it a list. Field numbers count from one in the order given.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, duration_pb2, timestamp_pb2, wrappers_pb2

TIMESTAMP = ".google.protobuf.Timestamp"

PKI_ENUMS: dict[str, tuple[str, ...]] = {
    "KeyUsage": (
        "Unspecified",
        "DigitalSignature",
        "ContentCommitment",
        "KeyEncipherment",
        "DataEncipherment",
        "KeyAgreement",
        "CertSign",
        "CRLSign",
        "EncipherOnly",
        "DecipherOnly",
    ),
    "ExtKeyUsage": (
        "Any",
        "ServerAuth",
        "ClientAuth",
        "CodeSigning",
        "EmailProtection",
        "IPSECEndSystem",
        "IPSECTunnel",
        "IPSECUser",
        "TimeStamping",
        "OCSPSigning",
        "MicrosoftServerGatedCrypto",
        "NetscapeServerGatedCrypto",
        "MicrosoftCommercialCodeSigning",
        "MicrosoftKernelCodeSigning",
    ),
}

PKI_MESSAGES: dict[str, str] = {
    "PKIX": "",
    "PKIX.Name": "Country:*string Organization:*string OrganizationUnit:*string Locality:*string Province:*string"
    " StreetAddress:*string PostalCode:*string SerialNumber:string CommonName:string",
    "PKIX.Extension": "Id:*int64 Critical:bool Value:bytes",
    "ObjectIdentifier": "arc:*uint32",
    "net": "",
    "net.IP": "IP:bytes",
    "net.IPMask": "IPMask:bytes",
    "net.IPNet": "IP:net.IP Mask:net.IPMask",
    "Userinfo": "username:string password:string password_set:bool",
    "url": "",
    "url.URL": "Scheme:string Opaque:string User:Userinfo Host:string Path:string RawPath:string OmitHost:bool"
    " ForceQuery:bool RawQuery:string Fragment:string RawFragment:string",
    "OID": "arc:*uint64",
    "PolicyMapping": "IssuerDomainPolicy:OID SubjectDomainPolicy:OID",
    "ValidationOutput": "template:CertTemplate issuer_ref:string use_pss:bool signature_bits:uint32"
    " generate_lease:bool no_store:bool warnings:*string subject_key_id:bytes key_type:string key_bits:uint64",
    "CertTemplate": f"Version:int64 Subject:PKIX.Name NotBefore:{TIMESTAMP} NotAfter:{TIMESTAMP} KeyUsage:KeyUsage"
    " ExtraExtensions:*PKIX.Extension ExtKeyUsage:*ExtKeyUsage UnknownExtKeyUsage:*ObjectIdentifier"
    " BasicConstraintsValid:bool IsCA:bool MaxPathLen:int64 MaxPathLenZero:bool SubjectKeyId:bytes"
    " DNSNames:*string EmailAddresses:*string IPAddresses:*net.IP URIs:*url.URL PermittedDNSDomainsCritical:bool"
    " PermittedDNSDomains:*string ExcludedDNSDomains:*string PermittedIPRanges:*net.IPNet"
    " ExcludedIPRanges:*net.IPNet PermittedEmailAddresses:*string ExcludedEmailAddresses:*string"
    " PermittedURIDomains:*string ExcludedURIDomains:*string PolicyIdentifiers:*ObjectIdentifier Policies:*OID"
    " InhibitAnyPolicy:int64 InhibitAnyPolicyZero:bool InhibitPolicyMapping:int64 InhibitPolicyMappingZero:bool"
    " RequireExplicitPolicy:int64 RequireExplicitPolicyZero:bool PolicyMappings:*PolicyMapping",
}

LOGICAL_MESSAGES: dict[str, str] = {
    "Alias": "mount_type:string mount_accessor:string name:string metadata:%string ID:string namespace_id:string"
    " custom_metadata:%string local:bool",
}
LOGIN_MESSAGES: dict[str, str] = {
    "LeaseOptions": f"TTL:int64 renewable:bool increment:int64 issue_time:{TIMESTAMP} MaxTTL:int64",
    "Auth": "lease_options:LeaseOptions internal_data:string display_name:string policies:*string metadata:%string"
    " client_token:string accessor:string period:int64 num_uses:int64 entity_id:string alias:.logical.Alias"
    " group_aliases:*.logical.Alias bound_cidrs:*string token_policies:*string identity_policies:*string"
    " explicit_max_ttl:int64 token_type:uint32 no_default_policy:bool",
}

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
    "bool": _Field.TYPE_BOOL,
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}


def pool() -> descriptor_pool.DescriptorPool:
    """All messages, and those of protobuf that they need."""
    found = descriptor_pool.DescriptorPool()
    for known in (timestamp_pb2, duration_pb2, wrappers_pb2):
        copy = descriptor_pb2.FileDescriptorProto()
        known.DESCRIPTOR.CopyToProto(copy)
        found.Add(copy)
    found.Add(_file("pki.proto", "openbao.pki", PKI_MESSAGES, PKI_ENUMS))
    found.Add(_file("logical.proto", "logical", LOGICAL_MESSAGES, {}))
    found.Add(_file("login.proto", "pb", LOGIN_MESSAGES, {}, "logical.proto"))
    return found


def _file(
    name: str,
    package: str,
    messages: dict[str, str],
    enums: dict[str, tuple[str, ...]],
    *needs: str,
) -> descriptor_pb2.FileDescriptorProto:
    made = descriptor_pb2.FileDescriptorProto(name=name, package=package, syntax="proto3")
    made.dependency.extend(["google/protobuf/timestamp.proto", *needs])
    held: dict[str, Any] = {}
    for full, fields in messages.items():
        outer, _, short = full.rpartition(".")
        place = held[outer].nested_type if outer else made.message_type
        held[full] = place.add(name=short)
        for number, field in enumerate(fields.split(), 1):
            _add(held[full], f".{package}", number, *field.split(":"), enums=enums)
    for enum, values in enums.items():
        row = made.enum_type.add(name=enum)
        for number, value in enumerate(values):
            row.value.add(name=f"{enum}{value}", number=number)
    return made


def _add(
    message: descriptor_pb2.DescriptorProto,
    package: str,
    number: int,
    name: str,
    kind: str,
    *,
    enums: dict[str, tuple[str, ...]],
) -> None:
    plain = kind.lstrip("*%")
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if kind != plain:
        field.label = _Field.LABEL_REPEATED
    if kind.startswith("%"):  # a map from strings, as protobuf writes one down
        entry = message.nested_type.add(name=_entry(name))
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=_Field.LABEL_OPTIONAL)
        entry.field.add(name="value", number=2, type=_SCALARS[plain], label=_Field.LABEL_OPTIONAL)
        field.type, field.type_name = _Field.TYPE_MESSAGE, f"{package}.{message.name}.{_entry(name)}"
    elif plain in _SCALARS:
        field.type = _SCALARS[plain]
    else:
        field.type = _Field.TYPE_ENUM if plain in enums else _Field.TYPE_MESSAGE
        field.type_name = plain if plain.startswith(".") else f"{package}.{plain}"


def _entry(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_")) + "Entry"
