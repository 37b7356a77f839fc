"""bypass: hands instances on to a gRPC backend that speaks Istio's protocol for adapters of other processes.

Source: spec adapters 4.15, spec runtime 6.1 and 6.2.

* `params`: what an operator writes;
* `convert`: instances to messages, and answers back;
* `backend`: connection, session and calls;
* `handler`: puts them together.

Where we differ from the reference: the handler starts at once when the backend is away (the reference waits
for five minutes) and its calls fail until the backend is there; the session's id goes with the calls; the
status of a quota's answer counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from mixer.adapters.base import AdapterInfo, Env, InstanceInfo
from mixer.adapters.bypass.handler import BypassHandler
from mixer.adapters.bypass.params import BypassParams, validate
from mixer.errors import BackendUnavailableError
from mixer.templates import CHECKNOTHING, METRIC, QUOTA, REPORTNOTHING

_BUILD_WAITS_S: Final = 2.0


async def build(params: BypassParams, instances: Sequence[InstanceInfo], env: Env) -> BypassHandler:
    """A handler, with a session if the backend answers in two seconds; later it opens one with its first call.

    Raises:
        BackendRejectedError: The backend is there and refuses the params.
    """
    handler = BypassHandler(params, instances)
    try:
        async with asyncio.timeout(_BUILD_WAITS_S):
            await handler.prepare()
    except (TimeoutError, BackendUnavailableError) as exc:
        env.log.warning("backend_away", address=params.backend_address, reason=str(exc) or "it does not answer")
    except BaseException:
        await handler.aclose()
        raise
    return handler


INFO: Final = AdapterInfo(
    name="bypass",
    templates=(CHECKNOTHING, REPORTNOTHING, METRIC, QUOTA),
    params=BypassParams,
    build=build,
    validate=validate,
    description="Hands instances on to a gRPC backend in another process.",
)

__all__ = ["INFO", "BypassHandler", "BypassParams", "build"]
