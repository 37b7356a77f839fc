"""Mixer's metrics of itself, on a registry of their own. Names: spec runtime 7.6, where they make sense.

Gauges that describe the present configuration are named for what they are, without the original's
misleading ``_total``.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from mixer import tallies

_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_COUNTS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 15, 20)


class RuntimeMetrics:
    """Every metric of the runtime; one object for each process, or for each test."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()

        def gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(name, text, labels, registry=self.registry)

        def counter(name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        self.config_revision = gauge("mixer_config_revision", "Revision of the configuration that serves.")
        self.config_reloads = counter("mixer_config_reloads", "Configurations published since the start.")
        self.config_build_seconds = Histogram(
            "mixer_config_build_duration_seconds",
            "Time to build and publish a configuration.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.config_resources = gauge("mixer_config_resources", "Resources in the configuration.", ("kind",))
        self.config_attributes = gauge("mixer_config_attributes", "Attributes in the vocabulary.")
        self.config_problems = gauge("mixer_config_problems", "Problems of the configuration.", ("kind", "severity"))
        self.config_stale = gauge("mixer_config_stale_resources", "Resources served in their last good version.")
        self.handlers = gauge("mixer_handler_handlers", "Handlers that run.")
        self.handlers_new = counter("mixer_handler_new_handlers", "Handlers built.")
        self.handlers_reused = counter("mixer_handler_reused_handlers", "Handlers kept over a configuration change.")
        self.handlers_closed = counter("mixer_handler_closed_handlers", "Handlers closed.")
        self.build_failures = counter("mixer_handler_handler_build_failures", "Handlers that could not be built.")
        self.close_failures = counter("mixer_handler_handler_close_failures", "Handlers whose close failed.")
        self.handlers_stale = gauge(
            "mixer_handler_stale", "1 when a handler runs on because its successor failed.", ("handler",)
        )
        self.tasks = gauge("mixer_handler_tasks", "Background tasks of handlers.", ("handler",))
        self.task_crashes = counter(
            "mixer_handler_task_crashes", "Background tasks of handlers that crashed.", ("handler",)
        )
        labels = ("meshFunction", "handler", "adapter", "error")
        self.dispatches = tallies.Counter(
            "mixer_runtime_dispatches", "Calls of handlers.", labels, registry=self.registry
        )
        self.dispatch_seconds = tallies.Histogram(
            "mixer_runtime_dispatch_duration_seconds",
            "Duration of calls of handlers.",
            labels,
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.instances_per_request = tallies.Histogram(
            "mixer_dispatcher_instances_per_request",
            "Instances built for a Check, or for a whole Report.",
            buckets=_COUNTS,
            registry=self.registry,
        )
        self.match_errors = counter(
            "mixer_dispatcher_match_errors", "Matches that could not be evaluated, hence did not hold."
        )
        self.instance_errors = counter(
            "mixer_dispatcher_instance_errors", "Instances that could not be built.", ("instance",)
        )
        self.unknown_words = counter("mixer_api_unknown_words", "Uses of global words that only the caller knows.")
        self.malformed_records = counter("mixer_api_malformed_records", "Attribute sets dropped as malformed.")
        self.records = counter("mixer_api_records", "Attribute sets reported.")
        self.repeated_reports = counter(
            "mixer_api_repeated_reports",
            "Reports that had been taken before, sent again by a proxy that missed the answer.",
        )
        self.rpcs = tallies.Counter(
            "grpc_io_server_completed_rpcs",
            "RPCs answered.",
            ("grpc_server_method", "grpc_server_status"),
            registry=self.registry,
        )
        self.rpc_seconds = tallies.Histogram(
            "grpc_io_server_latency_seconds",
            "Time from an RPC's arrival to its answer.",
            ("grpc_server_method",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.build = gauge("istio_build", "Constant 1, labelled with the version.", ("component", "tag"))
