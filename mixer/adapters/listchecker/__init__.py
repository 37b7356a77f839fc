"""listchecker: is a value in a list, and is that good or bad? Source: spec adapters 4.5.

* `params`: what an operator writes, and its faults;
* `entries`: lists in the forms that answer quickly, and reading them from text;
* `fetch`: getting the text from a provider;
* `handler`: keeps a list fresh and answers from it.

Where we differ from the reference: a fetch has a time limit and a size limit (params of ours), a bare IPv6
address is one address (/128), and a list that ran out of time is an error, never a yes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mixer.adapters.base import AdapterInfo, Env, InstanceInfo
from mixer.adapters.listchecker.fetch import HttpSource
from mixer.adapters.listchecker.handler import ListHandler
from mixer.adapters.listchecker.params import ListCheckerParams, validate
from mixer.templates import LISTENTRY


async def build(params: ListCheckerParams, instances: Sequence[InstanceInfo], env: Env) -> ListHandler:
    """A handler that has tried to fetch its list once, which takes ``fetch_timeout`` at most and may fail."""
    if not params.provider_url:
        return ListHandler(params, env)
    timeout_s = params.fetch_timeout.seconds
    source = HttpSource(params.provider_url, timeout_s=timeout_s, max_bytes=params.max_list_bytes)
    handler = ListHandler(params, env, source)
    await handler.refresh()
    env.spawn(handler.keep_fresh())
    return handler


INFO: Final = AdapterInfo(
    name="listchecker",
    templates=(LISTENTRY,),
    params=ListCheckerParams,
    build=build,
    validate=validate,
    description="Admits or denies by a list of texts, addresses or patterns, given or fetched.",
)

__all__ = ["INFO", "ListCheckerParams", "ListHandler", "build"]
