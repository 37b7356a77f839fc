"""What an operator writes to configure the zipkin adapter, and what can be wrong with it. Source: spec adapters 4.10."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from mixer.adapters.base import InstanceInfo
from mixer.adapters.spans.params import Sampling, SpanParams, common_faults, is_web_address
from mixer.store.problem import FieldError

BATCH: Final = 100


class ZipkinParams(SpanParams):
    """Params of the zipkin adapter."""

    url: str = ""
    """Where to post spans, such as ``http://zipkin:9411/api/v2/spans``; required unless the handler is disabled.

    With ``sampling: PROBABILITY``, the default, a ``sampleProbability`` of 0, the default, disables it: as in the
    original, a handler says how much it exports.
    """


def validate(params: ZipkinParams, instances: Sequence[InstanceInfo]) -> Iterator[FieldError]:
    """Every fault of params that decode well."""
    used = params.sample_probability != 0 or params.sampling is Sampling.INCOMING
    if (used or params.url) and not is_web_address(params.url):
        yield FieldError(("url",), "not a URL to post to", "http:// or https://, then a host")
    yield from common_faults(params)
