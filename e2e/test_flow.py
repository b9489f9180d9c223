"""Build once, carry the same digest through dev, stage and prod."""

import httpx

from delivery.parts import git, values
from delivery.proof import observe
from delivery.proof.decide import Answer
from e2e.conftest import Build
from e2e.delivery import Checkout


def test_a_second_build_of_the_same_commit_is_the_first(platform: Checkout, image: Build) -> None:
    """I can run the build as often as I like: one commit has one digest."""
    first, again = (platform.delivery("build", "--format", "json").json for _ in range(2))
    assert again == first | {"new": False}


def test_dev_deploys_by_itself_after_the_push(platform: Checkout, dev: Build) -> None:
    """I push, CI writes the image into values-dev.yaml, and Argo CD deploys it: nobody syncs."""
    assert platform.digests("dev") == {dev.digest}
    operation = platform.get("application", "manual-app-dev", "-n", "argocd")["status"]["operationState"][
        "operation"
    ]
    assert operation["initiatedBy"] == {"automated": True}


def test_the_digest_is_the_same_byte_for_byte(platform: Checkout, prod: Build) -> None:
    """What the push reported is what Git asks for and what the pods run, in every environment."""
    for environment in platform.environments():
        asked = values.get(platform.on_server(environment.values), ("image", "digest"), environment.values)
        assert asked == prod.digest
        assert platform.digests(environment.name) == {prod.digest}


def test_every_environment_answers_with_the_same_build(platform: Checkout, prod: Build) -> None:
    """I open the app in each environment, and it says which build it is and where it runs."""
    app = platform.pipeline.app
    for environment in ("dev", "stage", "prod"):
        with httpx.Client(base_url=platform.url(environment), timeout=5, trust_env=False) as http:
            answer = observe.said(app.version, http.get(app.version.path).content)
            assert answer == Answer(prod.number, prod.revision, environment)
            assert http.get(app.ready).status_code == 200


def test_the_whole_is_proven(platform: Checkout, prod: Build) -> None:
    """`delivery verify` reads it back from the pods: PROVEN everywhere, exit 0."""
    document = platform.delivery("verify", "--format", "json").json
    assert document["verdict"] == "PROVEN"
    assert [one["environment"] for one in document["environments"]] == ["dev", "stage", "prod"]


def test_git_shows_one_commit_for_each_step(platform: Checkout, prod: Build) -> None:
    """The log of the Git server is the audit trail: one commit a step, with digest before and after."""
    with git.clone(platform.context.site.git, platform.branch) as repository:
        # A team's own history may have merges, of people; the pipeline's own commits are one line.
        merged = repository.run("log", "--format=%H", "--merges", "--author=delivery@localhost")
        assert merged == "", "history is linear"
        first = platform.environments()[0].name
        for environment in platform.environments():
            log = repository.run("log", "--format=%B%x00", "--", environment.values).split("\0")
            named = [
                text
                for text in log
                if f"Digest-After: {prod.digest}" in text
                and f"Promoted-From: {environment.name}\n" not in text  # gone back to
            ]
            entries = [text for text in named if f"\nEnvironment: {environment.name}\n" in text]
            assert len(entries) == 1, f"one commit brought it to {environment.name}"
            assert "Digest-Before:" in entries[0]
            # Where the strategy was release-branch for a while, `deploy` wrote it for the refs that follow.
            assert all(f"\nEnvironment: {first}\n" in text for text in named if text not in entries)


def test_a_rerun_changes_nothing(platform: Checkout, prod: Build) -> None:
    """Each verb may be repeated: no new commit, no new pod."""
    before = (platform.main(), {pod["metadata"]["uid"] for pod in platform.pods("prod")})
    platform.delivery("deploy", "--digest", prod.digest)
    platform.delivery("promote", "stage")
    platform.delivery("promote", "prod")
    assert (platform.main(), {pod["metadata"]["uid"] for pod in platform.pods("prod")}) == before


def test_up_again_changes_nothing(platform: Checkout, prod: Build) -> None:
    """`delivery up` on a platform that is up leaves every pod and every commit as it is."""
    before = (platform.main(), {pod["metadata"]["uid"] for pod in platform.pods("prod")})
    platform.delivery("up")
    assert (platform.main(), {pod["metadata"]["uid"] for pod in platform.pods("prod")}) == before


def test_doctor_finds_everything_well(platform: Checkout) -> None:
    """When something is odd I ask the doctor: it looks at every part, and tries what prod must refuse."""
    said = platform.delivery("doctor").out
    for part in (
        "disk",
        "docker",
        "images",
        "registry",
        "gateway",
        "cluster",
        "network",
        "argocd",
        "admission",
    ):
        assert f"✓ {part}: " in said


def test_the_ci_questions_are_answered(platform: Checkout) -> None:
    """Before any environment: the code compiles, the image builds, the container runs, Helm works, HTTP answers."""
    ran = platform.delivery("ci")
    asked = [check.name for check in platform.pipeline.ci.checks]
    for answer in (*asked, "Image builds", "Container runs", "Service is reachable"):
        assert f"✓ {answer}" in ran.err
