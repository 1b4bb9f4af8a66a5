"""What `provider_config` changes: where a login's groups are found, for providers that say them in ways of their own.

secureauth and ibmisam put them into one text; of gsuite, `workspace` asks Google. azure (Entra ID) leaves them out of the token of somebody with too many, and
names the place of Microsoft Graph that lists them (OpenID Connect Core 1.0, 5.6.2); it is asked with the access token of
this very login. That token goes to Graph's own hosts and to the configured provider, wherever a claim points.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit, urlunsplit

from kms.clock import Clock
from kms.errors import KmsError, invalid
from kms.identity.jwt import claims, workspace
from kms.identity.jwt.pod import KUBERNETES
from kms.identity.jwt.serviceaccount import GSUITE
from kms.identity.jwt.store import JwtConfig, JwtRole
from kms.identity.outward import UnreachableError, ask, check_url, trusting

AZURE: Final = "azure"
_SEPARATORS: Final = {"secureauth": ",", "ibmisam": " "}
PROVIDERS: Final = (AZURE, *_SEPARATORS, KUBERNETES, GSUITE)
_GRAPHS: Final = (
    "graph.microsoft.com",
    "graph.microsoft.us",
    "dod-graph.microsoft.us",
    "microsoftgraph.chinacloudapi.cn",
)
# Claims still name the API before Graph, which answers nobody any more.
_MOVED: Final = {"graph.windows.net": "graph.microsoft.com", "graph.microsoftazure.us": "graph.microsoft.us"}
_VERSION: Final = "/v1.0"
_ALL_GROUPS: Final = b'{"securityEnabledOnly": false}'
_MAX_ANSWER: Final = 1024 * 1024


def provider_of(given: Mapping[str, Any] | None) -> str:
    """The provider that `provider_config` names, "" for none.

    Raises:
        KmsError(INVALID): none that is known here, or a member that is not.
    """
    if not given:
        return ""
    name = given.get("provider")
    if not isinstance(name, str):
        raise _unfit("'provider' field not found in provider_config")
    if name not in PROVIDERS:
        raise _unfit(f'provider "{name[:32]}" not found in custom providers')
    unknown = set(given) - {"provider"}
    if name == GSUITE:
        workspace.check_settings(given)
    elif unknown:
        raise _unfit(f'unknown member "{min(unknown)[:32]}": provider "{name}" has no settings')
    return name


def regrouped(
    said: Mapping[str, Any], config: JwtConfig, role: JwtRole, clock: Clock, access: str = ""
) -> Mapping[str, Any]:
    """Verified claims, with the groups where the role looks for them. May ask others; never inside a transaction.

    Args:
        said: the claims, verified.
        config: of the mount.
        role: that is asked for.
        clock: of this process.
        access: the provider's access token for whoever logs in; "" where there is none.

    Raises:
        KmsError(INVALID): the groups are somewhere else, and cannot be had.
    """
    if config.provider == GSUITE:
        return workspace.told(said, config, role, clock)
    name = role.groups_claim
    if not name or config.provider not in {AZURE, *_SEPARATORS}:
        return said
    found = claims.find(said, name)
    if config.provider == AZURE:
        return said if found is not None else {**said, name: _listed(said, config, name, access)}
    if not isinstance(found, str):
        return said
    return claims.replaced(said, name, found.split(_SEPARATORS[config.provider]))


def _listed(said: Mapping[str, Any], config: JwtConfig, name: str, access: str) -> list[Any]:
    place = graph_place(_source(said, name), config)
    missing = f'failed to fetch groups: "{name}" claim not found in token: '
    if not access:
        raise invalid(f"{missing}token unavailable to call Microsoft Graph API")
    try:
        answer = ask(
            place,
            context=trusting(config.oidc_discovery_ca_pem),
            body=_ALL_GROUPS,
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {access}"},
            most=_MAX_ANSWER,
            names=config.override_allowed_server_names,
        )
        if answer.status != HTTPStatus.OK:
            raise invalid(f"{missing}Microsoft Graph API answers {answer.status}")
        groups = answer.document().get("value")
    except UnreachableError as error:
        raise invalid(f"{missing}unable to call Microsoft Graph API: {error}") from None
    if not isinstance(groups, list):
        raise invalid(f"{missing}the answer of Microsoft Graph API has no groups")
    return groups


def _source(said: Mapping[str, Any], name: str) -> str:
    """Where the groups are, as the token says it."""
    names, sources = said.get("_claim_names"), said.get("_claim_sources")
    key = names.get(name) if isinstance(names, dict) else None
    if not isinstance(key, str):
        raise _lost(f'unable to locate groups claim "{name}" in _claim_names')
    source = sources.get(key) if isinstance(sources, dict) else None
    place = source.get("endpoint") if isinstance(source, dict) else None
    if not isinstance(place, str):
        raise _lost("unable to locate its endpoint in _claim_sources")
    return place


def graph_place(text: str, config: JwtConfig) -> str:
    """The URL that is asked for groups. Raises KmsError(INVALID) unless it is Graph's or the configured provider's."""
    try:
        check_url(text)
    except KmsError:
        raise _lost("the claim source is no https URL") from None
    parts = urlsplit(text)
    if parts.netloc.lower() in _MOVED:
        moved = _MOVED[parts.netloc.lower()]
        parts = parts._replace(netloc=moved, path=f"{_VERSION}{parts.path}")
    graph = parts.scheme == "https" and parts.netloc.lower() in _GRAPHS
    if not graph and _origin(parts) != _origin(urlsplit(config.oidc_discovery_url)):
        raise _lost("the claim source is neither Microsoft Graph nor the configured provider")
    return urlunsplit(parts)


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"https": 443}.get(parts.scheme, 80)


def _unfit(reason: str) -> KmsError:
    return invalid(f"invalid provider_config: {reason}")


def _lost(reason: str) -> KmsError:
    return invalid(f"failed to fetch groups: unable to get claim sources: {reason}")
