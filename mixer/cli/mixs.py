"""``mixs``: run Mixer, validate configuration, list adapters."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

import click
import structlog
import uvloop
from rich.console import Console
from rich.table import Table

from mixer import __version__
from mixer.adapters.loading import AdapterLoadError, load_adapters, load_installed
from mixer.cli.envoy import HTTP_PORT, EnvoyGuest, invite_envoy
from mixer.cli.logs import LEVELS, set_up_logging
from mixer.cli.options import CONTEXT, DURATION, open_store
from mixer.cli.ports import ready_line
from mixer.cli.tls import server_tls, server_tls_options
from mixer.cli.validate import validate_command
from mixer.errors import MixerError
from mixer.server.app import MixerServer, ServerOptions
from mixer.server.guests import House
from mixer.server.transport import TransportKind
from mixer.server.workers.owner import Owner
from mixer.server.workers.worker import run_worker

log: structlog.stdlib.BoundLogger = structlog.get_logger("mixer.cli")


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, "-V", "--version", prog_name="mixs")
def main() -> None:
    """Mixer's server side.

    Proxies send the attributes of each request; Mixer evaluates rules over them, decides, counts and logs.

    \b
    Try:  mixs validate config/mesh
          mixs server --config-store fs://$PWD/config/mesh
    """  # noqa: D301  click wants the character


main.add_command(validate_command)


@main.command()
@click.option(
    "--config-store",
    "--configStoreURL",
    "config_store",
    required=True,
    metavar="URL",
    help="Where configuration is: fs:///path of a folder (watched) or of a file.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Interface for every port; 0.0.0.0 for all.")
@click.option(
    "--port",
    "-p",
    default=9091,
    show_default=True,
    help="gRPC API, health and reflection. 0 picks a free port, here and below.",
)
@click.option(
    "--address",
    default="",
    metavar="ADDR",
    help="gRPC API on host:port, tcp://host:port or unix:///path instead of --host and --port.",
)
@click.option(
    "--transport",
    type=click.Choice([kind.value for kind in TransportKind]),
    default=TransportKind.GRPC.value,
    show_default=True,
    help="What carries the gRPC API: grpcio, or Mixer's own HTTP/2, which costs a fraction of its CPU.",
)
@click.option(
    "--monitoring-port",
    "--monitoringPort",
    "monitoring_port",
    default=15014,
    show_default=True,
    help="HTTP: /metrics of Mixer itself, /healthz, /readyz, /version.",
)
@click.option(
    "--metrics-port",
    "--metricsPort",
    "metrics_port",
    default=42422,
    show_default=True,
    help="HTTP: /metrics of the prometheus handlers.",
)
@click.option(
    "--console-port",
    "--consolePort",
    "--ctrlz_port",
    "console_port",
    default=9876,
    show_default=True,
    help="HTTP: what is configured, what runs and what is wrong.",
)
@click.option(
    "--ext-authz-http-port",
    "ext_authz_http_port",
    default=None,
    type=click.IntRange(0, 65535),
    help="HTTP: Envoy's external authorization in its HTTP form; off unless given. The gRPC port has all of Envoy's services.",
)
@server_tls_options
@click.option(
    "--config-default-namespace",
    "--configDefaultNamespace",
    "default_namespace",
    default="istio-system",
    show_default=True,
    help="Rules of this namespace apply to requests of every namespace.",
)
@click.option(
    "--max-message-size",
    "--maxMessageSize",
    "max_message_bytes",
    default=1 << 20,
    show_default=True,
    type=click.IntRange(1),
    help="Largest request, in bytes.",
)
@click.option(
    "--max-concurrent-streams",
    "--maxConcurrentStreams",
    "max_concurrent_streams",
    default=1024,
    show_default=True,
    type=click.IntRange(1),
    help="Calls in progress on one connection.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Processes that serve the gRPC API on one port; one core is about what each can use.",
)
@click.option(
    "--handler-timeout",
    "handler_timeout",
    type=DURATION,
    default="5s",
    show_default=True,
    help="How long a handler may take over one call; then the call has failed.",
)
@click.option(
    "--drain-timeout",
    "drain_timeout",
    type=DURATION,
    default="10s",
    show_default=True,
    help="How long requests in progress may take to finish after SIGTERM.",
)
@click.option(
    "--strict/--no-strict",
    default=False,
    show_default=True,
    help="Refuse a configuration with problems as a whole; the former one goes on serving.",
)
@click.option(
    "--log-level",
    "--log_output_level",
    "log_level",
    type=click.Choice(LEVELS),
    default="info",
    show_default=True,
    help="Log lines go to standard error.",
)
@click.option(
    "--log-as-json/--no-log-as-json", "--log_as_json", "log_as_json", default=False, help="Log lines as JSON."
)
def server(**flags: Any) -> None:
    """Run Mixer until SIGTERM or SIGINT, then drain and exit 0.

    Prints one line on standard output when it serves, with the ports that it bound.
    """
    set_up_logging(flags["log_level"], as_json=flags["log_as_json"])
    store = open_store(flags["config_store"])
    options = ServerOptions(
        host=flags["host"],
        port=flags["port"],
        address=flags["address"],
        transport=TransportKind(flags["transport"]),
        monitoring_port=flags["monitoring_port"],
        metrics_port=flags["metrics_port"],
        console_port=flags["console_port"],
        max_message_bytes=flags["max_message_bytes"],
        max_concurrent_streams=flags["max_concurrent_streams"],
        default_namespace=flags["default_namespace"],
        handler_timeout_s=flags["handler_timeout"].seconds,
        drain_s=flags["drain_timeout"].seconds,
        strict=flags["strict"],
        tls=server_tls(flags),
        guest_ports={} if flags["ext_authz_http_port"] is None else {HTTP_PORT: flags["ext_authz_http_port"]},
        arguments=flags,
    )
    try:
        adapters = load_adapters()
        mixer: MixerServer | Owner = MixerServer(store, adapters, options, (_invite,))
        if flags["workers"] > 1:
            mixer = Owner(store, adapters, options, workers=flags["workers"], command=_worker_command(flags))
        uvloop.run(_serve(mixer))
    except (MixerError, OSError) as exc:
        raise click.ClickException(f"cannot start: {exc}") from exc


def _invite(house: House) -> EnvoyGuest:
    """Envoy's services, whose own port is served like the gRPC port."""
    guest = invite_envoy(house)
    guest.http_server.certificates = house.certificates
    return guest


