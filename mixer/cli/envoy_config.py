"""``mixproxy envoy-config``: a working Envoy configuration for a service, with the reason of each choice in it."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import click

from mixer.adapters.loading import AdapterLoadError, load_adapters
from mixer.cli.logs import set_up_logging
from mixer.cli.options import CONTEXT, DURATION
from mixer.cli.validate import load_paths
from mixer.errors import StoreError
from mixer.rules.build import SnapshotBuilder
from mixer.tls import Names
from mixer.tls.files import Paths
from proxy.envoy.bootstrap import (
    Direction,
    Endpoint,
    ExtAuthz,
    Listener,
    MixerAddress,
    MixerTls,
    Protocol,
    RateLimit,
    Route,
    Sidecar,
    Tls,
    Tracing,
    Upstream,
    bootstrap,
    fragments,
    to_yaml,
)
from proxy.envoy.bootstrap.model import TracingKind

_MIXER_FLAGS: Final = Names("--mixer-cert", "--mixer-key", "--mixer-ca")
_HEADER: Final = re.compile(r"request\.headers\[([^\[\]]+)\]")
HEAD: Final = """\
# Envoy configuration, written by `mixproxy envoy-config`. Check it with `envoy --mode validate -c FILE`.
# Mixer's services are at {mixer}; run a mixproxy there, or Mixer itself.
"""
FRAGMENTS_HEAD: Final = """\
# Parts of an Envoy configuration, written by `mixproxy envoy-config --fragments`: each key says where its value goes.
"""


class EndpointText(click.ParamType):
    """``host:port`` or ``unix:///path``."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        """Read it, or say what was expected."""
        if isinstance(value, Endpoint):
            return value
        try:
            return Endpoint.parse(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


class ChargeText(click.ParamType):
    """``QUOTA`` or ``QUOTA;request.headers[NAME];...``: a descriptor of the rate limit filter."""

    name = "charge"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[str, ...]]:
        """The quota's name and those of the headers."""
        if isinstance(value, tuple):
            return value
        quota, *parts = str(value).split(";")
        headers = [match[1].lower() if (match := _HEADER.fullmatch(part)) else None for part in parts]
        if not quota or None in headers:
            self.fail(f"{value!r} is no charge; expected QUOTA or QUOTA;request.headers[NAME]", param, ctx)
        return quota, tuple(header for header in headers if header)


class AttributeText(click.ParamType):
    """``NAME=VALUE``."""

    name = "attribute"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """The two."""
        if isinstance(value, tuple):
            return value
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is no attribute; expected NAME=VALUE", param, ctx)
        return name, text


ADDRESS = EndpointText()


