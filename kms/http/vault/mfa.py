"""Routes of login MFA: below identity/mfa/, and the second step of a login below sys/."""

from __future__ import annotations

from kms.http.vault.route import Route

METHOD = "mfa/method"
ROUTES: tuple[Route, ...] = (
    Route("LIST", METHOD, "identity.mfa.method.list"),
    Route("LIST", f"{METHOD}/totp", "identity.mfa.method.list"),
    Route("POST", f"{METHOD}/totp", "identity.mfa.method.write"),
    Route("POST", f"{METHOD}/totp/generate", "identity.mfa.generate"),
    Route("POST", f"{METHOD}/totp/admin-generate", "identity.mfa.admin-generate"),
    Route("POST", f"{METHOD}/totp/admin-destroy", "identity.mfa.admin-destroy"),
    Route("GET", f"{METHOD}/totp/{{method_id}}", "identity.mfa.method.read"),
    Route("POST", f"{METHOD}/totp/{{method_id}}", "identity.mfa.method.write"),
    Route("DELETE", f"{METHOD}/totp/{{method_id}}", "identity.mfa.method.delete"),
    Route("GET", f"{METHOD}/{{method_id}}", "identity.mfa.method.read"),
    Route("LIST", "mfa/login-enforcement", "identity.mfa.enforcement.list"),
    Route("GET", "mfa/login-enforcement/{name}", "identity.mfa.enforcement.read"),
    Route("POST", "mfa/login-enforcement/{name}", "identity.mfa.enforcement.write"),
    Route("DELETE", "mfa/login-enforcement/{name}", "identity.mfa.enforcement.delete"),
)
SYS: tuple[Route, ...] = (Route("POST", "mfa/validate", "sys.mfa.validate"),)
