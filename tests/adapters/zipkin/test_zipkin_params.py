"""What params are sound, and that secrets stay secret."""

import pytest

from mixer.adapters.testing import assert_handler_lifecycle, parse_params
from mixer.adapters.zipkin import INFO
from mixer.store.protojson import decode

URL = "http://zipkin:9411/api/v2/spans"


@pytest.mark.parametrize(
    "params",
    [
        pytest.param({"url": URL, "sampleProbability": 1.0}, id="scenario 1: 1.0"),
        pytest.param({"url": URL, "sampleProbability": 0.0}, id="scenario 1: 0.0"),
        pytest.param({"url": URL, "sample_probability": 0.5}, id="snake case"),
        pytest.param({}, id="disabled"),
        pytest.param({"url": URL, "sampling": "INCOMING", "headers": {"x-token": "a b"}}, id="incoming"),
    ],
)
async def test_sound_params_make_a_handler(params):
    await assert_handler_lifecycle(INFO, params)


@pytest.mark.parametrize(
    ("params", "faults"),
    [
        pytest.param(
            {"sampleProbability": 50.0}, [("sampleProbability", "between 0 and 1 inclusive")], id="scenario 1: 50.0"
        ),
        pytest.param(
            {"sampleProbability": -0.1}, [("sampleProbability", "between 0 and 1")], id="negative probability"
        ),
        pytest.param({"sampleProbability": "NaN"}, [("sampleProbability", "between 0 and 1")], id="no number"),
        pytest.param({"url": "zipkin:9411"}, [("url", "not a URL")], id="no scheme"),
        pytest.param({"url": "", "sampling": "INCOMING"}, [("url", "not a URL")], id="no url"),
        pytest.param({"url": "ftp://zipkin/"}, [("url", "not a URL")], id="another scheme"),
        pytest.param(
            {"batchSize": -1, "timeout": "-1s"}, [("batchSize", "negative"), ("timeout", "negative")], id="all"
        ),
        pytest.param({"headers": {"a b": "c"}}, [("headers", "not a header")], id="header name"),
        pytest.param({"headers": {"Content-Type": "c"}}, [("headers", "not a header")], id="header that is ours"),
        pytest.param({"headers": {"x": "a\nb"}}, [("headers", "printable")], id="header value"),
    ],
)
def test_faulty_params_are_told(params, faults):
    found = list(INFO.validate(parsed({"url": URL, **params}), ()))

    assert [(str(f.path[0]), text in f.message) for f, (_, text) in zip(found, faults, strict=True)] == [
        (path, True) for path, _ in faults
    ]


def parsed(params):
    model, faults = decode(INFO.params, params)
    assert not faults
    return model


def test_secrets_are_not_shown():
    model = parse_params(INFO, {"url": URL, "headers": {"authorization": "Bearer hunter2"}})

    assert "hunter2" not in f"{model!r} {model}"
    _, faults = decode(INFO.params, {"headers": {"authorization": ["hunter2"]}})
    assert faults
    assert "hunter2" not in str(faults)
    _, faults = decode(INFO.params, {"headers": {"authorization": "Bearer hunter2\n"}, "sampleProbability": 1.0})
    assert "hunter2" not in str(list(INFO.validate(parsed({"headers": {"authorization": "hunter2\n"}}), ())))
