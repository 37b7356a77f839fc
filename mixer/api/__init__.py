"""The wire: Mixer's messages, and the way between them and attribute bags. Knows no transport and no policy.

========================  ==============================================================================
`mixer.api.messages`      the protobuf messages
`mixer.api.service`       the gRPC stub and servicer; the one module here that imports grpc
`mixer.api.words`         the global word list
`mixer.api.decode`        requests to attribute bags; ``_native`` beside it is its compiled fast path
`mixer.api.wanted`        what a configuration reads, so that decoders may leave out the rest
`mixer.api.encode`        attributes to requests
`mixer.api.referenced`    what an answer depended on, in both directions
`mixer.api.generate`      makes ``mixer/api/gen`` from ``mixer/api/proto``
========================  ==============================================================================

Import the modules themselves; this package imports none of them, so that nobody pays for what is not used.
"""
