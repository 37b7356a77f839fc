"""Certificates, keys and authorities in files: judged when they are read, and read again when they are renewed.

``files`` reads and judges, ``renewal`` keeps what was good until something better is there, ``server`` and ``client``
turn it into what gRPC and the standard library want, ``handshakes`` counts those that fail, ``metrics`` tells of it all. Out of this package keys go to those two only.
"""

from mixer.tls.client import ClientCertificates, ClientTls, channel_options
from mixer.tls.files import Names, system_roots
from mixer.tls.server import HTTP1, HTTP2, ServerCertificates, ServerTls, asyncio_tls

__all__ = [
    "HTTP1",
    "HTTP2",
    "ClientCertificates",
    "ClientTls",
    "Names",
    "ServerCertificates",
    "ServerTls",
    "asyncio_tls",
    "channel_options",
    "system_roots",
]
