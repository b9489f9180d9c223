"""Only what was tested moves: without its evidence a digest goes nowhere."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from delivery.parts import programs
from delivery.signed import keys
from e2e.conftest import Build
from e2e.delivery import Checkout
from e2e.registry import as_owner

PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(autouse=True)
def nothing_moved(platform: Checkout, prod: Build) -> Iterator[None]:
    """After each attempt prod runs what it ran, and Git asks it for nothing else."""
    before = platform.on_server("manual-app-helm/values-prod.yaml")
    yield
    assert platform.on_server("manual-app-helm/values-prod.yaml") == before
    assert platform.digests("prod") == {prod.digest}


def test_an_untested_digest_does_not_leave_dev(platform: Checkout, next_build: Build) -> None:
    """Nobody tested it in dev: I can read that before I try; stage refuses it, says why, and Git stays as it is."""
    document = platform.delivery("status", "--format", "json").json
    stage = next(one for one in document["next"] if one["environment"] == "stage")
    assert (stage["digest"], stage["allowed"]) == (next_build.digest, False)
    assert stage["reasons"]
    before = platform.main()
    ran = platform.delivery("promote", "stage", expect=1)
    assert "evidence" in ran.error
    assert platform.main() == before
    assert next_build.digest not in platform.digests("stage")


def test_who_calls_leaves_no_test_out(platform: Checkout, prod: Build) -> None:
    """My shell's variables choose no tests: what is tested is what the commit has."""
    ask = ("test", "dev", "--format", "json")
    whole = platform.delivery(*ask).json["judgement"]
    said = platform.delivery(*ask, PYTEST_ADDOPTS="-k no", PYTEST_PLUGINS="no", LC_ALL="tr_TR.UTF-8").json
    assert said["judgement"] == whole
    assert whole["result"] == "PASSED"


def test_cosign_verifies_the_evidence_by_hand(platform: Checkout, prod: Build) -> None:
    """I need not trust `delivery`: cosign and the public key show the same evidence, in in-toto's own form."""
    done = cosign(
        platform,
        *(
            "verify-attestation",
            f"--key={keys.public(platform.context.site, 'stage')}",
            f"--type={PREDICATE}",
        ),
        *("--insecure-ignore-tlog=true", subject(platform, prod)),
    )
    statements = [json.loads(decoded(line)) for line in done.splitlines() if line.startswith("{")]
    assert statements
    for statement in statements:
        assert statement["predicateType"] == PREDICATE
        assert statement["subject"][0]["digest"]["sha256"] == prod.digest.removeprefix("sha256:")
    assert any(statement["predicate"]["result"] == "PASSED" for statement in statements)


def test_without_its_evidence_a_digest_is_refused_and_with_it_again_let_in(
    platform: Checkout, prod: Build
) -> None:
    """Absence refuses: the registry's owner deletes stage's evidence and the gate closes; put back, it opens."""
    tag, base = prod.digest.replace(":", "-") + ".att", "manual-app/stage/manifests"
    platform.delivery("promote", "prod")
    kept = as_owner(platform.cluster, "GET", f"{base}/{tag}", Accept=MANIFEST)
    digest, kind = kept.headers["docker-content-digest"], kept.headers["content-type"]
    assert as_owner(platform.cluster, "DELETE", f"{base}/{digest}").status == 202
    try:
        assert "evidence" in platform.delivery("promote", "prod", expect=1).error
    finally:
        put = as_owner(platform.cluster, "PUT", f"{base}/{tag}", kept.content, Content_Type=kind)
        assert put.status == 201
    platform.delivery("promote", "prod")


def test_the_author_cannot_approve(platform: Checkout, prod: Build) -> None:
    """Whoever wrote the change is not the one who lets it into prod."""
    author = platform.git("log", "-1", "--format=%ae", prod.revision)
    file = platform.path / "pipeline.yaml"
    before = file.read_text(encoding="utf-8")
    file.write_text(before.replace("identity: approver@localhost", f"identity: {author}"), encoding="utf-8")
    try:
        assert author in platform.delivery("approve", "prod", expect=1).error
    finally:
        file.write_text(before, encoding="utf-8")


def subject(platform: Checkout, build: Build) -> str:
    """The image as this host names it."""
    return f"{platform.cluster.registry_host}/manual-app@{build.digest}"


def cosign(platform: Checkout, *arguments: str) -> str:
    """cosign as a person runs it to look at stage's statements, with the login that reads this cluster's registry."""
    config, place = platform.cluster.docker_config, platform.context.site.statements_of("stage")
    done = subprocess.run(
        [programs.path("cosign"), *arguments],
        env={**os.environ, "DOCKER_CONFIG": str(config), "COSIGN_REPOSITORY": place.here},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def decoded(line: str) -> str:
    """The statement inside a signed envelope."""
    return base64.b64decode(json.loads(line)["payload"]).decode()
