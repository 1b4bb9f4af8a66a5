"""Fields of the configuration of jwt: what is taken, checked and shown."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from msgspec.structs import asdict

from kms.errors import invalid
from kms.identity.jwt import pod, token
from kms.identity.jwt.grouping import provider_of
from kms.identity.jwt.keys import given_keys
from kms.identity.jwt.store import JwksPair, JwtConfig
from kms.identity.jwt.workspace import KEY_FILE
from kms.identity.outward import check_server_name, check_url, trusting
from kms.operation import Field, Record, Type

_SOURCES: Final = ("jwt_validation_pubkeys", "jwks_url", "jwks_pairs", "oidc_discovery_url")
_LISTS: Final = (
    "jwt_supported_algs",
    "jwt_validation_pubkeys",
    "oidc_response_types",
    "override_allowed_server_names",
)
MAX_PAIRS: Final = 16
MAX_NAMES: Final = 64
_WELL_KNOWN: Final = "/.well-known/openid-configuration"
_RESPONSES: Final = {"code", "id_token"}

CONFIG_FIELDS: Final = (
    *(
        Field(name, record=Record.CLEAR)
        for name in ("bound_issuer", "default_role", "jwks_url", "oidc_discovery_url", "oidc_client_id")
    ),
    Field("jwks_ca_pem"),
    Field("jwks_pairs", Type.ANY),
    Field("oidc_discovery_ca_pem"),
    Field("jwt_supported_algs", Type.STRINGS, record=Record.CLEAR),
    Field("jwt_validation_pubkeys", Type.STRINGS),
    Field("oidc_client_secret"),
    Field("oidc_response_mode", record=Record.CLEAR),
    Field("oidc_response_types", Type.STRINGS, record=Record.CLEAR),
    Field("namespace_in_state", Type.BOOL, record=Record.CLEAR),
    Field("skip_jwks_validation", Type.BOOL, record=Record.CLEAR),
    Field("override_allowed_server_names", Type.STRINGS),
    Field("provider_config", Type.MAP),
)


def configuration(args: Mapping[str, Any], given: Collection[str]) -> tuple[JwtConfig, tuple[str, ...]]:
    """(the configuration, whole, warnings). Raises KmsError(INVALID)."""
    read = {name: args[name] for name in JwtConfig.__struct_fields__ if name in given}
    read["provider"] = provider_of(args.get("provider_config"))
    read["settings"] = dict(args.get("provider_config") or {})
    read["settings"].pop("provider", None)
    read |= {name: tuple(read.get(name) or ()) for name in _LISTS}
    read["jwks_pairs"] = _pairs(args.get("jwks_pairs"))
    read["default_role"] = (read.get("default_role") or "").lower()
    url = read.get("oidc_discovery_url") or ""
    warnings: tuple[str, ...] = ()
    if url.endswith(_WELL_KNOWN):
        read["oidc_discovery_url"] = url.removesuffix(_WELL_KNOWN)
        warnings = (f"modifying provided `OIDCDiscoveryURL` to {read['oidc_discovery_url']!r}",)
    config = JwtConfig(**read)
    _check(config)
    return config, warnings


def _check(config: JwtConfig) -> None:
    if sum(bool(getattr(config, name)) for name in _SOURCES) + (config.provider == pod.KUBERNETES) != 1:
        raise invalid(
            "exactly one of 'jwt_validation_pubkeys', 'jwks_url', 'jwks_pairs', 'oidc_discovery_url', or"
            " 'provider_config' must be set"
        )
    if bool(config.oidc_client_id) != bool(config.oidc_client_secret):
        raise invalid("both 'oidc_client_id' and 'oidc_client_secret' must be set for OIDC")
    if config.oidc_client_id and not config.oidc_discovery_url:
        raise invalid("'oidc_discovery_url' must be set for OIDC")
    unknown = set(config.jwt_supported_algs) - set(token.ALGORITHMS)
    if unknown:
        raise invalid(f"unsupported signing algorithm: {min(unknown)[:32]}")
    if not set(config.oidc_response_types) <= _RESPONSES or len(config.oidc_response_types) > 1:
        raise invalid("invalid response_types: one of 'code' and 'id_token' is allowed")
    if config.oidc_response_mode not in {"", "query", "form_post"}:
        raise invalid(f'invalid response_mode: "{config.oidc_response_mode[:32]}"')
    if config.implicit and config.oidc_response_mode != "form_post":
        raise invalid("query response_mode may not be used with an id_token response_type")
    _check_places(config)


def _check_places(config: JwtConfig) -> None:
    given_keys(config.jwt_validation_pubkeys)
    if config.provider == pod.KUBERNETES:
        pod.check(config)
    if config.jwks_url or config.oidc_discovery_url:
        check_url(config.jwks_url or config.oidc_discovery_url)
    _check_pairs(config)
    if len(config.override_allowed_server_names) > MAX_NAMES:
        raise invalid(f"override_allowed_server_names holds at most {MAX_NAMES} names")
    for name in config.override_allowed_server_names:
        check_server_name(name)


def _pairs(given: Any) -> tuple[JwksPair, ...]:
    """`jwks_pairs` as it was sent. Raises KmsError(INVALID)."""
    if not given:
        return ()
    if not isinstance(given, list) or len(given) > MAX_PAIRS:
        raise invalid(f"jwks_pairs is a list of at most {MAX_PAIRS} objects with jwks_url and jwks_ca_pem")
    return tuple(_pair(each) for each in given)


def _pair(given: Any) -> JwksPair:
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise invalid("each of jwks_pairs is an object of two texts, jwks_url and jwks_ca_pem")
    unknown = set(given) - set(JwksPair.__struct_fields__)
    if unknown:
        raise invalid(f"jwks_pairs: unknown member {min(unknown)[:64]!r}; jwks_url and jwks_ca_pem are known")
    return JwksPair(jwks_url=given.get("jwks_url", ""), jwks_ca_pem=given.get("jwks_ca_pem", ""))


def _check_pairs(config: JwtConfig) -> None:
    if not config.jwks_pairs:
        return
    if config.jwks_ca_pem:
        raise invalid("CA PEMs must be provided as part of the 'jwks_pairs' when using multiple JWKS URLs")
    if config.bound_issuer:
        raise invalid("Bound issuer is not supported for use with 'jwks_pairs'; bind 'iss' in each role")
    for pair in config.jwks_pairs:
        check_url(pair.jwks_url)
        trusting(pair.jwks_ca_pem)
    if len({pair.jwks_url for pair in config.jwks_pairs}) < len(config.jwks_pairs):
        raise invalid("jwks_pairs: a jwks_url stands there twice")


def shown_config(config: JwtConfig) -> dict[str, Any]:
    """The configuration as the API shows it: without the secrets of client and provider."""
    data: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()
    }
    del data["oidc_client_secret"]
    if config.jwks_pairs:
        data["jwks_pairs"] = [asdict(pair) for pair in config.jwks_pairs]
    else:
        del data["jwks_pairs"]
    provider, settings = data.pop("provider"), data.pop("settings")
    shown = {"provider": provider, **settings} if provider else {}
    shown.pop(KEY_FILE, None)
    return {**data, "provider_config": shown, "status": "valid"}
