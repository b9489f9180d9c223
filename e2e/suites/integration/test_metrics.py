"""Integration: what operators read, on the port that users do not reach."""

import httpx

from e2e.suites.target import Target, name

# Runs inside the app's container: nobody but the monitoring may talk to that port over the network.
ASK = """
import json, urllib.request
answer = urllib.request.urlopen("http://127.0.0.1:9090/metrics", timeout=5)
print(json.dumps([answer.headers["Content-Type"], answer.read().decode()]))
"""


def test_metrics(http: httpx.Client, target: Target) -> None:
    """Prometheus finds the build that runs and the requests that were answered, at each replica."""
    http.get("/version")
    for pod in target.app_pods():
        kind, text = target.python(name(pod), target.pipeline.chart.release, ASK)
        assert kind.startswith("text/plain")
        lines = text.splitlines()
        about = next(line for line in lines if line.startswith("manual_app_build_info{"))
        assert f'build="{target.wanted.tag}"' in about
        assert f'environment="{target.environment.name}"' in about
        assert any(line.startswith("manual_app_http_requests_total{") for line in lines)
