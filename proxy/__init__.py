"""The proxy side: what gathers attributes, asks Mixer and obeys. It knows Mixer's messages, not Mixer.

``client`` is the sidecar client with its caches, ``envoy`` speaks the protocols of a stock Envoy.
"""
