"""``serve``: a command around an adapter."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import click
import structlog
import uvloop
from prometheus_client import CollectorRegistry, start_http_server

from mixer.adapters.base import AdapterInfo
from mixer.errors import MixerError
from mixer.sdk.resources import adapter_resource, template_resources, to_yaml
from mixer.sdk.server import AdapterServer, ServerSecurity

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def serve(info: AdapterInfo) -> None:
    """Run the command line of an adapter; the last line of its program.

    Without a subcommand it serves until SIGTERM or SIGINT, after one line on standard output that says where;
    ``resources`` prints what Mixer has to be configured with.
    """
    command(info)()


def command(info: AdapterInfo) -> click.Command:
    """The command, for those who mount it elsewhere."""

    @click.group(invoke_without_command=True, help=info.description)
    @click.option("--address", default="127.0.0.1:9070", show_default=True, help="Where to listen; port 0: a free one.")
    @click.option("--tls-certificate", type=_FILE, help="The server's certificate chain; goes with --tls-key.")
    @click.option("--tls-key", type=_FILE, help="The key of the certificate.")
    @click.option("--tls-client-ca", type=_FILE, help="Authorities; callers need a certificate of theirs.")
    @click.option("--token-file", type=_FILE, help="The token that callers must send.")
    @click.option(
        "--threads",
        default=0,
        show_default=True,
        type=click.IntRange(0, 256),
        help="For an adapter that blocks: how many of its calls run at a time, each in a thread.",
    )
    @click.option("--metrics-port", type=click.IntRange(0, 65535), help="Serve the adapter's metrics here, over HTTP.")
    @click.option("--token-header", default="authorization", show_default=True, help="The header of the token.")
    @click.option(
        "--drain", "drain_s", default=5.0, show_default=True, help="Seconds for calls in progress at the end."
    )
    @click.pass_context
    def main(ctx: click.Context, /, **flags: Any) -> None:
        if ctx.invoked_subcommand is not None:
            return
        pair = (flags["tls_certificate"], flags["tls_key"])
        if (pair[0] is None) != (pair[1] is None):
            raise click.UsageError("--tls-certificate and --tls-key go together")
        if flags["tls_client_ca"] is not None and pair[0] is None:
            raise click.UsageError("--tls-client-ca needs --tls-certificate and --tls-key")
        security = ServerSecurity(*pair, flags["tls_client_ca"], flags["token_file"], flags["token_header"])
        structlog.configure(
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        )
        try:
            server = AdapterServer(info, flags["address"], security=security, threads=flags["threads"])
            if flags["metrics_port"] is not None:
                _serve_metrics(server, flags["address"].rpartition(":")[0], flags["metrics_port"])
            uvloop.run(_run(server, info, flags["address"], flags["drain_s"]))
        except (MixerError, OSError, ValueError) as exc:
            raise click.ClickException(f"cannot start: {exc}") from exc

    @main.command("resources")
    @click.option("--namespace", default="istio-system", show_default=True)
    @click.option(
        "--session-based/--no-session-based",
        default=True,
        show_default=True,
        help="Whether Mixer sends the params once, for a session, or with each call.",
    )
    @click.option("--templates/--no-templates", default=True, show_default=True, help="Print the templates too.")
    def resources(namespace: str, session_based: bool, templates: bool) -> None:
        """Print the template and adapter resources for Mixer's configuration."""
        found = list(template_resources(info.templates, namespace=namespace)) if templates else []
        found.append(adapter_resource(info, namespace=namespace, session_based=session_based))
        click.echo(to_yaml(found), nl=False)

    return main


def _serve_metrics(server: AdapterServer, host: str, port: int) -> None:
    """Serve all that handlers register, on the interface of the server."""
    page = CollectorRegistry()
    page.register(server.sessions.metrics)
    page.register(server.sessions.scrape)
    start_http_server(port, host if host and "/" not in host else "127.0.0.1", page)


async def _run(server: AdapterServer, info: AdapterInfo, address: str, drain_s: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    host = address.rpartition(":")[0]
    print(f"adapter {info.name} is ready: {host}:{server.port}" if host != "unix" else f"adapter {info.name} is ready")
    sys.stdout.flush()
    await stop.wait()
    await server.stop(drain_s)
