"""Who is in the book shop: the pods of ``config/samples/bookinfo/pods.json`` as workloads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
CONFIG: Final = ROOT / "config"
PODS: Final = CONFIG / "samples" / "bookinfo" / "pods.json"
GATEWAY, PRODUCTPAGE, DETAILS, RATINGS, MONGODB = (
    "istio-ingressgateway", "productpage-v1", "details-v1", "ratings-v2", "mongodb-v1",
)  # fmt: skip
REVIEWS: Final = ("reviews-v1", "reviews-v2", "reviews-v3")
HTTP_WORKLOADS: Final = (PRODUCTPAGE, DETAILS, *REVIEWS, RATINGS)


@dataclass(frozen=True, slots=True)
class Workload:
    """One pod, the only one of its deployment.

    Attributes:
        name: Of the deployment, such as ``reviews-v3``.
        app: Label ``app``, and name of the service.
        pod: Name of the pod.
        namespace: Of the pod.
        account: Service account.
        port: On which it serves in a cluster; here it is another one.
        ip: In a cluster.
    """

    name: str
    app: str
    pod: str
    namespace: str
    account: str
    port: int
    ip: str

    @property
    def uid(self) -> str:
        """As proxies name it: ``kubernetes://pod.namespace``."""
        return f"kubernetes://{self.pod}.{self.namespace}"

    @property
    def identity(self) -> str:
        """What its certificate says."""
        return f"spiffe://cluster.local/ns/{self.namespace}/sa/{self.account}"

    @property
    def host(self) -> str:
        """Full host name of its service."""
        return f"{self.app}.{self.namespace}.svc.cluster.local"

    @property
    def authority(self) -> str:
        """How other services call it: ``reviews:9080``."""
        return f"{self.app}:{self.port}"

    @property
    def node_id(self) -> str:
        """Of the Envoy beside it."""
        return f"sidecar~{self.ip}~{self.pod}.{self.namespace}~{self.namespace}.svc.cluster.local"


def read_workloads(path: Path = PODS) -> dict[str, Workload]:
    """The workloads by name."""
    pods = [item for item in json.loads(path.read_text("utf-8"))["items"] if item["kind"] == "Pod"]
    return {workload.name: workload for workload in map(_workload, pods)}


def _workload(pod: dict[str, dict[str, object]]) -> Workload:
    meta, spec = pod["metadata"], pod["spec"]
    labels, containers, address = meta["labels"], spec["containers"], pod["status"]["podIP"]
    assert isinstance(labels, dict)
    assert isinstance(containers, Sequence)
    name = "-".join(part for part in (labels["app"], labels.get("version")) if part)
    return Workload(
        name,
        labels["app"],
        str(meta["name"]),
        str(meta["namespace"]),
        str(spec["serviceAccountName"]),
        containers[0]["ports"][0]["containerPort"],
        str(address),
    )
