"""Mixer: proxies send attributes, Mixer answers checks and quotas and delivers telemetry."""

__version__ = "0.1.0"
