"""Flags of TLS: what makes no sense together, and what files cannot be used, is said at the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from mixer.cli.mixc import main as mixc
from mixer.cli.mixproxy import main as mixproxy
from mixer.cli.mixs import main as mixs
from tests.certificates import Authority

MIXS = (mixs, "server", "--config-store", "fs://{}/config")
RUN = (mixproxy, "run")
CHECK = (mixc, "check")
CONFIG = (mixproxy, "envoy-config", "--upstream", "127.0.0.1:1")
UNIX = "unix:///run/x.sock"
PAIR = ("--tls-cert", "{}/a.pem", "--tls-key", "{}/a.key")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = Authority(tmp_path)
    authority.issue("a", ["localhost"])
    authority.issue("b", ["localhost"])
    (tmp_path / "config").mkdir()
    return tmp_path


def run(folder: Path, command: tuple[Any, ...], *arguments: str) -> Result:
    main, *rest = command
    assert isinstance(main, click.Command)
    return CliRunner().invoke(main, [text.replace("{}", str(folder)) for text in (*rest, *arguments)])


USAGE: list[tuple[tuple[Any, ...], tuple[str, ...], str]] = [
    (MIXS, ("--tls-cert", "c"), "--tls-cert needs --tls-key"),
    (MIXS, ("--tls-key", "c"), "--tls-key needs --tls-cert"),
    (MIXS, ("--tls-client-ca", "c"), "--tls-client-ca needs --tls-cert and --tls-key"),
    (MIXS, (*PAIR, "--address", UNIX), "--tls-cert has nothing to protect: a Unix socket"),
    (RUN, ("--tls-cert", "c"), "--tls-cert needs --tls-key"),
    (RUN, ("--mixer-cert", "c", "--mixer-ca", "c"), "--mixer-cert needs --mixer-key"),
    (RUN, ("--mixer-key", "c", "--mixer-ca", "c"), "--mixer-key needs --mixer-cert"),
    (RUN, ("--mixer-cert", "c", "--mixer-key", "k"), "--mixer-cert needs --mixer-ca, or --mixer-tls"),
    (RUN, ("--mixer-server-name", "m"), "--mixer-server-name needs --mixer-ca, or --mixer-tls"),
    (RUN, ("--mixer-ca", "c", "--mixer-server-name", "spiffe://a/b"), "a DNS name or an IP address is verified"),
    (RUN, ("--mixer-ca", "c", "--mixer", UNIX), "--mixer-ca has nothing to protect"),
    (RUN, ("--mixer-tls", "--mixer", UNIX), "--mixer-tls has nothing to protect"),
    (CHECK, ("--tls-cert", "c"), "--tls-cert needs --tls-key"),
    (CHECK, ("--tls-cert", "c", "--tls-key", "k"), "--tls-cert needs --tls-ca, or --tls to trust"),
    (CHECK, ("--tls-server-name", "m"), "--tls-server-name needs --tls-ca, or --tls to trust"),
    (CHECK, ("--tls", "-m", UNIX), "--tls has nothing to protect"),
    (CONFIG, ("--mixer-cert", "c"), "--mixer-cert needs --mixer-key"),
    (CONFIG, ("--mixer-cert", "c", "--mixer-key", "k"), "--mixer-cert needs --mixer-ca"),
    (CONFIG, ("--mixer-server-name", "m"), "--mixer-server-name needs --mixer-ca"),
    (CONFIG, ("--mixer-ca", "c", "--mixer", UNIX), "--mixer-ca has nothing to protect"),
]


@pytest.mark.parametrize(("command", "arguments", "message"), USAGE, ids=[f"{c[1]} {' '.join(a)}" for c, a, _ in USAGE])
def test_flags_that_make_no_sense_together_are_refused(
    folder: Path, command: tuple[Any, ...], arguments: tuple[str, ...], message: str
) -> None:
    done = run(folder, command, *arguments)

    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


FILES: list[tuple[tuple[Any, ...], tuple[str, ...], str]] = [
    (MIXS, ("--tls-cert", "{}/no.pem", "--tls-key", "{}/a.key"), "--tls-cert {}/no.pem: No such file or directory"),
    (MIXS, ("--tls-cert", "{}/a.pem", "--tls-key", "{}/no.key"), "--tls-key {}/no.key: No such file or directory"),
    (MIXS, ("--tls-cert", "{}/a.key", "--tls-key", "{}/a.key"), "--tls-cert {}/a.key: holds no certificate in PEM"),
    (MIXS, ("--tls-cert", "{}/a.pem", "--tls-key", "{}/a.pem"), "--tls-key {}/a.pem: holds no private key in PEM"),
    (
        MIXS, ("--tls-cert", "{}/a.pem", "--tls-key", "{}/b.key"),
        "--tls-key {}/b.key: not the key of the certificate in --tls-cert {}/a.pem",
    ),
    (MIXS, (*PAIR, "--tls-client-ca", "{}/a.key"), "--tls-client-ca {}/a.key: holds no certificate in PEM"),
    (MIXS, ("--workers", "2", *PAIR, "--tls-client-ca", "{}/no.pem"), "--tls-client-ca {}/no.pem: No such file"),
    (RUN, ("--tls-cert", "{}/no.pem", "--tls-key", "{}/a.key"), "--tls-cert {}/no.pem: No such file or directory"),
    (RUN, ("--mixer-ca", "{}/no.pem"), "--mixer-ca {}/no.pem: No such file or directory"),
    (
        RUN, ("--mixer-ca", "{}/ca.pem", "--mixer-cert", "{}/a.pem", "--mixer-key", "{}/b.key"),
        "--mixer-key {}/b.key: not the key of the certificate in --mixer-cert {}/a.pem",
    ),
    (CHECK, ("--tls-ca", "{}/a.key"), "--tls-ca {}/a.key: holds no certificate in PEM"),
]  # fmt: skip


@pytest.mark.parametrize(("command", "arguments", "message"), FILES, ids=[f"{c[1]} {' '.join(a)}" for c, a, _ in FILES])
def test_files_that_cannot_be_used_end_the_start(
    folder: Path, command: tuple[Any, ...], arguments: tuple[str, ...], message: str
) -> None:
    done = run(folder, command, *arguments)

    assert done.exit_code == 1
    assert message.replace("{}", str(folder)) in " ".join(done.stderr.split())
    assert "PRIVATE" not in done.output


NAMES = [
    ((), {"san_type": "IP_ADDRESS", "matcher": {"exact": "127.0.0.1"}}, None),
    (("--mixer", "mixer.istio:9091"), {"san_type": "DNS", "matcher": {"exact": "mixer.istio"}}, "mixer.istio"),
    (("--mixer-server-name", "mixer"), {"san_type": "DNS", "matcher": {"exact": "mixer"}}, "mixer"),
    (("--mixer-server-name", "spiffe://a/b"), {"san_type": "URI", "matcher": {"exact": "spiffe://a/b"}}, None),
]


@pytest.mark.parametrize(("arguments", "name", "sni"), NAMES, ids=["address", "host", "name", "uri"])
def test_envoy_verifies_the_name_of_mixer(arguments: tuple[str, ...], name: dict[str, Any], sni: str | None) -> None:
    http = ("--mixer-http", "127.0.0.1:9093")
    done = run(Path(), CONFIG, "--mixer-ca", "ca.pem", "--mixer-cert", "c", "--mixer-key", "k", *http, *arguments)

    assert done.exit_code == 0, done.output
    clusters = {c["name"]: c for c in yaml.safe_load(done.stdout)["static_resources"]["clusters"]}
    alpns = {}
    for cluster in ("mixer_check", "mixer_report", "mixer_check_http"):
        tls = clusters[cluster]["transport_socket"]["typed_config"]
        context = tls["common_tls_context"]
        alpns[cluster] = context["alpn_protocols"]
        assert context["validation_context"]["trusted_ca"] == {"filename": "ca.pem"}
        assert context["tls_certificates"] == [
            {"certificate_chain": {"filename": "c"}, "private_key": {"filename": "k"}}
        ]
        if cluster != "mixer_check_http" or "--mixer-server-name" in arguments:
            assert context["validation_context"]["match_typed_subject_alt_names"] == [name]
            assert tls.get("sni") == sni
    assert alpns == {"mixer_check": ["h2"], "mixer_report": ["h2"], "mixer_check_http": ["http/1.1"]}
    assert "transport_socket" not in clusters["service"]
