"""Security: one environment cannot reach into another, where the cluster's network enforces policies."""

import pytest

from e2e.suites.security.asked import Asked
from e2e.suites.target import Target


@pytest.mark.check("network-policy-exists")
def test_policies_exist(target: Target) -> None:
    """Nothing goes in or out of the environment that no policy names."""
    specs = [policy["spec"] for policy in target.get("networkpolicies")]
    closed = [one for one in specs if not any(one.get(key) for key in ("podSelector", "ingress", "egress"))]
    assert {kind for one in closed for kind in one["policyTypes"]} == {"Ingress", "Egress"}


@pytest.mark.check("network-policy")
def test_policies_are_enforced(asked: Asked) -> None:
    """From this environment, no pod of another one can be reached: neither the service nor its database."""
    reached = asked.reached.result()
    assert not reached, f"reached: {', '.join(reached)}"
