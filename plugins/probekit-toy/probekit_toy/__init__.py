"""A third-party plugin for probekit, complete and small."""
