"""What Prometheus reads at /metrics: one registry per application, names that begin with manual_app_.

It reads on a port of its own, which users do not reach: how much is sold is not everybody's.
"""

from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import start_wsgi_server
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from manual_app.settings import Build

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Metrics:
    """The service's counters. Labels come from fixed sets, so that no client can grow them."""

    def __init__(self, build: Build) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        Gauge(
            "manual_app_build_info",
            "1, labelled with the build that answers.",
            ["version", "build", "revision", "environment"],
            registry=self.registry,
        ).labels(build.version, build.build, build.revision, build.environment).set(1)
        self.requests = Counter(
            "manual_app_http_requests",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "manual_app_http_request_seconds",
            "Seconds until the answer was complete.",
            ["route"],
            registry=self.registry,
        )
        self.orders = Counter("manual_app_orders", "Orders stored.", ["currency"], registry=self.registry)
        self.rates = Counter(
            "manual_app_rates_requests",
            "Questions to the rates API: ok, timeout, unreachable, status or nonsense.",
            ["outcome"],
            registry=self.registry,
        )
        self.database_errors = Counter(
            "manual_app_database_errors", "Pieces of work the database did not do.", registry=self.registry
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self.requests.labels(method if method in _METHODS else "other", route, status).inc()
        self.seconds.labels(route).observe(seconds)

    def serve(self, port: int, host: str = "0.0.0.0") -> WSGIServer:  # noqa: S104
        """Answer everything in Prometheus' text format on `port`, in a thread; OSError when that is taken."""
        made, _ = start_wsgi_server(port, host, self.registry)
        return made
