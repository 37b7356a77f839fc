"""What stdio's tests share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from mixer.adapters.base import InstanceInfo
from mixer.adapters.stdio import INFO, StdioHandler
from mixer.adapters.testing import RecordingEnv, parse_params
from mixer.attributes import ValueType
from mixer.templates import LOGENTRY, METRIC


class Bench:
    """Builds handlers and reads what they wrote to the standard streams."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.recording = RecordingEnv()
        self._capsys = capsys

    async def build(self, instances: Sequence[InstanceInfo] = (), **params: Any) -> StdioHandler:
        handler = await INFO.build(parse_params(INFO, params, instances), instances, self.recording.env())
        assert isinstance(handler, StdioHandler)
        return handler

    def out(self) -> list[str]:
        """The lines on standard output since the last call."""
        return self._capsys.readouterr().out.splitlines()

    def objects(self) -> list[dict[str, Any]]:
        """The same, as JSON."""
        return [json.loads(line) for line in self.out()]


@pytest.fixture
def bench(capsys):
    return Bench(capsys)


def log_info(name: str, variables: Mapping[str, ValueType]) -> InstanceInfo:
    return InstanceInfo(name, LOGENTRY, {"variables": variables})


def metric_info(name: str, value: ValueType, dimensions: Mapping[str, ValueType]) -> InstanceInfo:
    return InstanceInfo(name, METRIC, {"value": value, "dimensions": dimensions})


@pytest.fixture
def infos():
    """Makers of instance infos: for log entries and for metrics."""
    return log_info, metric_info
