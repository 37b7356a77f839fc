"""CPU of an access log entry of Envoy's, from bytes to handlers, inside one process.

The stages are measured one on top of the other: parsing, making bags, and a whole message through the service to the
dispatcher with the configuration in ``config/mesh``. What the bags cost beyond plain dicts shows in the last line,
which dispatches the same records read out beforehand.

Run from the repository root: ``python -m tests.bench.bench_access_log --help``.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

import structlog

from loadtest.bookinfo import Hop, visits
from mixer.api.answer import CheckAnswer
from mixer.attributes import ABSENT, AttributeBag, AttributeValue, MappingBag
from mixer.runtime.dispatcher import Dispatcher
from mixer.runtime.results import ReportError
from proxy.client.config import PASS_THROUGH, HttpClientConfig, ServiceConfig
from proxy.client.sidecar import SidecarClient
from proxy.envoy.access_log import AccessLog, AccessLogMetrics
from proxy.envoy.correlation import HTTP_FILTER, CheckRecord, write_record
from proxy.envoy.gen.accesslog_pb2 import DownstreamEnd, HTTPAccessLogEntry, StreamAccessLogsMessage
from proxy.envoy.gen.core_pb2 import Address, RequestMethod
from proxy.envoy.keeping import Keeper
from proxy.envoy.log_entry import log_stream
from proxy.envoy.log_http import HttpEntry, request_bag, response_bag
from proxy.mixer import CheckCall
from tests.bench.bench_report import controller_of

ENTRIES = 29
"""Of a message with Envoy's default buffer."""


