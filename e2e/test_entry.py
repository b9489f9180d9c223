"""What enters prod is what its gate signed: whoever writes to Git, or tells Argo CD another commit, gets nowhere."""

from collections.abc import Iterator

import pytest

from delivery.wait import Pending, Reached, until
from e2e.conftest import Build
from e2e.delivery import Checkout, consistently


@pytest.fixture
def prod_stays(platform: Checkout, prod: Build) -> Iterator[None]:
    """Prod's pods are the same after each attempt, and one command makes Git and Argo CD say what entered again."""
    before = {pod["metadata"]["uid"] for pod in platform.pods("prod")}
    yield
    platform.delivery("rollback", "prod", "--digest", prod.digest)
    assert platform.delivery("verify", "prod", "--format", "json").json["verdict"] == "PROVEN"
    assert {pod["metadata"]["uid"] for pod in platform.pods("prod")} == before


@pytest.mark.usefixtures("prod_stays")
@pytest.mark.parametrize(
    ("gate", "says"),
    [("nobody", "unsigned"), ("stage", "signed with unallowed key")],
    ids=["unsigned", "stage"],
)
def test_settings_that_prods_gate_did_not_sign(platform: Checkout, gate: str, says: str) -> None:
    """I change values-prod.yaml and pin Argo CD to that, unsigned or signed as stage's gate: nothing comes of it."""
    file = platform.pipeline.environment("prod").values
    platform.pull()
    text = (platform.path / file).read_text(encoding="utf-8")
    (platform.path / file).write_text(f"{text}replicas: 4\n", encoding="utf-8")
    commit = platform.commit("by hand") if gate == "nobody" else platform.commit_as(gate, "by hand")
    platform.push("HEAD:main")
    replicas = platform.kubectl(*_replicas(platform)).stdout
    platform.pin("prod", commit)
    assert says in _refusal(platform, commit)
    consistently(lambda: _same(platform.kubectl(*_replicas(platform)).stdout, replicas), seconds=5)
    ran = platform.delivery("verify", "prod", expect=1)
    assert "MISMATCH" in ran.error
    assert f"Argo CD is told to keep prod at {commit}" in ran.out
    assert commit not in {one["commit"] for one in platform.history("prod")["changes"]}


def test_a_commit_that_says_it_is_a_promotion(platform: Checkout, prod: Build) -> None:
    """An empty commit with the right words makes nothing of a digest that prod never ran: no way back, and BROKEN."""
    never = f"sha256:{'e' * 64}"
    platform.pull()
    words = f"prod: {platform.app} 9\n\nEnvironment: prod\nBuild: 9\nDigest-After: {never}"
    platform.git("commit", "--quiet", "--allow-empty", "-m", words)
    platform.push("HEAD:main")
    before = platform.main()
    [claimed] = [one for one in platform.history("prod", expect=1)["changes"] if one["commit"] == before]
    assert (claimed["state"], claimed["reasons"]) == ("BROKEN", ["gate-prod did not sign its commit"])
    assert "never ran" in platform.delivery("rollback", "prod", "--digest", never, expect=1).error
    assert platform.main() == before
    assert platform.delivery("verify", "prod", "--format", "json").json["verdict"] == "PROVEN"


def test_main_moves_and_nothing_of_it_enters(platform: Checkout, prod: Build) -> None:
    """The chart changes on main: stage and prod stay at the commits that entered, proven, and say that Git moved on."""
    file = f"{platform.pipeline.chart.path}/values.yaml"
    platform.pull()
    text = (platform.path / file).read_text(encoding="utf-8")
    (platform.path / file).write_text(f"{text}# one more line\n", encoding="utf-8")
    platform.commit("the chart moves on")
    platform.push("HEAD:main")
    try:
        for name in ("stage", "prod"):
            platform.refresh(name)
            found = platform.delivery("verify", name, "--format", "json").json
            assert found["verdict"] == "PROVEN"
            [one] = found["environments"]
            assert any("until something enters" in note for note in one["notes"])
    finally:
        (platform.path / file).write_text(text, encoding="utf-8")
        platform.commit("the chart as it was")
        platform.push("HEAD:main")


def _refusal(platform: Checkout, commit: str) -> str:
    """Why Argo CD does not take a commit."""
    name = platform.pipeline.environment("prod").application

    def look() -> Reached[str] | Pending:
        status = platform.get("application", name, "-n", "argocd").get("status", {})
        said = " ".join(str(one.get("message")) for one in status.get("conditions") or [])
        return Reached(said) if commit in said and "GPG" in said else Pending(said or "no condition")

    return until(f"Argo CD has judged {commit[:12]}", look, 60, "kubectl -n argocd get application -o yaml")


def _replicas(platform: Checkout) -> tuple[str, ...]:
    own = platform.pipeline.environment("prod").namespace
    return ("-n", own, "get", "deployment", platform.app, "-o", "jsonpath={.spec.replicas}")


def _same(now: str, before: str) -> None:
    assert now == before
