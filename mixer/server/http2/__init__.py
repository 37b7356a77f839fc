"""A small HTTP/2 server for gRPC, on asyncio's protocols: ``--transport http2``.

It does what Mixer's API needs and no more: no push, no priorities, no TLS, no compression of what it sends.

* `frames`: the layout of frames, and cutting a byte stream into them;
* `heads`: header blocks, with a memo for the many that are the same;
* `messages`: gRPC's messages inside of DATA frames;
* `flow`: what may be sent, and what waits for the peer's leave;
* `calls`: from the data of a stream to a method and back;
* `connection`: the protocol itself;
* `server`: listening, draining.

Source: RFC 9113 (HTTP/2), RFC 7541 (HPACK), grpc/doc/PROTOCOL-HTTP2.md.
"""

from mixer.server.http2.server import Http2Transport

__all__ = ["Http2Transport"]
