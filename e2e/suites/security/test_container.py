"""Security: what a burglar would find inside the running container, asked of every replica."""

from collections.abc import Mapping
from typing import Any

from delivery.proof.decide import runs
from e2e.suites.security.asked import Asked
from e2e.suites.target import Target, name

Inside = Mapping[str, dict[str, Any]]


def test_non_root(inside: Inside) -> None:
    """The service runs as a user without rights, in no privileged group."""
    for pod, facts in inside.items():
        for field in ("Uid", "Gid", "Groups"):
            assert "0" not in facts["status"][field], f"{pod}: {field} {facts['status'][field]}"


def test_read_only_root(inside: Inside) -> None:
    """Nothing of the image can be changed: its file system is mounted read-only."""
    for pod, facts in inside.items():
        assert "ro" in facts["root"].split(","), f"{pod}: / is mounted {facts['root']}"
        # Not "permission denied": that would be the user's rights, which root of another kind may have.
        assert set(facts["writing"].values()) == {"EROFS"}, f"{pod}: {facts['writing']}"


def test_no_capabilities(inside: Inside) -> None:
    """The process has no capability and can gain none."""
    for pod, facts in inside.items():
        for field in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(facts["status"][field][0], 16) == 0, f"{pod}: {field}"
        assert facts["status"]["NoNewPrivs"] == ["1"], pod


def test_seccomp(inside: Inside) -> None:
    """The kernel filters the system calls of the process."""
    for pod, facts in inside.items():
        assert facts["status"]["Seccomp"] == ["2"], pod


def test_no_service_account_token(inside: Inside) -> None:
    """The service holds no key to the cluster."""
    for pod, facts in inside.items():
        assert not facts["tokens"], pod


def test_only_its_own_secrets(inside: Inside) -> None:
    """The service has its own password and the readers' token, and not the password of anybody who may do more."""
    for pod, facts in inside.items():
        assert {one.removeprefix("/run/secrets/") for one in facts["secrets"]} == {
            "postgresql/password",
            "orders-reader/token",
        }, pod


def test_no_secrets_in_environment(inside: Inside) -> None:
    """The password is in a mounted file, and in no process's environment or arguments."""
    for pod, facts in inside.items():
        assert facts["secrets"], f"{pod}: no mounted secret was found, so nothing could be compared"
        assert not facts["leaks"], pod


def test_no_secrets_in_logs(asked: Asked) -> None:
    """No pod of the environment has written a password to its log."""
    leaking = asked.leaking.result()
    assert not leaking, f"it is in the log of {', '.join(leaking)}"


def test_images_by_digest(target: Target) -> None:
    """Every container of the environment was started by digest, and runs that digest."""
    for pod in target.pods():
        for kind in ("initContainer", "container", "ephemeralContainer"):
            for asked in pod["spec"].get(f"{kind}s", []):
                assert "@sha256:" in asked["image"], f"{name(pod)}: {asked['image']}"
            asked_for = {one["name"]: one["image"] for one in pod["spec"].get(f"{kind}s", [])}
            for status in pod["status"].get(f"{kind}Statuses", []):
                shown, wanted = status["imageID"], asked_for[status["name"]]
                assert runs(shown, wanted, target.wanted.image.children), f"{name(pod)}: {shown}"
