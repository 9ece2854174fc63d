"""Metrics of a server for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

__all__ = ["METRICS_TYPE", "ServerMetrics"]

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class ServerMetrics:
    """Counts and times of requests, and what is going on.

    Args:
        gauges: Functions that return a present value, by the name of its metric and its description.
    """

    def __init__(self, gauges: dict[tuple[str, str], Callable[[], float]]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "kerastag_requests", "Requests, by route and status.", ("route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "kerastag_request_seconds", "Time of requests.", ("route",), buckets=_BUCKETS, registry=self._registry
        )
        self._audio_seconds = Counter(
            "kerastag_audio_seconds", "Duration of tagged audio.", ("model",), registry=self._registry
        )
        for (name, description), function in gauges.items():
            Gauge(name, description, registry=self._registry).set_function(function)

    def add_request(self, route: str, status: int, seconds: float) -> None:
        """Count a request, by the pattern of its path."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def add_audio(self, model: str, seconds: float) -> None:
        """Count tagged audio."""
        self._audio_seconds.labels(model).inc(seconds)

    def format(self) -> bytes:
        """Format the metrics as text."""
        return generate_latest(self._registry)
