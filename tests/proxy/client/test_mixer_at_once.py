"""A Mixer in the same process answers by a plain call: the same verdicts and counts as from one that must be awaited."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

import pytest
import structlog.testing

from mixer.api.answer import AppliedHeader as Header
from mixer.api.answer import CheckAnswer, HeaderKind, RouteDirective
from mixer.api.codes import Code
from mixer.errors import MixerCallError
from proxy.client import SidecarClient, Verdict
from proxy.mixer import CheckCall
from tests.proxy.client.fakes import (
    Clock,
    FakeMixer,
    answer,
    bag_of,
    charging,
    config,
    exact,
    granted,
    settle,
    verdict_of,
)

UNCACHED = {"disableCheckCache": True, "disableQuotaCache": True}


class AtOnce(FakeMixer):
    """Does not make its callers wait."""

    def check(self, call: CheckCall) -> CheckAnswer | Awaitable[CheckAnswer]:  # type: ignore[override]
        self.calls.append(call)
        if isinstance(self.reply, Exception):
            raise self.reply
        assert isinstance(self.reply, CheckAnswer)
        return self.reply


REPLIES: Mapping[str, Any] = {
    "passed": answer(exact("target.name")),
    "passed with a word": answer(message="a word"),
    "denied": answer(code=Code.PERMISSION_DENIED, message="no"),
    "crashed inside": answer(code=Code.INTERNAL, message="oh"),
    "directive": answer(directive=RouteDirective((Header("a", "b", HeaderKind.REPLACE),))),
    "quota granted": answer(quotas={"rq": granted(1)}),
    "quota refused": answer(quotas={"rq": granted(0)}),
    "no answer": MixerCallError(Code.UNAVAILABLE, "away"),
    "late": TimeoutError(),
    "bug": KeyError("mine"),
}


@pytest.mark.parametrize("policy", ["FAIL_OPEN", "FAIL_CLOSE"])
@pytest.mark.parametrize("service", [{}, charging()], ids=["no quota", "quota"])
@pytest.mark.parametrize("caches", [{}, UNCACHED], ids=["caches", "no caches"])
@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES.keys())
async def test_verdicts_and_counts_are_those_of_a_mixer_that_is_awaited(
    reply: Any, caches: dict[str, Any], service: dict[str, Any], policy: str
) -> None:
    found = []
    for mixer in (FakeMixer(reply), AtOnce(reply)):
        transport = {**caches, "networkFailPolicy": {"policy": policy}}
        client = SidecarClient(mixer, config(service, transport), monotonic=Clock())
        with structlog.testing.capture_logs():  # drawing tracebacks takes long
            verdicts = [await verdict_of(client.check(bag_of(client, target__name=name))) for name in "aab"]
        await settle()
        calls = [(sorted(call.quotas.items()), call.quotas_only, call.references) for call in mixer.calls]
        found.append((verdicts, client.counters().as_dict(), calls))
        await client.aclose()

    assert found[0] == found[1]


async def test_nothing_is_awaited_when_caches_are_off() -> None:
    client = SidecarClient(AtOnce(answer(code=Code.PERMISSION_DENIED)), config({}, UNCACHED), monotonic=Clock())

    verdict = client.check(bag_of(client, target__name="a"))

    assert isinstance(verdict, Verdict)
    assert verdict.code == Code.PERMISSION_DENIED
    await client.aclose()
