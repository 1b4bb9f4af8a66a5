"""The page on which a person signs in for another service (T-59b)."""