@click.command(
    "envoy-config",
    context_settings=CONTEXT,
    short_help="Write an Envoy configuration that asks Mixer and reports to it.",
)
@click.option("--upstream", required=True, type=ADDRESS, help="Where the service is that this Envoy stands before.")
@click.option("--upstream-http2", is_flag=True, help="The service speaks HTTP/2, as gRPC services do.")
@click.option("--listen", default="127.0.0.1:15006", show_default=True, type=ADDRESS, help="Where Envoy takes traffic.")
@click.option("--admin", default="127.0.0.1:15000", show_default=True, type=ADDRESS, help="Envoy's admin page.")
@click.option(
    "--mixer",
    default="127.0.0.1:9092",
    show_default=True,
    type=ADDRESS,
    help="gRPC address of mixproxy, or of Mixer itself; may be unix:///path.",
)
@click.option(
    "--mixer-http",
    type=ADDRESS,
    help="Check over HTTP at this address (--ext-authz-http-port of mixproxy or mixs): cheaper, with fewer features.",
)
@click.option(
    "--mixer-ca",
    default="",
    metavar="FILE",
    help="Call --mixer and --mixer-http over TLS: authorities in PEM that they must be known by. Envoy reads the file.",
)
@click.option(
    "--mixer-cert", default="", metavar="FILE", help="Certificate chain that Envoy shows to them (mutual TLS)."
)
@click.option("--mixer-key", default="", metavar="FILE", help="Its private key.")
@click.option(
    "--mixer-server-name",
    default="",
    metavar="NAME",
    help="DNS name, IP address or URI that their certificate must have; by default the host of the address.",
)
@click.option(
    "--protocol", type=click.Choice([each.value for each in Protocol]), default=Protocol.HTTP.value, show_default=True
)
@click.option(
    "--direction",
    type=click.Choice([each.value for each in Direction]),
    default=Direction.INBOUND.value,
    show_default=True,
    help="To the service beside this Envoy, or from it; becomes context.reporter.kind.",
)
@click.option("--check/--no-check", default=True, show_default=True, help="Ask Mixer; reports are made in any case.")
@click.option(
    "--service",
    default="",
    metavar="HOST",
    help="Host name of the service, as reviews.default.svc.cluster.local: QuotaSpecs are bound to it.",
)
@click.option("--uid", default="", metavar="UID", help="kubernetes://pod.namespace of the service's pod.")
@click.option(
    "--attribute", "-a", "attributes", multiple=True, type=AttributeText(), metavar="NAME=VALUE",
    help="An attribute of every request; may be repeated.",
)  # fmt: skip
@click.option("--node-id", default="", help="Envoy's id; sidecar~ip~pod.namespace~domain tells Mixer the pod.")
@click.option("--node-cluster", default="", help="Envoy's cluster: the name of the service.")
@click.option(
    "--failure-mode",
    type=click.Choice(["open", "closed"]),
    default="closed",
    show_default=True,
    help="When nobody answers a check: let requests pass, or answer 503.",
)
@click.option("--timeout", type=DURATION, default="1s", show_default=True, help="For one check, all attempts together.")
@click.option("--retries", type=click.IntRange(0), default=1, show_default=True, help="After a broken connection.")
@click.option("--body-bytes", type=click.IntRange(0), default=0, show_default=True, help="Of a body that a check sees.")
@click.option(
    "--rate-limit", "charges", multiple=True, type=ChargeText(), metavar="QUOTA[;request.headers[NAME]...]",
    help="Charge a quota through Envoy's rate limit filter; may be repeated. Quotas of QuotaSpecs need none of this.",
)  # fmt: skip
@click.option("--rate-limit-domain", default="mixer", show_default=True)
@click.option("--otlp", type=ADDRESS, help="Send Envoy's spans there, over OTLP gRPC; W3C trace context.")
@click.option("--zipkin", type=ADDRESS, help="Send Envoy's spans there, as Zipkin JSON; B3 and W3C trace context.")
@click.option("--sampling", type=click.FloatRange(0, 100), default=100.0, show_default=True, help="Per cent of traces.")
@click.option("--tls-cert", type=click.Path(path_type=Path), help="Certificate chain: require mutual TLS of clients.")
@click.option("--tls-key", type=click.Path(path_type=Path), help="Its key.")
@click.option("--tls-ca", type=click.Path(path_type=Path), help="The authority of clients' certificates.")
@click.option(
    "--config-store",
    default="",
    metavar="URL",
    help="fs:///path of Mixer's configuration: headers that it reads are added to what Envoy logs.",
)
@click.option(
    "--log-header", "headers", multiple=True, metavar="NAME", help="A request header to log; may be repeated."
)
@click.option("--edge", is_flag=True, help="Clients are not trusted: this Envoy says who they are.")
@click.option("--fragments", "only_fragments", is_flag=True, help="Only filters, access log and clusters, to paste.")
@click.option("--output", "-o", type=click.Path(path_type=Path), help="Write to this file.")
def envoy_config_command(**flags: Any) -> None:
    """Write a complete Envoy bootstrap for one service, or the parts to paste into one.

    \b
    Try:  mixproxy envoy-config --upstream 127.0.0.1:9080 --service reviews.default.svc.cluster.local -o envoy.yaml
          envoy --mode validate -c envoy.yaml
          envoy -c envoy.yaml
    """  # noqa: D301  click wants the character
    set_up_logging("none")
    sidecar = _sidecar(flags)
    if flags["only_fragments"]:
        text = FRAGMENTS_HEAD + to_yaml(fragments(sidecar))
    else:
        mixer = flags["mixer"]
        text = HEAD.format(mixer=mixer.path or f"{mixer.host}:{mixer.port}") + to_yaml(bootstrap(sidecar))
    for quota, headers in flags["charges"]:
        for header in headers:
            click.echo(
                f"note: a request without the header {header} is not charged to {quota}: Envoy drops the whole "
                "descriptor. A QuotaSpec charges it.",
                err=True,
            )
    if flags["output"] is None:
        sys.stdout.write(text)
    else:
        flags["output"].write_text(text, "utf-8")


