"""The sidecar client: attributes in, a verdict out, with as few calls to Mixer as correctness allows."""
