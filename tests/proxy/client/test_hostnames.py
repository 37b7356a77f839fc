"""Attributes that the key of a service tells by itself."""

from __future__ import annotations

import pytest

from mixer.attributes import ABSENT, MappingBag
from proxy.client.config import HttpClientConfig, ServiceConfig, TcpClientConfig
from proxy.client.hostnames import HOST, attributes_of_host
from proxy.client.sidecar import SidecarClient

CART = "cart.shop.svc.cluster.local"


@pytest.mark.parametrize("service", ["cart.shop.svc", CART, "cart.shop.svc.mesh.example.com"])
def test_host_in_the_cluster_names_its_service(service: str) -> None:
    assert attributes_of_host(service) == {
        HOST: service,
        "destination.service.name": "cart",
        "destination.service.namespace": "shop",
    }


@pytest.mark.parametrize(
    "service",
    ["", "default", "inbound_http", "cart.example.com", "route:0123", "a.b.svcs", "A.b.svc", "a..svc", "é.b.svc"],
)
def test_other_keys_name_nothing(service: str) -> None:
    assert attributes_of_host(service) == {}


def client(**statics: str) -> SidecarClient:
    services = {"default": ServiceConfig(), CART: ServiceConfig(mixer_attributes=dict(statics))}
    http = HttpClientConfig(service_configs=services, default_destination_service="default")
    return SidecarClient(None, http, TcpClientConfig())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("derived", "statics", "host", "name"),
    [
        pytest.param({}, {}, CART, "cart", id="nobody else says"),
        pytest.param({HOST: CART}, {}, CART, "cart", id="the route says the same"),
        pytest.param({HOST: "other"}, {}, "other", ABSENT, id="the route says another"),
        pytest.param({}, {HOST: "other"}, "other", ABSENT, id="the configuration says another"),
        pytest.param({}, {"destination.service.name": "basket"}, CART, "basket", id="the configuration says a part"),
    ],
)
async def test_key_of_the_service_counts_where_nobody_says_more(
    derived: dict[str, str], statics: dict[str, str], host: str, name: object
) -> None:
    sidecar = client(**statics)
    bag = sidecar.compose(MappingBag(derived), service=CART)
    assert (bag.get(HOST), bag.get("destination.service.name")) == (host, name)
    await sidecar.aclose()


async def test_connections_have_the_host_of_their_key() -> None:
    sidecar = client()
    assert sidecar.compose(MappingBag({}), service=CART, tcp=True).get(HOST) == CART
    assert sidecar.compose(MappingBag({}), service="inbound_tcp", tcp=True).get(HOST) is ABSENT
    await sidecar.aclose()
