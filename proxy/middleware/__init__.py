"""A Python service as its own proxy: an ASGI middleware and a gRPC interceptor over the sidecar client.

Each request is checked before the service sees it and reported when its response has ended, with the attributes,
answers and header operations that an Envoy beside the service would have. An ASGI service::

    from proxy.middleware import MixerMiddleware, mixer_client, one_service

    async def hello(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"hello"})

    config = one_service({"destination.service.host": "hello.default.svc.cluster.local"})
    app = MixerMiddleware(hello, lambda: mixer_client("127.0.0.1:9091", config), exclude=["/healthz"])

A gRPC service::

    async with mixer_client("127.0.0.1:9091", config) as client:
        server = grpc.aio.server(interceptors=[MixerInterceptor(client)])

* `asgi` and `flows` serve HTTP requests and WebSockets, `interceptor` and `call_context` gRPC calls;
* `request` and `call` are what attributes are made of, by the table that Envoy's requests have (`proxy.envoy`);
* `exchange` is a request from its verdict to its one record;
* `operations` changes headers, `exclusion` leaves paths alone, `metrics` counts, `opening` opens and closes clients.
"""

from proxy.middleware.asgi import MixerMiddleware
from proxy.middleware.interceptor import MixerInterceptor
from proxy.middleware.metrics import MiddlewareMetrics
from proxy.middleware.opening import ClientSource, mixer_client, one_service

__all__ = ["ClientSource", "MiddlewareMetrics", "MixerInterceptor", "MixerMiddleware", "mixer_client", "one_service"]
