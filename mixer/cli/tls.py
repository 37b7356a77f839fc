"""The flags of TLS, which several commands share, and what can be wrong with their combination."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from mixer.tls import ClientTls, Names, ServerTls
from mixer.tls.files import Paths

SERVER_FLAGS: Final = Names("--tls-cert", "--tls-key", "--tls-client-ca")

Command = TypeVar("Command", bound=Callable[..., Any])


def server_tls_options(command: Command) -> Command:
    """``--tls-cert``, ``--tls-key`` and ``--tls-client-ca`` of a command that listens."""
    options = (
        click.option(
            "--tls-cert",
            default="",
            metavar="FILE",
            help="Certificate chain in PEM: the gRPC port and --ext-authz-http-port speak TLS (1.2 or newer). Unix "
            "sockets and the pages stay cleartext. A renewed file is served without a restart.",
        ),
        click.option("--tls-key", default="", metavar="FILE", help="Its private key in PEM, without a passphrase."),
        click.option(
            "--tls-client-ca",
            default="",
            metavar="FILE",
            help="Authorities in PEM: callers must show a certificate of one of them (mutual TLS).",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def server_tls(flags: Mapping[str, Any]) -> ServerTls | None:
    """What `server_tls_options` say; None for cleartext.

    Raises:
        click.UsageError: They make no sense together, or with ``--address``.
    """
    certificate, key, authorities = (flags[name] for name in ("tls_cert", "tls_key", "tls_client_ca"))
    if not (certificate or key or authorities):
        return None
    for fault in Paths(certificate, key, authorities, SERVER_FLAGS).faults():
        raise click.UsageError(fault)
    if not certificate:
        raise click.UsageError("--tls-client-ca needs --tls-cert and --tls-key")
    if flags["address"].startswith("unix:") and flags["ext_authz_http_port"] is None:
        raise click.UsageError("--tls-cert has nothing to protect: a Unix socket of --address stays cleartext")
    return ServerTls(certificate, key, authorities, SERVER_FLAGS)


def client_tls_options(prefix: str, to: str = "Mixer") -> Callable[[Command], Command]:
    """``--PREFIX-tls``, ``-ca``, ``-cert``, ``-key``, ``-server-name`` of a command that calls; ``tls`` is no prefix."""
    flag = _flag_names(prefix)
    system = f"alone: trust the authorities of this machine. Implied by {flag('ca')}."

    def add(command: Command) -> Command:
        options = (
            click.option(flag("tls"), "client_tls", is_flag=True, help=f"Call {to} over TLS; {system}"),
            click.option(
                flag("ca"), "client_ca", default="", metavar="FILE",
                help=f"Authorities in PEM that {to} must be known by; calls go over TLS.",
            ),
            click.option(
                flag("cert"), "client_cert", default="", metavar="FILE",
                help=f"Certificate chain in PEM to show to {to} (mutual TLS). A renewed file is used for the next call.",
            ),
            click.option(flag("key"), "client_key", default="", metavar="FILE", help="Its private key in PEM."),
            click.option(
                flag("server-name"), "client_server_name", default="", metavar="NAME",
                help=f"DNS name or IP address that {to}'s certificate must have; by default that of the address.",
            ),
        )  # fmt: skip
        for option in reversed(options):
            command = option(command)
        return command

    return add


def _flag_names(prefix: str) -> Callable[[str], str]:
    def flag(name: str) -> str:
        return "--tls" if prefix == "tls" and name == "tls" else f"--{prefix}-{name}"

    return flag


def client_tls(prefix: str, flags: Mapping[str, Any], *addresses: str) -> ClientTls | None:
    """What `client_tls_options` say; None for cleartext.

    Raises:
        click.UsageError: They make no sense together, or with the addresses.
    """
    flag = _flag_names(prefix)
    ca, certificate, key, name = (flags[f"client_{part}"] for part in ("ca", "cert", "key", "server_name"))
    names = Names(flag("cert"), flag("key"), flag("ca"))
    for fault in Paths(certificate, key, ca, names).faults():
        raise click.UsageError(fault)
    if not flags["client_tls"] and not ca:
        for value, part in ((certificate, "cert"), (name, "server-name")):
            if value:
                raise click.UsageError(
                    f"{flag(part)} needs {flag('ca')}, or {flag('tls')} to trust this machine's authorities"
                )
        return None
    if "://" in name:
        raise click.UsageError(f"{flag('server-name')} {name}: a DNS name or an IP address is verified, not a URI")
    if all(address.startswith("unix:") for address in addresses if address):
        raise click.UsageError(f"{flag('ca' if ca else 'tls')} has nothing to protect: a Unix socket stays cleartext")
    return ClientTls(ca, certificate, key, name, names)
