"""Who does what in a cluster: the names that policies, RBAC and the local platform agree on.

People are groups, which the team's identity provider knows; machines are ServiceAccounts in a namespace of their own.
"""

DEVELOPERS = "delivery:developers"  # look everywhere, write in the first environment
EMERGENCY = "delivery:emergency"  # may open a guarded namespace for themselves, with a reason
PLATFORM = "delivery:platform"  # keep Argo CD, the namespaces and the policies

DEPLOYER, TESTER = "deployer", "tester"  # ServiceAccounts, and the contexts that lead to them

# Annotations of a namespace: the emergency that is on, and all those that are over, one a line.
IN_EMERGENCY, EMERGENCIES = "delivery/emergency", "delivery/emergencies"


def home(app: str) -> str:
    """The namespace of the ServiceAccounts."""
    return f"{app}-delivery"


def account(namespace: str, name: str) -> str:
    """The user name of a ServiceAccount."""
    return f"system:serviceaccount:{namespace}:{name}"


def deployer(app: str) -> str:
    """The user name of whoever runs the verbs."""
    return account(home(app), DEPLOYER)


def tester(app: str) -> str:
    """The user name of whoever runs the suites."""
    return account(home(app), TESTER)
