"""Whether a password of the environment stands in a log; its value goes nowhere else."""

import base64
from concurrent.futures import ThreadPoolExecutor

from e2e.suites.target import Target, name


def leaking(target: Target) -> list[str]:
    """The pods whose logs have the value of a secret that the app or what stands beside it mounts."""
    passwords = _passwords(target)
    pods = [name(pod) for pod in target.pods()]
    with ThreadPoolExecutor(4) as pool:
        logs = dict(zip(pods, pool.map(lambda pod: _log(target, pod), pods), strict=True))
    silent = [name(pod) for pod in target.app_pods() if not logs.get(name(pod), "")]
    assert not silent, f"the log of {silent[0]} is empty: there is nothing to compare"
    return [pod for pod, log in logs.items() if any(password in log for password in passwords)]


def _passwords(target: Target) -> list[str]:
    mounted = {
        volume["secret"]["secretName"]
        for pod in target.pods()
        for volume in pod["spec"].get("volumes", [])
        if "secret" in volume
    }
    assert mounted, "nobody mounts a secret: there is nothing to compare"
    values = [value for secret in target.get("secrets", *mounted) for value in secret["data"].values()]
    return [base64.b64decode(value).decode().strip() for value in values]


def _log(target: Target, pod: str) -> str:
    return target.kubectl("logs", pod, "--all-containers", "--limit-bytes=8000000")
