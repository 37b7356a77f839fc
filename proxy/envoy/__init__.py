"""Envoy's protocols: external authorization, rate limits, access logs; and the configuration that an Envoy needs."""
