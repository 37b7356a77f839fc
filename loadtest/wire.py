"""Measuring a server process over gRPC: windows of load, and what the operating system says of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import grpc

from loadtest import osinfo, results
from loadtest.clients import ClientPool
from loadtest.drivers import Samples, Window
from loadtest.encoded import CHECK, Requests
from loadtest.histogram import QUANTILES, Histogram, exact_quantile
from loadtest.osinfo import Usage
from loadtest.results import Measurement
from loadtest.scenario import Load, Mode, Scenario, to_json
from loadtest.servers import EchoServer, MixerServer, Server
from mixer.api.decode import decode_report_bytes
from mixer.api.messages import CheckResponse

Tell = Callable[[str], None]

_PASSED, _DENIED = 0, 7
_LOOKED_AT = 5
_SERVED = {"record": "mixer_api_records_total", "check": "grpc_io_server_completed_rpcs_total"}


class WrongAnswerError(Exception):
    """A server that answers, but not as the case expects; its speed would mean nothing."""


def measure_wire(
    case: str, scenario: Scenario, load: Load, requests: Requests, *, policy: bool, tell: Tell
) -> list[Measurement]:
    """Start ``mixs server``, drive it, and verify by its own counters that it has served what was sent."""
    with MixerServer(scenario, policy=policy) as server:
        _verify_answers(server, requests)
        before = server.counted(_SERVED[requests.unit])
        found, answered = _drive(case, Mode.WIRE, scenario, load, requests, server, tell)
        served = server.counted(_SERVED[requests.unit]) - before
        for measurement in found:
            measurement.notes |= {"series": server.series(), "answered": answered, "served": served}
        return found


def measure_echo(case: str, scenario: Scenario, load: Load, requests: Requests, *, tell: Tell) -> list[Measurement]:
    """The same bytes to a server that does nothing."""
    with EchoServer() as server:
        # What Mixer would be configured with makes no difference here.
        found, _ = _drive(case, Mode.ECHO, scenario, replace(load, then_share=0), requests, server, tell)
        return found


def _drive(
    case: str, mode: Mode, scenario: Scenario, load: Load, requests: Requests, server: Server, tell: Tell
) -> tuple[list[Measurement], int]:
    """The measurement, or two with the one at a share of the first; and how many units were answered in all."""
    answered = 0

    def measured(clients: ClientPool, load: Load) -> Measurement:
        nonlocal answered
        found = Measurement(
            case, mode, requests.unit, to_json(scenario), to_json(load), scenario.text, load.text, notes=_size(requests)
        )
        for number in range(load.repetitions):
            tell(f"{found.title}, {scenario.text}: {number + 1} of {load.repetitions}")
            window, samples = _run_window(server, clients, load, requests, seed=scenario.seed + number)
            answered += samples.answered * requests.units
            found.windows.append(window)
        return found

    tell(f"{case} {mode}: starting clients")
    with ClientPool(server.target, requests, load) as clients:
        found = [measured(clients, load)]
        reached = found[0].spread("throughput")
        if load.then_share and not load.rate and reached and reached.median:
            found.append(measured(clients, replace(load, rate=load.then_share * reached.median / requests.units)))
    return found, answered


def _size(requests: Requests) -> dict[str, float]:
    return {"bytes_per_request": round(requests.bytes_each), "distinct_requests": len(requests.bodies)}


def _run_window(
    server: Server, clients: ClientPool, load: Load, requests: Requests, seed: int
) -> tuple[results.Window, Samples]:
    seen: list[tuple[float, Usage, float, float]] = []

    def watch(window: Window) -> None:
        for moment in (window.opens, window.closes):
            time.sleep(max(moment - time.monotonic(), 0))
            seen.append((time.monotonic(), server.usage(), clients.cpu_s(), osinfo.busy_s()))

    samples = clients.run(load, seed, watch)
    (began, before, clients_before, busy_before), (ended, after, clients_after, busy_after) = seen
    ordered = sorted(samples.latencies)
    cpu_s, client_cpu_s = after.cpu_s - before.cpu_s, clients_after - clients_before
    window = results.Window(
        seconds=ended - began,
        calls=samples.completed,
        units=samples.completed * requests.units,
        cpu_s=cpu_s,
        client_cpu_s=client_cpu_s,
        others_cpu_s=max(busy_after - busy_before - cpu_s - client_cpu_s, 0.0),
        latency={name: exact_quantile(ordered, q) for name, q in QUANTILES.items()} if ordered else {},
        lag_p99_s=exact_quantile(sorted(samples.lags), 0.99) if samples.lags else 0.0,
        errors=dict(samples.errors),
        histogram=Histogram.of(ordered).to_json(),
        rss_bytes=after.rss_bytes,
        peak_rss_bytes=after.peak_rss_bytes,
    )
    return window, samples


def _verify_answers(server: MixerServer, requests: Requests) -> None:
    """Send a few requests and look closely at what comes of them."""
    few = requests.bodies[:_LOOKED_AT]
    with grpc.insecure_channel(server.target) as channel:
        call = channel.unary_unary(requests.method, None, None)
        try:
            answers = [call(body, timeout=30, wait_for_ready=True) for body in few]
        except grpc.RpcError as exc:
            raise WrongAnswerError(f"one of the first requests failed: {exc}") from exc
    if requests.method == CHECK:
        for answer in answers:
            _verify_check(answer)
        return
    records = (bag for body in few for bag in decode_report_bytes(body).bags)
    expected = sum(bag.get("context.protocol") != "tcp" for bag in records)
    found = server.requests_counted()
    if found != expected:
        raise WrongAnswerError(f"of the first {expected} HTTP requests, the metrics tell of {found:g}")


def _verify_check(answer: bytes) -> None:
    response = CheckResponse.FromString(answer)
    code = response.precondition.status.code
    if code not in (_PASSED, _DENIED):
        raise WrongAnswerError(f"a Check got status {code}: {response.precondition.status.message}")
    if not response.precondition.referenced_attributes.attribute_matches:
        raise WrongAnswerError("a Check depended on no attribute: there is no policy")
