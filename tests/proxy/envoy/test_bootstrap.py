"""Bootstraps are what a real Envoy accepts, say what was chosen, and survive as YAML."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from loadtest.certificates import Authority
from loadtest.envoy import envoy_binary
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
    Tracing,
    Upstream,
    bootstrap,
    fragments,
    to_yaml,
)
from proxy.envoy.bootstrap.model import TracingKind
from proxy.envoy.bootstrap.text import Note, plain

HERE = Endpoint("127.0.0.1", 15006)
APP = Upstream("app", Endpoint("127.0.0.1", 9080), uid="kubernetes://reviews-v1.ns2")
HTTP = Listener("http", HERE, (Route("app", service="reviews.ns2.svc.cluster.local"),))
TCP = Listener("tcp", Endpoint("127.0.0.1", 15007), (Route("app"),), protocol=Protocol.TCP, access_log_interval_s=2)
OUT = Listener(
    "http",
    Endpoint("127.0.0.1", 15001),
    (Route("app", ("y:9080", "y"), "y.ns.svc.cluster.local"), Route("app")),
    direction=Direction.OUTBOUND,
    check=False,
    forward="Zm9v%",
)
PLAIN = Sidecar("sidecar~127.0.0.1~a.b~c", "y", MixerAddress(Endpoint("127.0.0.1", 9091)), (HTTP,), (APP,))
LIMITS = ({"actions": [{"generic_key": {"descriptor_key": "quota", "descriptor_value": "rq"}}]},)

SIDECARS = {
    "plain": PLAIN,
    "all three listeners": replace(PLAIN, listeners=(HTTP, TCP, OUT), admin=Endpoint("127.0.0.1", 9901)),
    "unix sockets": replace(PLAIN, mixer=MixerAddress(Endpoint.parse("unix:///run/mixproxy.sock"))),
    "http form": replace(PLAIN, mixer=MixerAddress(Endpoint("127.0.0.1", 9091), Endpoint("localhost", 9092))),
    "everything on": replace(
        PLAIN,
        listeners=(replace(HTTP, routes=(Route("app", rate_limits=LIMITS),)), OUT),
        upstreams=(replace(APP, http2=True),),
        ext_authz=ExtAuthz(timeout_s=0.25, failure_mode_allow=True, retries=0, body_bytes=1024),
        rate_limit=RateLimit(failure_mode_deny=True),
        tracing=Tracing(TracingKind.OTLP, Endpoint("127.0.0.1", 4317), 12.5),
        logged_request_headers=("cookie", ":path"),
        edge=True,
    ),
    "zipkin": replace(PLAIN, tracing=Tracing(TracingKind.ZIPKIN, Endpoint("127.0.0.1", 9411))),
}


def validated(config: str, folder: Path) -> str:
    """What a real Envoy has to say against a configuration."""
    path = folder / "envoy.yaml"
    path.write_text(config)
    command = [str(envoy_binary()), "--mode", "validate", "-c", str(path), "-l", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("sidecar", SIDECARS.values(), ids=SIDECARS)
def test_envoy_accepts_the_bootstrap(sidecar: Sidecar, tmp_path: Path) -> None:
    assert validated(to_yaml(bootstrap(sidecar)), tmp_path) == ""


@pytest.mark.e2e
def test_envoy_accepts_identities_on_both_sides(tmp_path: Path) -> None:
    tls = Authority().issue(tmp_path / "identity", "spiffe://cluster.local/ns/ns2/sa/reviews")
    sidecar = replace(
        PLAIN,
        listeners=(replace(HTTP, tls=tls), replace(TCP, tls=replace(tls, require_peer=False))),
        upstreams=(replace(APP, http2=True, tls=tls, sni="reviews.ns2"),),
    )

    assert validated(to_yaml(bootstrap(sidecar)), tmp_path) == ""


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["", "mixer.example", "spiffe://cluster.local/ns/istio-system/sa/mixer"])
def test_envoy_accepts_mixer_over_tls(tmp_path: Path, name: str) -> None:
    identity = Authority().issue(tmp_path / "identity", "envoy.example")
    tls = MixerTls(identity.authority, identity.certificate, identity.key, name)
    mixer = MixerAddress(Endpoint("127.0.0.1", 9091), Endpoint("localhost", 9092), tls)

    assert validated(to_yaml(bootstrap(replace(PLAIN, mixer=mixer))), tmp_path) == ""
    bare = replace(mixer, tls=MixerTls(identity.authority, server_name=name))
    assert validated(to_yaml(bootstrap(replace(PLAIN, mixer=bare))), tmp_path) == ""


def test_sockets_are_called_in_cleartext() -> None:
    mixer = MixerAddress(Endpoint(path="/run/m.sock"), Endpoint("localhost", 9092), MixerTls("ca.pem"))
    clusters = plain(bootstrap(replace(PLAIN, mixer=mixer)))["static_resources"]["clusters"]

    assert [c["name"] for c in clusters if "transport_socket" in c] == ["mixer_check_http"]


@pytest.mark.parametrize("edge", [False, True])
def test_what_a_client_tells_of_itself_is_taken_away_before_the_check_only_at_an_edge(edge: bool) -> None:
    config = plain(bootstrap(replace(PLAIN, listeners=(HTTP, OUT), edge=edge)))

    inbound, outbound = (
        each["filter_chains"][0]["filters"][0]["typed_config"] for each in config["static_resources"]["listeners"]
    )
    taken = [each["typed_config"]["mutations"] for each in inbound.get("early_header_mutation_extensions", [])]
    assert taken == ([[{"remove": "x-istio-attributes"}]] if edge else [])
    assert "early_header_mutation_extensions" not in outbound


@pytest.mark.e2e
def test_validation_finds_faults(tmp_path: Path) -> None:
    """Or the tests above would say nothing."""
    sidecar = replace(PLAIN, listeners=(replace(HTTP, routes=(Route("nowhere"),)),))

    assert "nowhere" in validated(to_yaml(bootstrap(sidecar)), tmp_path)


@pytest.mark.e2e
@pytest.mark.parametrize("sidecar", [SIDECARS["all three listeners"], SIDECARS["everything on"]], ids=["three", "all"])
def test_fragments_make_a_configuration_when_pasted(sidecar: Sidecar, tmp_path: Path) -> None:
    """Into a bootstrap that knows nothing of Mixer."""
    parts = plain(fragments(sidecar))
    whole = plain(bootstrap(sidecar))
    for listener in whole["static_resources"]["listeners"]:
        for each in listener["filter_chains"][0]["filters"]:
            each["typed_config"].pop("access_log", None)
            if "http_filters" in each["typed_config"]:
                each["typed_config"]["http_filters"] = parts[f"{listener['name']} http_filters"]
                log = parts[f"{listener['name']} access_log of the connection manager"]
            else:
                log = parts.get(f"{listener['name']} access_log of tcp_proxy", [])
            if log and not each["name"].endswith("ext_authz"):
                each["typed_config"]["access_log"] = log
    names = {upstream.name for upstream in sidecar.upstreams}
    whole["static_resources"]["clusters"] = [
        *(c for c in whole["static_resources"]["clusters"] if c["name"] in names),
        *parts["clusters"],
    ]

    assert validated(to_yaml(whole), tmp_path) == ""


def test_bootstrap_explains_itself() -> None:
    text = to_yaml(bootstrap(PLAIN))

    assert "# Requests get 503 while nobody answers; True lets them pass.\n" in text
    assert yaml.safe_load(text) == plain(bootstrap(PLAIN))
    assert yaml.safe_load(text)["node"] == {"id": "sidecar~127.0.0.1~a.b~c", "cluster": "y"}


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:80", Endpoint("127.0.0.1", 80)),
        ("tcp://mixer:9091", Endpoint("mixer", 9091)),
        ("[::1]:65535", Endpoint("::1", 65535)),
        ("unix:///run/x.sock", Endpoint(path="/run/x.sock")),
        ("unix:/run/x.sock", Endpoint(path="/run/x.sock")),
    ],
)
def test_endpoint_is_read(text: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(text) == endpoint


@pytest.mark.parametrize(
    "text", ["", "mixer", ":80", "mixer:", "mixer:x", "mixer:0", "mixer:65536", "mixer:²", "unix://"]
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Endpoint.parse(text)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
keys = st.text(min_size=1, max_size=8)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(keys, inner, max_size=3)
        | st.builds(Note, st.text(st.characters(categories=["L", "Zs"]), max_size=150), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(keys, trees, min_size=1, max_size=4))
def test_any_data_survives_as_yaml(data: dict[str, Any]) -> None:
    text = to_yaml(data)

    assert yaml.safe_load(text) == plain(data)
