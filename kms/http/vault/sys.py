"""Routes below sys/ that concern the server itself."""

from __future__ import annotations

import msgspec

from kms.http.vault.route import Rendered, Route
from kms.operation import Result

_encode = msgspec.json.Encoder().encode


def _health(result: Result) -> Rendered:
    """200 open, 501 not initialised, 503 sealed; the query may name other codes."""
    data, codes = result.data or {}, result.subject
    if not data["initialized"]:
        status = codes["uninitcode"] or 501
    elif data["sealed"]:
        status = codes["sealedcode"] or 503
    else:
        status = codes["activecode"] or 200
    return Rendered(int(status), _encode(data) + b"\n")


ROUTES: tuple[Route, ...] = (
    Route("GET", "health", "sys.health", render=_health),
    Route("GET", "seal-status", "sys.seal_status", raw=True),
    Route("GET", "leader", "sys.leader", raw=True),
    Route("GET", "init", "sys.init_status", raw=True),
    Route("POST", "init", "sys.init", raw=True),
    Route("POST", "seal", "sys.seal"),
    Route("POST", "unseal", "sys.unseal", raw=True),
    Route("GET", "metrics", "sys.metrics"),
    Route("GET", "mounts", "sys.mounts.list", inject=True),
    Route("GET", "mounts/{path...}/tune", "sys.mounts.tuning", inject=True),
    Route("POST", "mounts/{path...}/tune", "sys.mounts.tune"),
    Route("GET", "mounts/{path...}", "sys.mounts.read", inject=True),
    Route("POST", "mounts/{path...}", "sys.mounts.enable"),
    Route("DELETE", "mounts/{path...}", "sys.mounts.disable"),
    Route("GET", "auth", "sys.auth.list", inject=True),
    Route("GET", "auth/{path...}/tune", "sys.auth.tuning", inject=True),
    Route("POST", "auth/{path...}/tune", "sys.auth.tune"),
    Route("GET", "auth/{path...}", "sys.auth.read", inject=True),
    Route("POST", "auth/{path...}", "sys.auth.enable"),
    Route("DELETE", "auth/{path...}", "sys.auth.disable"),
    Route("GET", "audit", "sys.audit.list", inject=True),
    Route("POST", "audit/{path...}", "sys.audit.enable"),
    Route("DELETE", "audit/{path...}", "sys.audit.disable"),
    Route("POST", "audit-hash/{path...}", "sys.audit.hash", inject=True),
    Route("POST", "remount", "sys.remount", inject=True),
    Route("GET", "remount/status/{migration_id}", "sys.remount.status", inject=True),
    Route("POST", "tools/random", "sys.tools.random"),
    Route("POST", "tools/random/{urlsource}", "sys.tools.random"),
    Route("POST", "tools/random/{urlsource}/{urlbytes}", "sys.tools.random"),
    Route("POST", "tools/hash", "sys.tools.hash"),
    Route("POST", "tools/hash/{urlalgorithm}", "sys.tools.hash"),
    Route("GET", "config/cors", "sys.config.cors.read", inject=True),
    Route("POST", "config/cors", "sys.config.cors.write"),
    Route("DELETE", "config/cors", "sys.config.cors.delete"),
    Route("LIST", "config/ui/headers", "sys.config.ui_headers.list"),
    Route("GET", "config/ui/headers/{header}", "sys.config.ui_headers.read"),
    Route("POST", "config/ui/headers/{header}", "sys.config.ui_headers.write", envelope=True),
    Route("DELETE", "config/ui/headers/{header}", "sys.config.ui_headers.delete"),
    Route("GET", "config/auditing/request-headers", "sys.config.audited_headers.list", inject=True),
    *(
        Route(
            verb,
            "config/auditing/request-headers/{header}",
            f"sys.config.audited_headers.{name}",
            inject=True,
        )
        for verb, name in (("GET", "read"), ("POST", "write"), ("DELETE", "delete"))
    ),
    Route("GET", "config/state/sanitized", "sys.config.state"),
    Route("GET", "loggers", "sys.loggers.list"),
    Route("POST", "loggers", "sys.loggers.set_all"),
    Route("DELETE", "loggers", "sys.loggers.reset_all"),
    Route("GET", "loggers/{name}", "sys.loggers.read"),
    Route("POST", "loggers/{name}", "sys.loggers.set"),
    Route("DELETE", "loggers/{name}", "sys.loggers.reset"),
    Route("GET", "monitor", "sys.monitor"),
    Route("POST", "config/reload/{subsystem}", "sys.config.reload"),
    Route("GET", "host-info", "sys.host_info"),
    Route("GET", "in-flight-req", "sys.in_flight", raw=True),
    Route("GET", "ha-status", "sys.ha_status", inject=True),
    Route("LIST", "version-history", "sys.version_history"),
    Route("GET", "plugins/catalog", "sys.plugins.catalog"),
    Route("LIST", "plugins/catalog/{type}", "sys.plugins.list"),
    Route("GET", "plugins/catalog/{name}", "sys.plugins.read_untyped", envelope=True),
    Route("GET", "plugins/catalog/{type}/{name}", "sys.plugins.read"),
    Route("GET", "internal/counters/tokens", "sys.internal.counters.tokens"),
    Route("GET", "internal/counters/entities", "sys.internal.counters.entities"),
    Route("GET", "internal/counters/requests", "sys.internal.counters.requests"),
    Route("GET", "internal/inspect/router/{tag}", "sys.internal.inspect.router"),
    Route("GET", "internal/specs/openapi", "sys.internal.openapi", raw=True),
    Route("POST", "internal/specs/openapi", "sys.internal.openapi.post", raw=True),
    Route("GET", "internal/ui/resultant-acl", "sys.internal.acl"),
    Route("GET", "internal/ui/namespaces", "sys.internal.namespaces"),
    Route("GET", "internal/ui/mounts", "sys.internal.mounts"),
    Route("GET", "internal/ui/mounts/{path...}", "sys.internal.mount"),
    Route("POST", "hsm/root/rotate", "sys.root.rotate"),
    Route("GET", "hsm/root/rotate", "sys.root.progress"),
    Route("GET", "hsm/tokens", "sys.hsm.tokens.list"),
    Route("POST", "hsm/tokens/{name}", "sys.hsm.tokens.enrol"),
    Route("DELETE", "hsm/tokens/{name}", "sys.hsm.tokens.remove"),
    Route("POST", "hsm/recover-compromise", "sys.compromise.start"),
    Route("GET", "hsm/recover-compromise", "sys.compromise.status"),
)
