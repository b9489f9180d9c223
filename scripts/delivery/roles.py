"""Who does what in a cluster: the names that policies, RBAC and the local platform agree on.

People are groups, which the team's identity provider knows; machines are ServiceAccounts in a namespace of their own.
"""

DEVELOPERS = "delivery:developers"  # look everywhere, write in the first environment
EMERGENCY = "delivery:emergency"  # may open a guarded namespace for themselves, with a reason
PLATFORM = "delivery:platform"  # keep Argo CD, the namespaces and the policies

# The API groups whose kinds Kubernetes' own role `view` shows, all but Secrets.
VIEWED = ("", "apps", "autoscaling", "batch", "networking.k8s.io", "policy")

DEPLOYER, TESTER = "deployer", "tester"  # ServiceAccounts, and the contexts that lead to them

KEYS = "public-keys"  # the ConfigMap in their namespace: whose statements and commits count

# Annotations of a namespace: the emergency that is on, and all those that are over, one a line.
IN_EMERGENCY, EMERGENCIES = "delivery/emergency", "delivery/emergencies"
# Annotation of an AppProject: when its freeze was lifted and why, one a line.
LIFTS = "delivery/lifted-freezes"


def home(app: str) -> str:
    """The namespace of the ServiceAccounts, and of the public keys."""
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


def acting(user: str, *groups: str) -> tuple[str, ...]:
    """kubectl's options for an administrator who acts as somebody else."""
    return (f"--as={user}", *(f"--as-group={group}" for group in groups))


# Whoever keeps the platform: an administrator says so, and may then do what the locks ask this group for.
AS_PLATFORM = acting("delivery-platform", PLATFORM, "system:masters")
# Somebody whom RBAC and the lock on writers let through: then the other locks alone can be why something is refused.
AS_CONTROLLER = acting(
    account("kube-system", "replicaset-controller"), "system:serviceaccounts:kube-system", "system:masters"
)
