"""The exchange-rates API's stand-in, and the faults that it can be asked for."""

import json
from typing import Any

from e2e.suites.outcome import unknown
from e2e.suites.target import Target, name

# Runs inside the stand-in's own container: over the network, nobody but the app may talk to it.
ASK = """
import sys, urllib.request
method, path, body = sys.argv[1:]
data = body.encode() or None
request = urllib.request.Request("http://127.0.0.1:8080" + path, data=data, method=method)
print(urllib.request.urlopen(request, timeout=5).read().decode())
"""


class StandIn:
    """The stand-in of one environment. Its mode stays until it is mended, whoever asked for it."""

    def __init__(self, target: Target) -> None:
        pods = target.pods("rates")
        if not pods:
            unknown(f"{target.namespace} has no stand-in for the rates API, so no fault can be asked of it")
        self._target = target
        self._pod = name(pods[0])
        if "--faults" not in pods[0]["spec"]["containers"][0]["command"]:
            unknown(f"the stand-in of {target.namespace} takes no faults (rates.faults in its values)")
        self.mode = "unknown"

    def rate(self, currency: str) -> tuple[str, str]:
        """The rate of one euro, as the API writes it, and the day for which it says so."""
        answer = self._ask("GET", f"/v1/latest?base=EUR&symbols={currency}")
        return str(answer["rates"][currency]), answer["date"]

    def fault(self, mode: str, seconds: float = 0) -> None:
        """Make it misbehave (slow, error, nonsense) until it is mended."""
        self.mode = "unknown"  # until it answers
        said = self._ask("PUT", "/_fault", json.dumps({"mode": mode, "seconds": seconds}))
        assert said["mode"] == mode, f"the stand-in did not take the fault: {said}"
        self.mode = mode

    def mend(self) -> None:
        """Make it behave."""
        self.fault("ok")

    def _ask(self, method: str, path: str, body: str = "") -> Any:
        return self._target.python(self._pod, "rates", ASK, method, path, body)
