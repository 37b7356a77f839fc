"""What params are sound, where they lead, and that secrets stay secret."""

import pytest

from mixer.adapters.otlp import INFO
from mixer.adapters.otlp.params import Target, target
from mixer.adapters.testing import assert_handler_lifecycle, build_handler, parse_params
from mixer.errors import AdapterError
from mixer.store.protojson import decode


@pytest.mark.parametrize(
    "params",
    [
        None,
        {"endpoint": "jaeger:4317", "headers": {"authorization": "Bearer x"}, "compression": "GZIP"},
        {"protocol": "HTTP", "compression": "GZIP"},
        {"endpoint": "https://collector:4317"},
        {"sampleProbability": 0, "sampling": "PROBABILITY"},
    ],
    ids=str,
)
async def test_sound_params_make_a_handler(params):
    await assert_handler_lifecycle(INFO, params)


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ({}, Target("localhost:4317", False)),
        ({"protocol": "HTTP"}, Target("http://localhost:4318/v1/traces", False)),
        ({"endpoint": "jaeger:4317"}, Target("jaeger:4317", False)),
        ({"endpoint": "[::1]:4317"}, Target("[::1]:4317", False)),
        ({"endpoint": "http://jaeger:4317"}, Target("jaeger:4317", False)),
        ({"endpoint": "https://jaeger:4317/"}, Target("jaeger:4317", True)),
        ({"protocol": "HTTP", "endpoint": "https://x"}, Target("https://x/v1/traces", True)),
        ({"protocol": "HTTP", "endpoint": "http://x:1/"}, Target("http://x:1/v1/traces", False)),
        ({"protocol": "HTTP", "endpoint": "http://x/otlp/v1/traces"}, Target("http://x/otlp/v1/traces", False)),
    ],
    ids=str,
)
def test_endpoint_leads_somewhere(params, where):
    assert target(parse_params(INFO, params)) == where


@pytest.mark.parametrize(
    ("params", "path", "message"),
    [
        ({"endpoint": "jaeger"}, "endpoint", "not a host and a port"),
        ({"endpoint": ":4317"}, "endpoint", "not a host and a port"),
        ({"endpoint": "jaeger:0"}, "endpoint", "not a host and a port"),
        ({"endpoint": "jaeger:70000"}, "endpoint", "not a host and a port"),
        ({"endpoint": "http://user:x@jaeger:4317"}, "endpoint", "not a host and a port"),
        ({"endpoint": "jaeger:4317/v1/traces"}, "endpoint", "not a host and a port"),
        ({"endpoint": "dns://jaeger:4317"}, "endpoint", "unknown scheme"),
        ({"endpoint": "jaeger:4318", "protocol": "HTTP"}, "endpoint", "not a URL"),
        ({"caCertificates": "/x.pem"}, "caCertificates", "does not speak TLS"),
        ({"endpoint": "https://x:1", "caCertificates": "a\0"}, "caCertificates", "NUL"),
        ({"headers": {"grpc-timeout": "1"}}, "headers", "keeps this name"),
        ({"headers": {"x-bin": "1"}}, "headers", "keeps this name"),
        ({"headers": {"x y": "1"}}, "headers", "not a header"),
        ({"sampleProbability": 1.5}, "sampleProbability", "between 0 and 1"),
        ({"bufferSize": -1}, "bufferSize", "negative"),
    ],
    ids=str,
)
def test_faulty_params_are_told(params, path, message):
    model, faults = decode(INFO.params, params)
    assert not faults
    (fault,) = INFO.validate(model, ())

    assert fault.path[0] == path
    assert message in fault.message


@pytest.mark.parametrize(
    "text", [None, "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_unusable_authorities_make_no_handler(tmp_path, text):
    path = tmp_path / "authorities.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AdapterError, match=r"caCertificates .*authorities\.pem"):
        await build_handler(INFO, {"endpoint": "https://x:1", "caCertificates": str(path)})


def test_secrets_are_not_shown():
    model = parse_params(INFO, {"headers": {"authorization": "Bearer hunter2"}})

    assert "hunter2" not in f"{model!r} {model}"
