"""Instances, handlers, and their books. The test against a real agent is opt-in."""

from __future__ import annotations

import inspect
import os

import pytest

from mixer.adapters.opa import INFO
from mixer.adapters.testing import FakeClock, RecordingEnv, build_handler
from mixer.templates.authorization import Action, AuthorizationInstance, Subject

collect_ignore = [] if os.environ.get("MIXER_OPA") else ["test_opa_real_agent.py"]


def request_of(user="", method="", *, groups="", service="", path="", subject=None, action=None):
    return AuthorizationInstance(
        "authz", Subject(user, groups, subject or {}), Action("", service, method, path, action or {})
    )


class Bench:
    def __init__(self):
        self.clock = FakeClock()
        self.recording = RecordingEnv(self.clock)
        self.handlers = []

    async def build(self, **params):
        handler = await build_handler(INFO, params, env=self.recording)
        self.handlers.append(handler)
        return handler

    async def check(self, handler, *args, instance=None, **kwargs):
        """The code and message of an answer, which is never to be cached."""
        result = handler.handle_check(instance or request_of(*args, **kwargs))
        if inspect.isawaitable(result):
            result = await result
        assert (result.valid_duration, result.valid_use_count) == (0, 0)
        return result.status.code, result.status.message

    def outcomes(self):
        return {
            sample.labels["outcome"]: int(sample.value)
            for family in self.recording.metrics.collect()
            for sample in family.samples
            if sample.name == "mixer_opa_checks_total" and sample.value
        }

    def sample(self, name):
        return self.recording.metrics.get_sample_value(name, {"handler": "test.istio-system"})


@pytest.fixture
async def bench():
    bench = Bench()
    yield bench
    for handler in bench.handlers:
        await handler.aclose()
    assert bench.recording.running == 0
    await bench.recording.aclose()


@pytest.fixture(scope="session")
def request_instance():
    return request_of
