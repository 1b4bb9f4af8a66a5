"""Rate-limit quotas."""
