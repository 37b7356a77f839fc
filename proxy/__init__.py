"""The proxy side: what gathers attributes, asks Mixer and obeys. It knows Mixer's messages, not Mixer.

* `policy`: what a host asks, and the verdict that it acts on; `mixer`: the two calls that are made to a Mixer;
* `client`: the sidecar client between these two, with its caches, and the way to a Mixer far away;
* `envoy`: a host, the protocols of a stock Envoy; `middleware`: another, a Python service that is its own proxy;
* `headers`, `replies`, `status`: what of a verdict users get to see, the same from every host.
"""
