"""The proxy's own identity: which pod it stands beside.

Source: spec proxy 2.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from proxy.client.values import AttributeValues

log: structlog.stdlib.BoundLogger = structlog.get_logger("proxy.client.node")


@dataclass(frozen=True, slots=True)
class LocalNode:
    """Uid, such as ``kubernetes://cart-1.shop``, and namespace of the workload."""

    uid: str = ""
    namespace: str = ""

    def attributes(self, *, outbound: bool) -> AttributeValues:
        """What the node says of a request, empty texts included."""
        side = "source" if outbound else "destination"
        return {f"{side}.uid": self.uid, f"{side}.namespace": self.namespace, "context.reporter.uid": self.uid}

    def forwarded(self, *, outbound: bool) -> AttributeValues:
        """What the node tells the next hop of itself."""
        return {"source.uid": self.uid} if outbound and self.uid else {}


def local_node(metadata: Mapping[str, object], node_id: str = "") -> LocalNode:
    """The node by its metadata (``NODE_UID`` and ``NODE_NAMESPACE``), or else by its id ``type~ip~NAME.NS~domain``.

    When neither says it, the node has empty names.
    """
    uid, namespace = metadata.get("NODE_UID"), metadata.get("NODE_NAMESPACE")
    if isinstance(uid, str) and isinstance(namespace, str) and uid and namespace:
        return LocalNode(uid, namespace)
    parts = node_id.split("~")
    names = parts[2].split(".") if len(parts) == 4 else []
    if len(names) >= 2 and names[0] and names[1]:
        return LocalNode(f"kubernetes://{parts[2]}", names[1])
    log.warning("node_unknown", node_id=node_id, expected="type~ip~NAME.NAMESPACE~domain")
    return LocalNode()


def is_outbound(statics: AttributeValues) -> bool:
    """Whether a client with these static attributes looks after what a workload sends."""
    return statics.get("context.reporter.kind") == "outbound"