def _sidecar(flags: dict[str, Any]) -> Sidecar:
    protocol, direction = Protocol(flags["protocol"]), Direction(flags["direction"])
    service = flags["service"]
    if flags["mixer_http"] is not None and protocol is Protocol.TCP:
        raise click.UsageError("--mixer-http checks requests; connections are checked over gRPC")
    if flags["charges"] and protocol is Protocol.TCP:
        raise click.UsageError("--rate-limit charges requests; charge connections with a QuotaSpec")
    if flags["otlp"] is not None and flags["zipkin"] is not None:
        raise click.UsageError("--otlp and --zipkin: Envoy sends its spans to one of them")
    files = [flags[name] for name in ("tls_cert", "tls_key", "tls_ca")]
    if any(files) and not all(files):
        raise click.UsageError("--tls-cert, --tls-key and --tls-ca belong together")
    tls = Tls(*map(str, files)) if all(files) else None  # type: ignore[arg-type]  # three texts
    request, response = _logged_headers(flags["config_store"])
    route = Route(
        "service",
        service=service,
        rate_limits=tuple(_descriptor(quota, headers) for quota, headers in flags["charges"]),
    )
    listener = Listener(
        protocol,
        flags["listen"],
        (route,),
        direction=direction,
        protocol=protocol,
        check=flags["check"],
        tls=tls,
        attributes=_attributes(flags, direction),
    )
    tracing = None
    for kind in TracingKind:
        if flags[kind] is not None:
            tracing = Tracing(kind, flags[kind], flags["sampling"])
    name = flags["node_cluster"] or service or "service"
    return Sidecar(
        node_id=flags["node_id"] or name,
        node_cluster=name,
        mixer=MixerAddress(flags["mixer"], flags["mixer_http"], _mixer_tls(flags)),
        listeners=(listener,),
        upstreams=(Upstream("service", flags["upstream"], flags["upstream_http2"], uid=flags["uid"]),),
        admin=flags["admin"],
        ext_authz=ExtAuthz(
            timeout_s=flags["timeout"].seconds,
            failure_mode_allow=flags["failure_mode"] == "open",
            retries=flags["retries"],
            body_bytes=flags["body_bytes"],
        ),
        rate_limit=RateLimit(flags["rate_limit_domain"]) if flags["charges"] else None,
        tracing=tracing,
        logged_request_headers=tuple(dict.fromkeys((*(h.lower() for h in flags["headers"]), *request))),
        logged_response_headers=response,
        edge=flags["edge"],
    )


def _mixer_tls(flags: dict[str, Any]) -> MixerTls | None:
    ca, certificate, key, name = (flags[f"mixer_{part}"] for part in ("ca", "cert", "key", "server_name"))
    for fault in Paths(certificate, key, ca, _MIXER_FLAGS).faults():
        raise click.UsageError(fault)
    if not ca:
        if certificate or name:
            raise click.UsageError(f"{'--mixer-cert' if certificate else '--mixer-server-name'} needs --mixer-ca")
        return None
    if flags["mixer"].path and (flags["mixer_http"] is None or flags["mixer_http"].path):
        raise click.UsageError("--mixer-ca has nothing to protect: a Unix socket stays cleartext")
    return MixerTls(ca, certificate, key, name)


def _attributes(flags: dict[str, Any], direction: Direction) -> dict[str, str]:
    end = "destination" if direction is Direction.INBOUND else "source"
    found = {}
    if flags["uid"]:
        found["context.reporter.uid"] = found[f"{end}.uid"] = flags["uid"]
        namespace = flags["uid"].rpartition("/")[2].partition(".")[2]
        if namespace:
            found[f"{end}.namespace"] = namespace
    return found | dict(flags["attributes"])


def _descriptor(quota: str, headers: Sequence[str]) -> dict[str, object]:
    actions: list[dict[str, object]] = [{"generic_key": {"descriptor_key": "quota", "descriptor_value": quota}}]
    for header in headers:
        key = f"request.headers[{header}]"
        actions.append({"request_headers": {"header_name": header, "descriptor_key": key}})
    return {"actions": actions}


def _logged_headers(store: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The request and response headers that a configuration reads, sorted."""
    if not store:
        return (), ()
    parts = urlsplit(store)
    path = Path(unquote(parts.netloc + parts.path))
    if parts.scheme != "fs" or not path.exists():
        raise click.BadParameter(f"{store!r}: expected fs:///path of a folder or file that exists")
    try:
        contents = asyncio.run(load_paths([path]))
        wanted = SnapshotBuilder(load_adapters()).build(contents).wanted.attributes
    except (StoreError, AdapterLoadError) as exc:
        raise click.UsageError(str(exc)) from exc
    for name in ("request.headers", "response.headers"):
        if wanted.get(name, ()) is None:
            click.echo(
                f"note: the configuration reads {name} as a whole; Envoy logs only headers that are listed, so reports "
                "without a check have those alone.",
                err=True,
            )
    return tuple(sorted(wanted.get("request.headers") or ())), tuple(sorted(wanted.get("response.headers") or ()))