class InProcess:
    """A Mixer in the same process, for reports."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def check(self, call: CheckCall) -> CheckAnswer:
        raise NotImplementedError

    async def report(self, records: Sequence[AttributeBag]) -> None:
        try:
            await self._dispatcher.report(records)
        except ReportError as exc:
            raise SystemExit(f"records were not reported: {exc}") from exc


def _put(address: Address, ip: bytes, port: int) -> None:
    address.socket_address.address = ".".join(map(str, ip))
    address.socket_address.port_value = port


def entry_of(hop: Hop, keeper: Keeper, caller: str) -> HTTPAccessLogEntry:
    """The entry that Envoy next to the callee would log of a hop, with the record of its check."""
    told = hop.report_attributes("inbound")
    entry = HTTPAccessLogEntry()
    common = entry.common_properties
    _put(common.downstream_remote_address, hop.source.address, 40_000 + int(hop.start) % 20_000)
    common.downstream_direct_remote_address.CopyFrom(common.downstream_remote_address)
    _put(common.downstream_local_address, hop.destination.address, 15_006)
    _put(common.upstream_remote_address, hop.destination.address, 9_080)
    common.tls_properties.tls_sni_hostname = "outbound_.9080_._.reviews.default.svc.cluster.local"
    peer = common.tls_properties.peer_certificate_properties
    peer.subject_alt_name.add().uri = f"spiffe://{caller}"
    peer.subject, peer.issuer = "CN=caller", "CN=ca"
    local = common.tls_properties.local_certificate_properties
    local.subject_alt_name.add().uri = f"spiffe://{told['destination.principal']}"
    common.start_time.seconds, common.start_time.nanos = divmod(int(hop.start), 10**9)
    common.duration.seconds, common.duration.nanos = divmod(int(hop.duration), 10**9)
    for name in ("time_to_last_rx_byte", "time_to_first_upstream_tx_byte", "time_to_last_downstream_tx_byte"):
        getattr(common, name).nanos = common.duration.nanos // 2
    common.upstream_cluster = "inbound|9080||"
    common.stream_id = hop.request_id
    common.access_log_type = DownstreamEnd
    common.custom_tags["flags"] = hop.flags
    common.custom_tags["dest.uid"] = str(told["destination.uid"])
    for name in ("destination.service.host", "destination.service.name", "destination.service.namespace"):
        common.custom_tags[name] = str(told[name])
    common.downstream_wire_bytes_received, common.downstream_wire_bytes_sent = 512, 310
    checked: dict[str, AttributeValue] = {**hop.check_attributes(), "source.principal": caller}
    record = CheckRecord(hop.request_id, "", "", keeper.pick(MappingBag(checked), {}, tcp=False), check_cache_hit=True)
    write_record(record, common.metadata.filter_metadata[HTTP_FILTER])
    common.metadata.filter_metadata[HTTP_FILTER].fields["ext_authz_duration"].number_value = 1.0
    entry.protocol_version = HTTPAccessLogEntry.HTTP11
    request = entry.request
    request.request_method = RequestMethod.GET
    request.scheme, request.authority, request.path = "http", str(told["request.host"]), hop.path
    request.user_agent, request.request_id = str(told["request.useragent"]), hop.request_id
    request.request_headers_bytes = 512
    for name in (":method", ":path", ":authority", "x-request-id", "x-b3-traceid"):
        request.request_headers[name] = checked["request.headers"][name]  # type: ignore[index]
    response = entry.response
    response.response_code.value = hop.code
    response.response_headers_bytes, response.response_body_bytes = 130, 178
    for name, value in told["response.headers"].items():  # type: ignore[union-attr]
        response.response_headers[name] = value
    response.response_code_details = "via_upstream"
    return entry


def messages_of(count: int, labels: int, keeper: Keeper) -> list[bytes]:
    """Serialized messages of BookInfo's hops; ``labels`` distinct callers."""
    hops = [hop for visit in visits(count, 3) for hop in (visit, *visit.then)][:count]
    found = []
    for start in range(0, len(hops) - ENTRIES + 1, ENTRIES):
        message = StreamAccessLogsMessage()
        for number, hop in enumerate(hops[start : start + ENTRIES], start):
            caller = f"cluster.local/ns/default/sa/caller-{number % labels}"
            message.http_logs.log_entry.append(entry_of(hop, keeper, caller))
        found.append(message.SerializeToString())
    return found


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=1_000, help="distinct callers")
    parser.add_argument("--access-log", action="store_true", help="with the access log, to standard output")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to measure each stage")
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    controller = await controller_of(0, options.access_log)
    dispatcher = controller.dispatcher
    keeper = Keeper(lambda: dispatcher.binding.snapshot.wanted)
    messages = messages_of(5_000, options.labels, keeper)
    stream = log_stream("sidecar~10.44.0.11~reviews-v1-5d8f6c9b4-x2k9p.default~default.svc", "inbound_http")
    config = HttpClientConfig(
        transport=PASS_THROUGH, service_configs={"default": ServiceConfig()}, default_destination_service="default"
    )
    client = SidecarClient(InProcess(dispatcher), config)
    service = AccessLog(client, AccessLogMetrics())

    async def parse(data: bytes) -> None:
        StreamAccessLogsMessage.FromString(data)

    def bags_of(data: bytes) -> list[AttributeBag]:
        bags: list[AttributeBag] = []
        for message in StreamAccessLogsMessage.FromString(data).http_logs.log_entry:
            entry = HttpEntry(stream, message)
            bags.append(response_bag(entry, client.compose(request_bag(entry), service=entry.service)))
        return bags

    async def bag(data: bytes) -> None:
        bags_of(data)

    async def whole(data: bytes) -> None:
        await service.take(stream, data)

    wanted = dispatcher.binding.snapshot.wanted
    plain: dict[bytes, list[MappingBag]] = {
        data: [
            MappingBag({name: value for name in wanted.attributes if (value := b.get(name)) is not ABSENT})  # type: ignore[misc]
            for b in bags_of(data)
        ]
        for data in messages
    }

    async def dispatch(data: bytes) -> None:
        await dispatcher.report(plain[data])

    async def measure(serve: Callable[[bytes], Awaitable[None]]) -> float:
        """Microseconds of one entry in the best of many short rounds, as others use the machine, too."""
        best, end = 1e9, time.process_time() + options.seconds
        while time.process_time() < end:
            started = time.process_time()
            for data in messages:
                await serve(data)
            best = min(best, (time.process_time() - started) / len(messages) / ENTRIES)
        return best * 1e6

    for data in messages:
        await whole(data)
    if options.profile:
        profile = cProfile.Profile()
        profile.enable()
        await measure(whole)
        profile.disable()
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(30)
        return
    print(f"{sum(map(len, messages)) / len(messages) / ENTRIES:.0f} bytes an entry, {ENTRIES} a message")
    parsed, made, total, plainly = [await measure(stage) for stage in (parse, bag, whole, dispatch)]
    print(f"parse                         {parsed:6.2f} us an entry")
    print(f"bags and the check's record   {made - parsed:6.2f}")
    print(f"reading and dispatch          {total - made:6.2f}")
    print(f"in all                        {total:6.2f}")
    print(f"(dispatch of plain dicts      {plainly:6.2f})")


if __name__ == "__main__":
    asyncio.run(main())
