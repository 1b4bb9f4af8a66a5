"""Login MFA."""
