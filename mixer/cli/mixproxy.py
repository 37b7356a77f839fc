"""``mixproxy``: the sidecar agent between Envoy and Mixer, and the Envoy configuration that goes with it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import structlog
import uvloop
import yaml

from mixer import __version__
from mixer.cli.agent import Agent, AgentOptions
from mixer.cli.envoy_config import envoy_config_command
from mixer.cli.logs import LEVELS, set_up_logging
from mixer.cli.options import CONTEXT, DURATION, open_store
from mixer.cli.ports import ready_line
from mixer.cli.tls import client_tls, client_tls_options, server_tls, server_tls_options
from mixer.errors import MixerError
from mixer.server.transport import TransportKind
from proxy.client import HttpClientConfig, LocalNode, TcpClientConfig, local_node, read_config
from proxy.client.delivery import DeliveryLimits
from proxy.client.remote import RemoteOptions

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.cli.mixproxy")

DEFAULT_SERVICE = "default"


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, "-V", "--version", prog_name="mixproxy")
def main() -> None:
    """Mixer's side of a proxy: what stands beside an Envoy.

    Envoy asks it for decisions and quotas and sends it its access log; it remembers what Mixer said, and keeps
    reports while Mixer is away.

    \b
    Try:  mixproxy run --mixer 127.0.0.1:9091
          mixproxy envoy-config --upstream 127.0.0.1:9080 -o envoy.yaml
          envoy -c envoy.yaml
    """  # noqa: D301  click wants the character


main.add_command(envoy_config_command)


@main.command(short_help="Run the agent.")
@click.option(
    "--mixer",
    "-m",
    default="127.0.0.1:9091",
    show_default=True,
    metavar="ADDRESS",
    help="Where Mixer is: host:port or unix:///path.",
)
@click.option("--report-mixer", default="", metavar="ADDRESS", help="Another Mixer for reports.")
@client_tls_options("mixer")
@click.option("--host", default="127.0.0.1", show_default=True, help="Interface for every port; 0.0.0.0 for all.")
@click.option(
    "--port", "-p", default=9092, show_default=True, help="gRPC, for Envoy. 0 picks a free one, here and below."
)
@click.option(
    "--address",
    default="",
    metavar="ADDRESS",
    help="gRPC on host:port or unix:///path instead of --host and --port.",
)
@click.option("--ext-authz-http-port", type=int, help="External authorization in its HTTP form; off unless given.")
@server_tls_options
@click.option(
    "--monitoring-port", default=15090, show_default=True, help="HTTP: /metrics, /healthz, /readyz, /version."
)
@click.option(
    "--transport",
    type=click.Choice([kind.value for kind in TransportKind]),
    default=TransportKind.GRPC.value,
    show_default=True,
    help="What carries gRPC for Envoy: grpcio, or Mixer's own HTTP/2, which costs a fraction of its CPU.",
)
@click.option(
    "--client-config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="YAML with `http` (HttpClientConfig) and `tcp` (TcpClientConfig) of istio.mixer.v1.config.client.",
)
@click.option(
    "--config-store",
    default="",
    metavar="URL",
    help="fs:///path with QuotaSpecs, HTTPAPISpecs and their bindings; followed as it changes.",
)
@click.option(
    "--fail-policy",
    type=click.Choice(["open", "closed"]),
    default="closed",
    show_default=True,
    help="When Mixer gives no answer and no cache knows: let requests pass, or answer 503. --client-config wins.",
)
@click.option(
    "--check-timeout", type=DURATION, default="1s", show_default=True, help="For one check, retries included."
)
@click.option("--check-retries", type=click.IntRange(0), default=1, show_default=True, help="Of a check that failed.")
@click.option(
    "--buffer-records",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="Reports kept while Mixer is away; the oldest make room, and are counted.",
)
@click.option(
    "--buffer-bytes", type=click.IntRange(1 << 16), default=64 << 20, show_default=True, help="The same in bytes."
)
@click.option(
    "--report-header",
    "report_headers",
    multiple=True,
    metavar="NAME",
    help="A request header that reports shall have though Envoy does not log it; may be repeated.",
)
@click.option(
    "--node-id", default="", help="type~ip~pod.namespace~domain of the workload beside, when Envoy does not say it."
)
@click.option("--drain-timeout", type=DURATION, default="10s", show_default=True, help="For finishing after SIGTERM.")
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@click.option("--log-as-json/--no-log-as-json", default=False, help="Log lines as JSON.")
def run(**flags: Any) -> None:
    """Run the agent until SIGTERM or SIGINT, then deliver what reports there are and exit 0.

    Prints one line on standard output when it serves, with the ports that it bound. It serves whether Mixer is
    there or not.
    """
    set_up_logging(flags["log_level"], as_json=flags["log_as_json"])
    http, tcp = _client_configs(flags)
    policy = http.transport.network_fail_policy
    timeout_s = flags["check_timeout"].seconds
    node: LocalNode | None = local_node({}, flags["node_id"]) if flags["node_id"] else None
    options = AgentOptions(
        RemoteOptions(
            flags["mixer"],
            flags["report_mixer"],
            check_timeout_s=timeout_s,
            max_retries=policy.max_retry,
            base_retry_wait_s=policy.base_retry_wait.seconds,
            max_retry_wait_s=policy.max_retry_wait.seconds,
            delivery=DeliveryLimits(records=flags["buffer_records"], bytes=flags["buffer_bytes"]),
            tls=client_tls("mixer", flags, flags["mixer"], flags["report_mixer"]),
        ),
        http,
        tcp,
        node=node,
        host=flags["host"],
        port=flags["port"],
        address=flags["address"],
        transport=TransportKind(flags["transport"]),
        tls=server_tls(flags),
        ext_authz_http_port=flags["ext_authz_http_port"],
        monitoring_port=flags["monitoring_port"],
        report_headers=tuple(header.lower() for header in flags["report_headers"]),
        drain_s=flags["drain_timeout"].seconds,
    )
    store = open_store(flags["config_store"]) if flags["config_store"] else None
    try:
        uvloop.run(_serve(options, store))
    except (MixerError, OSError) as exc:
        raise click.ClickException(f"cannot start: {exc}") from exc


async def _serve(options: AgentOptions, store: Any) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    agent = Agent(options, store)
    await agent.start()
    print(ready_line(agent.ports, "mixproxy"), flush=True)
    await stop.wait()
    log.info("draining", reports=agent.remote.delivery.pending)
    await agent.stop()
    log.info("stopped")


def _client_configs(flags: Mapping[str, Any]) -> tuple[HttpClientConfig, TcpClientConfig]:
    """The configuration for requests and for connections: the file's, or what the flags say for every service."""
    transport = {
        "networkFailPolicy": {
            "policy": "FAIL_OPEN" if flags["fail_policy"] == "open" else "FAIL_CLOSE",
            "maxRetry": flags["check_retries"],
        },
        "checkTimeout": f"{flags['check_timeout'].seconds:g}s",
    }
    default = {
        "http": {
            "transport": transport,
            "serviceConfigs": {DEFAULT_SERVICE: {}},
            "defaultDestinationService": DEFAULT_SERVICE,
        },
        "tcp": {"transport": transport},
    }
    data: Any = {}
    path = flags["client_config"]
    if path is not None:
        try:
            data = yaml.safe_load(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
            raise click.BadParameter(f"{path}: {exc}", param_hint="--client-config") from exc
        if data is None:
            data = {}
        if not isinstance(data, dict) or (unknown := sorted(data.keys() - default.keys(), key=str)):
            what = f"unknown key {unknown[0]!r}" if isinstance(data, dict) else type(data).__name__
            raise click.BadParameter(f"{path}: {what}; expected the keys http and tcp", param_hint="--client-config")
    data = {**default, **data}
    http, problems = read_config(HttpClientConfig, data["http"], under=("http",))
    tcp, more = read_config(TcpClientConfig, data["tcp"], under=("tcp",))
    if http is None or tcp is None:
        lines = "\n".join(f"  {problem}" for problem in (*problems, *more))
        raise click.BadParameter(f"{path}:\n{lines}", param_hint="--client-config")
    return http, tcp


if __name__ == "__main__":
    main()
