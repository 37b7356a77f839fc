"""``make demo``: BookInfo on this machine, behind real Envoys that ask Mixer and report to it.

``workloads`` are the pods, ``services`` what runs in them, ``sidecars`` the Envoys, ``programs`` and ``machine`` start
and end all of it; ``visitors`` send requests, ``books`` say which numbers must agree, ``tables`` show them.
``recorded`` stands in where there is no Envoy.
"""
