"""Routes of the auth methods."""

from __future__ import annotations

from kms.http.vault.route import Route

USERPASS: tuple[Route, ...] = (
    Route("LIST", "users", "userpass.users.list"),
    Route("GET", "users/{username}", "userpass.users.read"),
    Route("POST", "users/{username}", "userpass.users.write"),
    Route("DELETE", "users/{username}", "userpass.users.delete"),
    Route("POST", "users/{username}/password", "userpass.users.password"),
    Route("POST", "users/{username}/policies", "userpass.users.policies"),
    Route("POST", "login/{username}", "userpass.login"),
)

APPROLE: tuple[Route, ...] = (
    Route("POST", "login", "approle.login"),
    Route("LIST", "role", "approle.role.list"),
    Route("GET", "role/{role_name}", "approle.role.read"),
    Route("POST", "role/{role_name}", "approle.role.write"),
    Route("DELETE", "role/{role_name}", "approle.role.delete"),
    Route("GET", "role/{role_name}/role-id", "approle.role-id.read"),
    Route("POST", "role/{role_name}/role-id", "approle.role-id.write"),
    Route("LIST", "role/{role_name}/secret-id", "approle.secret-id.list"),
    Route("POST", "role/{role_name}/secret-id", "approle.secret-id.create"),
    Route("POST", "role/{role_name}/custom-secret-id", "approle.secret-id.create-custom"),
    Route("POST", "role/{role_name}/secret-id/lookup", "approle.secret-id.lookup"),
    Route("POST", "role/{role_name}/secret-id/destroy", "approle.secret-id.destroy"),
    Route("POST", "role/{role_name}/secret-id-accessor/lookup", "approle.secret-id-accessor.lookup"),
    Route("POST", "role/{role_name}/secret-id-accessor/destroy", "approle.secret-id-accessor.destroy"),
    Route("GET", "role/{role_name}/{field}", "approle.role.field.read"),
    Route("POST", "role/{role_name}/{field}", "approle.role.field.write"),
    Route("DELETE", "role/{role_name}/{field}", "approle.role.field.reset"),
    Route("POST", "tidy/secret-id", "approle.tidy", status=202),
)

JWT: tuple[Route, ...] = (
    Route("GET", "config", "jwt.config.read"),
    Route("POST", "config", "jwt.config.write"),
    Route("LIST", "role", "jwt.role.list"),
    Route("GET", "role/{name}", "jwt.role.read"),
    Route("POST", "role/{name}", "jwt.role.write"),
    Route("DELETE", "role/{name}", "jwt.role.delete"),
    Route("POST", "login", "jwt.login"),
    Route("LIST", "cel/role", "jwt.cel-role.list"),
    Route("GET", "cel/role/{name}", "jwt.cel-role.read"),
    Route("POST", "cel/role/{name}", "jwt.cel-role.write"),
    Route("PATCH", "cel/role/{name}", "jwt.cel-role.patch"),
    Route("DELETE", "cel/role/{name}", "jwt.cel-role.delete"),
    Route("POST", "cel/login", "jwt.cel-login"),
    Route("POST", "oidc/auth_url", "jwt.oidc.auth-url"),
    Route("GET", "oidc/callback", "jwt.oidc.callback"),
    Route("POST", "oidc/callback", "jwt.oidc.posted"),
    Route("POST", "oidc/poll", "jwt.oidc.poll"),
)

KUBERNETES: tuple[Route, ...] = (
    Route("GET", "config", "kubernetes.config.read"),
    Route("POST", "config", "kubernetes.config.write"),
    Route("LIST", "role", "kubernetes.role.list"),
    Route("GET", "role/{name}", "kubernetes.role.read"),
    Route("POST", "role/{name}", "kubernetes.role.write"),
    Route("DELETE", "role/{name}", "kubernetes.role.delete"),
    Route("POST", "login", "kubernetes.login"),
)

CERT: tuple[Route, ...] = (
    Route("GET", "config", "cert.config.read"),
    Route("POST", "config", "cert.config.write"),
    Route("LIST", "certs", "cert.certs.list"),
    Route("GET", "certs/{name}", "cert.certs.read"),
    Route("POST", "certs/{name}", "cert.certs.write"),
    Route("DELETE", "certs/{name}", "cert.certs.delete"),
    Route("LIST", "crls", "cert.crls.list"),
    Route("GET", "crls/{name}", "cert.crls.read"),
    Route("POST", "crls/{name}", "cert.crls.write"),
    Route("DELETE", "crls/{name}", "cert.crls.delete"),
    Route("POST", "login", "cert.login"),
)

_NAME = frozenset({"name"})
LDAP: tuple[Route, ...] = (
    Route("GET", "config", "ldap.config.read"),
    Route("POST", "config", "ldap.config.write"),
    Route("LIST", "groups", "ldap.groups.list"),
    Route("GET", "groups/{name}", "ldap.groups.read", free=_NAME),
    Route("POST", "groups/{name}", "ldap.groups.write", free=_NAME),
    Route("DELETE", "groups/{name}", "ldap.groups.delete", free=_NAME),
    Route("LIST", "users", "ldap.users.list"),
    Route("GET", "users/{name}", "ldap.users.read", free=_NAME),
    Route("POST", "users/{name}", "ldap.users.write", free=_NAME),
    Route("DELETE", "users/{name}", "ldap.users.delete", free=_NAME),
    Route("POST", "login/{username}", "ldap.login", free=frozenset({"username"})),
)
