"""What a host (Envoy's services, a middleware) asks of the proxy side, and the verdict that it acts on.

The sidecar client implements `PolicyClient`; hosts know nothing else of it, so that they are tested with a fake.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from mixer.api.answer import NO_QUOTAS, QuotaAnswer, RouteDirective
from mixer.api.codes import Code
from mixer.attributes import AttributeBag

QUOTA_EXHAUSTED: Final = "Quota is exhausted for: "
"""Begins the message of a verdict that quotas deny; the names follow, parted by commas. Source: spec proxy 8.2."""


NO_DECISION: Final = "no decision could be made"
"""The message of a verdict that the fail policy made; why is in the log, and not for users."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The final word on a request.

    Attributes:
        code: Anything but OK denies, in the numbers of ``google.rpc.Code``.
        message: Why, for the user.
        directive: Header operations, or an answer in place of the service's; a direct response wins over ``code``.
        checked: False when Check is off for the service: nobody was asked, and nothing is reported of it.
        check_cache_hit: The decision came from the check cache.
        quota_cache_hit: The quotas came from the quota cache.
        failed: Mixer gave no answer and the fail policy decided.
        quotas: What was answered for each quota that was asked for.
    """

    code: int = Code.OK
    message: str = ""
    directive: RouteDirective | None = None
    checked: bool = True
    check_cache_hit: bool = False
    quota_cache_hit: bool = False
    failed: bool = False
    quotas: Mapping[str, QuotaAnswer] = field(default_factory=lambda: NO_QUOTAS)

    @property
    def ok(self) -> bool:
        """Whether the request may pass, unless the directive answers in its place."""
        return self.code == Code.OK


NOT_CHECKED: Final = Verdict(checked=False)


class PolicyClient(Protocol):
    """Verdicts and reports for one listener or process.

    What a request's attributes are made of (in the order in which values are written, later ones win): local node,
    static attributes of the client, those of the service, attributes derived from the request, forwarded ones.
    Source: spec proxy 2.2.
    """

    def compose(
        self, derived: AttributeBag, *, service: str = "", forwarded: str = "", tcp: bool = False
    ) -> AttributeBag:
        """The whole bag of a request.

        Args:
            derived: Attributes that the host derived from the request; read lazily, so it must stay as it is.
            service: Key of the service's configuration; the default one applies when there is none of that name.
            forwarded: The value of the ``x-istio-attributes`` header, empty when there is none; text that cannot be
                decoded counts as none.
            tcp: The attributes are those of a connection.
        """
        ...

    def check(
        self, bag: AttributeBag, *, service: str = "", tcp: bool = False, timeout_s: float | None = None
    ) -> Verdict | Awaitable[Verdict]:
        """The verdict on a composed bag, at once when caches know it; quotas of the service are charged.

        Never raises: when Mixer gives no answer in time the fail policy has the last word.
        """
        ...

    def take(
        self, bag: AttributeBag, charges: Mapping[str, int], *, timeout_s: float | None = None
    ) -> Verdict | Awaitable[Verdict]:
        """Charge quotas, all of them or none: what one refuses is given back to the others. No check rule is asked.

        The verdict is RESOURCE_EXHAUSTED when any refuses. Never raises, as `check`.
        """
        ...

    def report(
        self, records: Sequence[AttributeBag], *, service: str = "", tcp: bool = False
    ) -> Awaitable[None] | None:
        """Take records (composed bags with what is known at the end on top), unless reports are off for the service.

        Never raises; what is lost is counted. An awaitable is back-pressure: the records are taken when it is done.
        """
        ...

    def forward(self, *, service: str = "") -> str:
        """The value of ``x-istio-attributes`` for the next hop; empty for no header."""
        ...
