"""The counters of the service, as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest

from grefine_rt.engine.device_memory import CudaDevice, installed
from grefine_rt.errors import GRefineError
from grefine_rt.service.queue import WorkQueue
from grefine_rt.system_memory import resident_memory

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters of one service, in a registry of its own: two services in a process do not mix."""

    def __init__(self, queue: WorkQueue, device: str, replica: str = "") -> None:
        """device: whose memory is told, "cpu" or "cuda:N". replica: a label of all samples, "" for none, so that
        counters of replicas that answer at one address in turn are told apart."""
        self._replica = replica
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "grefine_requests", "Answers by path and status.", ("path", "status"), registry=self._registry
        )
        self._refusals = Counter(
            "grefine_refusals", "Requests without a result, by reason.", ("reason",), registry=self._registry
        )
        self._latency = Histogram(
            "grefine_request_seconds",
            "From the first byte of a request to the end of its answer.",
            ("path",),
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._parts = Histogram(
            "grefine_part_seconds",
            "Parts of the work, as RefineResult.timings names them, and `assess` of an assessment.",
            ("part",),
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._together = Histogram(
            "grefine_assessed_together",
            "Assessments in one run of the graphs.",
            registry=self._registry,
            buckets=(1, 2, 4, 8, 16),
        )
        self._gauge("grefine_queue_waiting", "Accepted requests that wait.", lambda: queue.waiting)
        self._gauge("grefine_queue_running", "Requests that a worker runs.", lambda: queue.running)
        self._gauge("grefine_resident_bytes", "Memory of the process.", lambda: resident_memory() or 0)
        if device.startswith("cuda") and installed():
            with suppress(GRefineError):
                gpu = CudaDevice(device)
                self._gauge(
                    "grefine_device_free_bytes", "Free memory of the GPU, for all.", lambda: gpu.free_memory
                )

    def answered(self, path: str, status: int, seconds: float) -> None:
        self._requests.labels(path, str(status)).inc()
        self._latency.labels(path).observe(seconds)

    def refused(self, reason: str) -> None:
        self._refusals.labels(reason).inc()

    def timed(self, timings_ms: Mapping[str, float]) -> None:
        """The parts of a call, in milliseconds."""
        for part, milliseconds in timings_ms.items():
            self._parts.labels(part).observe(milliseconds / 1000)

    def together(self, count: int) -> None:
        """Assessments that one run made."""
        self._together.observe(count)

    def text(self) -> bytes:
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """The metrics with the replica's label, as a registry gives them."""
        for metric in self._registry.collect():
            if self._replica:
                metric.samples = [
                    sample._replace(labels={**sample.labels, "replica": self._replica})
                    for sample in metric.samples
                ]
            yield metric

    def _gauge(self, name: str, words: str, value: Callable[[], float]) -> None:
        Gauge(name, words, registry=self._registry).set_function(value)