def _worker_command(flags: Mapping[str, Any]) -> list[str]:
    command = [sys.executable, "-m", "mixer.cli.mixs", "worker", "--log-level", flags["log_level"]]
    return [*command, "--log-as-json"] if flags["log_as_json"] else command


@main.command("worker", hidden=True)
@click.option("--link", required=True, type=int, help="File descriptor of the socket to the owner.")
@click.option("--log-level", type=click.Choice(LEVELS), default="info")
@click.option("--log-as-json/--no-log-as-json", default=False)
def worker_command(link: int, log_level: str, log_as_json: bool) -> None:
    """One of the processes of ``mixs server --workers N``, which starts it."""
    set_up_logging(log_level, as_json=log_as_json)
    try:
        uvloop.run(run_worker(socket.socket(fileno=link), load_adapters(), (_invite,)))
    except (MixerError, OSError) as exc:
        raise click.ClickException(f"cannot serve: {exc}") from exc


async def _serve(mixer: MixerServer | Owner) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await mixer.start()
    print(ready_line(mixer.ports), flush=True)
    await stop.wait()
    log.info("draining")
    await mixer.stop()
    log.info("stopped")


@main.command("adapters")
@click.option("--output", "-o", type=click.Choice(["text", "json"]), default="text", show_default=True)
def adapters_command(output: str) -> None:
    """List the installed adapters, the packages that they come with, and the templates that they take."""
    try:
        found = load_installed()
    except AdapterLoadError as exc:
        raise click.ClickException(str(exc)) from exc
    if output == "json":
        rows = [
            {
                "name": info.name,
                "package": package,
                "version": version,
                "templates": [template.name for template in info.templates],
                "description": info.description,
            }
            for info, package, version in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("adapter", "package", "version", "templates", "what it does", box=None)
    for info, package, version in found:
        templates = ", ".join(template.name for template in info.templates)
        table.add_row(info.name, package, version, templates, info.description)
    Console(file=sys.stdout).print(table)


@main.command("version")
def version_command() -> None:
    """Print the version."""
    click.echo(__version__)


if __name__ == "__main__":
    main()
