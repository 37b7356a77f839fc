"""Envoy configuration that makes a stock Envoy ask Mixer and report to it: a whole bootstrap, or parts to paste.

``model`` says what there is to choose, ``clusters``, ``filters`` and ``listeners`` turn it into Envoy's objects with
the reason of each choice beside it, ``text`` writes them as YAML. Source: spec envoy 2.
"""

from proxy.envoy.bootstrap.listeners import bootstrap, fragments
from proxy.envoy.bootstrap.model import (
    Direction,
    Endpoint,
    ExtAuthz,
    Listener,
    MixerAddress,
    MixerTls,
    Protocol,
    RateLimit,
    Route,
    Sidecar,
    Tls,
    Tracing,
    Upstream,
)
from proxy.envoy.bootstrap.text import to_yaml

__all__ = [
    "Direction",
    "Endpoint",
    "ExtAuthz",
    "Listener",
    "MixerAddress",
    "MixerTls",
    "Protocol",
    "RateLimit",
    "Route",
    "Sidecar",
    "Tls",
    "Tracing",
    "Upstream",
    "bootstrap",
    "fragments",
    "to_yaml",
]
