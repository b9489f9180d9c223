"""Security: an environment reaches what it needs, and nothing of another environment."""

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
    """From this environment, nothing of another one is reached: no pod, no Service, no port of the node."""
    reached = asked.reach.result().others()
    assert not reached, f"reached: {', '.join(reached)}"


@pytest.mark.check("network-policy-here")
def test_pods_reach_what_they_need(asked: Asked) -> None:
    """The app reaches its database, its rates and DNS, and no other pod; its stand-in reaches nobody."""
    reached = asked.reach.result().here
    assert not reached, f"reached: {', '.join(reached)}"
