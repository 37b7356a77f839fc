"""Everything of the book shop on one machine: Mixer, mixproxy, the services and their Envoys, started and ended."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from loadtest.demo.configuration import write_client, write_mixer
from loadtest.demo.programs import DemoError, Program, tail
from loadtest.demo.sidecars import Plan, Ports, envoy_config, issue_identities
from loadtest.demo.workloads import GATEWAY, Workload, read_workloads
from loadtest.envoy import EnvoyServer
from loadtest.osinfo import tree_usage
from loadtest.servers import ServerError
from proxy.envoy.bootstrap import Endpoint

_STARTERS: Final = 4
_PORTS: Final = range(20_000, 32_000)
_TRIES: Final = 100
_USUAL_GATEWAY: Final = 9080
_USUAL: Final = {"port": 9091, "monitoring-port": 15014, "metrics-port": 42422, "console-port": 9876}
_USUAL_PROXY: Final = {"port": 9092, "monitoring-port": 15090}

Started = Callable[[str], None]


@dataclass
class Machine:
    """What runs.

    Attributes:
        folder: With all configurations and logs.
        plan: Who is where.
        programs: ``mixs``, ``mixproxy`` and ``services``.
        envoys: By the name of their workload.
    """

    folder: Path
    plan: Plan
    programs: dict[str, Program] = field(default_factory=dict)
    envoys: dict[str, EnvoyServer] = field(default_factory=dict)

    @property
    def gateway(self) -> str:
        """Where visitors go."""
        return f"http://127.0.0.1:{self.plan.ports[GATEWAY].outbound}"

    def why_broken(self) -> str:
        """What there is to say of the parts that have ended; empty while all run."""
        told = [told for program in self.programs.values() if (told := program.why_ended())]
        for name, envoy in self.envoys.items():
            if (code := envoy.process.poll()) is not None:
                told.append(f"the Envoy of {name} has ended with {code}:\n{envoy.log[-2000:]}")
        return "\n".join(told)

    def logs(self) -> str:
        """The end of each program's log."""
        return "\n".join(f"--- {each.name}\n{tail(each.log, 8)}" for each in self.programs.values())

    def memory(self) -> dict[str, int]:
        """Resident bytes: of Mixer, mixproxy, the services, and all Envoys together."""
        used = {name: tree_usage(each.pid).rss_bytes for name, each in self.programs.items()}
        return {**used, "Envoys": sum(each.usage().rss_bytes for each in self.envoys.values())}


@contextmanager
def running(folder: Path, started: Started, *, keep: bool = False) -> Iterator[Machine]:
    """Start everything; all of it has ended when the context has.

    Args:
        folder: For configurations and logs.
        started: Is told the name of each part that serves.
        keep: Take the ports that the documentation speaks of where they are free, so that people find them.

    Raises:
        DemoError: A part does not start.
    """
    workloads = read_workloads()
    free = iter(_free_block(5 * len(workloads) + len(_USUAL) + len(_USUAL_PROXY)))
    ports = _choose_ports(workloads, free, keep=keep)
    own, proxy = (_program_ports(usual, free, keep=keep) for usual in (_USUAL, _USUAL_PROXY))
    plan = Plan(
        workloads,
        ports,
        Endpoint("127.0.0.1", proxy["port"]),
        Endpoint("127.0.0.1", own["port"]),
        issue_identities(workloads, folder / "identities"),
    )
    machine = Machine(folder, plan)
    # Each thread starts some of the parts and lives until they have ended: their leashes are held by it.
    with ThreadPoolExecutor(_STARTERS) as starters:
        begun: list[Future[str]] = []
        try:
            begun += _start(machine, starters, own, proxy)
            for each in as_completed(begun):
                started(each.result())
            yield machine
        finally:
            _stop(machine, begun)


def _free_block(count: int) -> range:
    """Ports in a row that nobody uses, below those that the system hands out: so they stay free until they are used.

    Raises:
        DemoError: There are none.
    """
    for _ in range(_TRIES):
        first = random.randrange(_PORTS.start, _PORTS.stop - count)
        if all(_is_free(port) for port in range(first, first + count)):
            return range(first, first + count)
    raise DemoError(f"no {count} free ports in a row from {_PORTS.start} to {_PORTS.stop}")


def _choose_ports(workloads: Mapping[str, Workload], free: Iterator[int], *, keep: bool) -> dict[str, Ports]:
    chosen = {name: Ports(*(next(free) for _ in range(5))) for name in workloads}
    if keep:
        gateway = chosen[GATEWAY]
        chosen[GATEWAY] = replace(gateway, outbound=_usual(_USUAL_GATEWAY, gateway.outbound))
    return chosen


def _program_ports(usual: Mapping[str, int], free: Iterator[int], *, keep: bool) -> dict[str, int]:
    return {name: _usual(port, next(free)) if keep else next(free) for name, port in usual.items()}


def _usual(wanted: int, other: int) -> int:
    return wanted if _is_free(wanted) else other


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _start(
    machine: Machine, starters: ThreadPoolExecutor, own: dict[str, int], proxy: dict[str, int]
) -> Iterator[Future[str]]:
    folder, plan = machine.folder, machine.plan
    settings, specs = write_client(folder)
    services = folder / "services.json"
    services.write_text(json.dumps(plan.for_services()), "utf-8")
    commands = {
        "mixs": ["mixer.cli.mixs", "server", "--config-store", f"fs://{write_mixer(folder)}", *_flags(own)],
        "mixproxy": [
            *("mixer.cli.mixproxy", "run", "--mixer", f"127.0.0.1:{own['port']}", *_flags(proxy)),
            *("--client-config", str(settings), "--config-store", f"fs://{specs}"),
        ],
        "services": ["loadtest.demo.services", str(services)],
    }

    def start_program(name: str) -> str:
        machine.programs[name] = Program(name, commands[name], folder)
        return name

    def start_envoy(name: str) -> str:
        where = folder / "envoys" / name
        port = plan.ports[name].admin
        try:
            machine.envoys[name] = EnvoyServer(None, where, config=envoy_config(plan, name), admin_port=port)
        except ServerError as exc:
            raise DemoError(f"the Envoy of {name} did not start: {exc}") from exc
        return f"Envoy of {name}"

    yield from (starters.submit(start_program, name) for name in commands)
    yield from (starters.submit(start_envoy, name) for name in plan.workloads)


def _flags(ports: dict[str, int]) -> list[str]:
    return [part for name, port in ports.items() for part in (f"--{name}", str(port))]


def _stop(machine: Machine, begun: Sequence[Future[str]]) -> None:
    """End every part, the callers before the called. What has not begun to start is left; what has, is waited for."""
    for each in begun:
        each.cancel()
    wait(begun)
    for envoy in machine.envoys.values():
        envoy.process.terminate()  # all of them at once: stopping one by one would wait for each
    for envoy in machine.envoys.values():
        envoy.stop()
    for name in ("services", "mixproxy", "mixs"):
        if program := machine.programs.get(name):
            program.stop()
