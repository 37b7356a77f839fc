"""What the key of a service tells by itself: a name such as ``cart.shop.svc.cluster.local`` is the service's host.

Whoever names the service that a route leads to need not spell its attributes out beside it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from mixer.attributes import ABSENT, AttributeBag
from proxy.client.values import NOTHING, AttributeValues

HOST: Final = "destination.service.host"

_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_IN_CLUSTER: Final = re.compile(rf"({_LABEL})\.({_LABEL})\.svc(?:\.{_LABEL})*", re.ASCII)


@lru_cache(maxsize=1024)
def attributes_of_host(service: str) -> AttributeValues:
    """``destination.service.*`` of a host ``NAME.NAMESPACE.svc`` in any domain; nothing for keys of another form."""
    found = _IN_CLUSTER.fullmatch(service)
    if found is None:
        return NOTHING
    return {HOST: service, "destination.service.name": found[1], "destination.service.namespace": found[2]}


def with_host(statics: AttributeValues, service: str, top: AttributeValues, derived: AttributeBag) -> AttributeValues:
    """Static attributes, below them those of the service's host, unless somebody says that the host is another."""
    named = attributes_of_host(service)
    if not named:
        return statics
    host = top.get(HOST) or statics.get(HOST) or derived.peek(HOST)
    if host is not ABSENT and host != service:
        return statics
    return {**named, **statics} if statics else named
