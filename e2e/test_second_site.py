"""A second site that nobody's defaults fit: TLS under its own authority, tokens, prod in a cluster of its own.

The fork is adopted, has one environment more, and no scripts/local; it is built, tested, promoted and proven with
nothing but what pipeline.yaml says. Needs root on Linux; e2e/second says what is put on this host, and takes it away
again.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from socket import gethostbyname
from subprocess import CompletedProcess
from typing import Any
from urllib.parse import urlsplit

import pytest

from delivery import roles
from e2e.conftest import ROOT
from e2e.delivery import Checkout, Ran
from e2e.second import clusters, names, world
from e2e.second.phases import Phases
from e2e.second.world import World
from e2e.test_admission import NO_EVIDENCE, manifest, refused

pytestmark = pytest.mark.skipif(bool(names.unfit()), reason=names.unfit() or "it is fit")


@dataclass
class Story:
    """What happened on the way to prod."""

    world: World
    refusals: dict[str, Ran] = field(default_factory=dict)
    wrote: dict[str, bool] = field(default_factory=dict)
    verified: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def second(
    platform: Checkout, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[World]:
    """The second site, beside the cluster of the e2e."""
    phases, folder = Phases(), tmp_path_factory.mktemp("second site")
    try:
        with world.made(ROOT, platform.cluster, folder, phases) as made:
            yield made
        if made.app == platform.app:  # its policies had the name of ours
            platform.delivery("up")
    finally:
        capture = pytestconfig.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(f"\n{phases.table()}")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def story(second: World) -> Story:
    """One digest from the build through dev, qa and stage into prod; each gate is asked too early first."""
    team, phases, told = second.team, second.phases, Story(second)
    with phases.of("deploy to dev"):
        team.delivery("deploy", "--digest", second.digest)
    for source, target in (("dev", "qa"), ("qa", "stage"), ("stage", "prod")):
        with phases.of("refused, too early"):
            before = team.main()
            told.refusals[target] = team.delivery("promote", target, expect=1)
            told.wrote[target] = team.main() != before
        with phases.of(f"test {source}"):
            team.delivery("test", source)
        if target == "prod":
            with phases.of("approve prod"):
                team.delivery("approve", "prod")
        with phases.of(f"promote {target}"):
            team.delivery("promote", target)
    with phases.of("verify all"):
        told.verified = team.delivery("verify", "--format", "json").json
    return told


def test_no_environment_takes_what_was_not_tested_before_it(story: Story) -> None:
    """I ask too early in each environment: refused, and Git is as it was."""
    assert set(story.refusals) == {"qa", "stage", "prod"}
    for target, source in (("qa", "dev"), ("stage", "qa"), ("prod", "stage")):
        assert f"{target} stays as it is: {source} has no evidence" in story.refusals[target].error
    assert not any(story.wrote.values())


def test_one_digest_is_proven_everywhere(story: Story) -> None:
    """What the push reported runs in four environments of two clusters, and the proof says so of each."""
    assert story.verified["verdict"] == "PROVEN"
    assert [one["environment"] for one in story.verified["environments"]] == list(world.ENVIRONMENTS)
    for environment in world.ENVIRONMENTS:
        assert story.world.digests(environment) == {story.world.digest}


def test_git_shows_one_commit_for_each_environment(story: Story) -> None:
    """The trail is in the team's Git: who asked for which digest where."""
    told = story.world.team.delivery("history", "--format", "json").json["changes"]
    entries = [one for one in told if one["kind"] != "configuration"]
    assert [one["environment"] for one in entries] == list(reversed(world.ENVIRONMENTS))
    assert [one["state"] for one in entries] == ["VERIFIED", "VERIFIED", "VERIFIED", "UNVERIFIED"]


@pytest.mark.parametrize("environment", ["qa", "stage", "prod"])
def test_the_clusters_refuse_by_themselves(story: Story, environment: str) -> None:
    """Whoever has kubectl brings no tag into a guarded environment, in neither cluster."""
    image = f"{names.REGISTRY}/acme/{story.world.app}:15"
    assert f'image "{image}" is refused' in refused(_create(story, environment, image))


def test_a_digest_without_evidence_is_refused(story: Story) -> None:
    """A digest of our own repository that nobody tested: each cluster looks into the registry, and refuses."""
    team = story.world.team
    mark = f"{team.pipeline.image.context}/UNTESTED"
    with story.world.phases.of("an untested digest"), _committed(story, mark, "nobody tested this\n"):
        untested = team.delivery("build", "--format", "json").json["digest"]
    repository = f"{names.REGISTRY}/acme/{story.world.app}"
    for target in ("qa", "stage", "prod"):
        why = refused(_create(story, target, f"{repository}@{untested}"))
        assert why == f"the cluster refused {untested}: {NO_EVIDENCE}"
        tested = f"{repository}@{story.world.digest}"
        assert _create(story, target, tested, "--dry-run=server").returncode == 0


def test_nothing_of_it_is_on_this_machine_alone(story: Story, platform: Checkout) -> None:
    """No name of the site is a loopback's, and nothing of `up` was there to be read."""
    team = story.world.team
    site = team.context.site
    kubeconfig = json.loads(story.world.clusters.kubeconfig.read_text())
    urls = [site.git.url, f"https://{site.image.name}"]
    urls += [place.url or "" for place in site.environments.values()]
    urls += [one["cluster"]["server"] for one in kubeconfig["clusters"]]
    for url in urls:
        host = urlsplit(url).hostname or ""
        assert not ip_address(gethostbyname(host)).is_loopback, url
    ours = (team.path / "pipeline.yaml").read_text()
    assert not any(word in ours for word in ("127.0.0.1", "localhost", str(platform.cluster.state)))
    assert not (team.path / "scripts" / "local").exists()
    assert not (team.path / ".delivery").exists()
    assert sorted(one.name for one in team.state.iterdir()) == [site.name]


def test_an_authority_that_is_not_named_is_said(story: Story) -> None:
    """I forget `ca`: the registry is not believed, and I read which authorities were asked."""
    team = story.world.team
    lines = (team.path / "pipeline.yaml").read_text().splitlines(keepends=True)
    without = "".join(line for line in lines if not line.lstrip().startswith("ca:"))
    with _committed(story, "pipeline.yaml", without):
        ran = team.delivery("build", expect=4)
    assert "certificate" in ran.error


def test_a_wrong_login_says_where_it_came_from(story: Story, tmp_path: Path) -> None:
    """My password of the registry is old: I read which file has it."""
    config = story.world.servers.docker_config(tmp_path / "docker", "ci", "wrong")
    ran = story.world.team.delivery("build", expect=4, DOCKER_CONFIG=str(config))
    assert str(config) in ran.error + ran.hint


def test_a_wrong_token_for_git_is_refused(story: Story) -> None:
    """My token of the Git server is over: an error of the login, and not a missing repository."""
    ran = story.world.team.delivery("promote", "qa", expect=4, DELIVERY_GIT_TOKEN="wrong")
    assert "DELIVERY_GIT_TOKEN" in ran.hint


def test_a_context_that_leads_elsewhere_is_not_touched(story: Story) -> None:
    """Somebody points the context of prod to another cluster: nobody asks that one anything."""
    file = story.world.clusters.kubeconfig
    before = file.read_text()
    data = json.loads(before)
    own = clusters.role(clusters.PROD, roles.DEPLOYER)
    [prod] = [one["context"] for one in data["contexts"] if one["name"] == own]
    prod |= {"cluster": clusters.TEST, "user": clusters.role(clusters.TEST, roles.DEPLOYER)}
    try:
        file.write_text(json.dumps(data))
        ran = story.world.team.delivery("promote", "prod", expect=4)
    finally:
        file.write_text(before)
    assert f"context {own} of site acme leads to another cluster than last time" in ran.error


def test_a_key_that_a_commit_brought_is_nobodys(story: Story) -> None:
    """Whoever pushes can put a key of his own where stage's is: prod's cluster has the one that counts, and it is said
    whose is another one, before anything is signed or written.
    """
    team = story.world.team
    before, another = team.main(), (team.path / "keys" / "dev.pub").read_text()
    why = "ConfigMap public-keys has another key of stage"
    with story.world.phases.of("another's key"), _committed(story, "keys/stage.pub", another):
        for verb in ("promote", "approve"):
            refused = team.delivery(verb, "prod", expect=1)
            assert f"the cluster of prod: {why}" in refused.error
        digest = ("--digest", story.world.digest)
        assert f"the cluster of prod: {why}" in team.delivery("rollback", "prod", *digest, expect=1).error
        found = team.delivery("verify", "--format", "json", expect=1).json["environments"]
    told = {one["environment"] for one in found if f"a lock is off: {why}" in one["mismatches"]}
    assert told == {"qa", "stage", "prod"}
    assert team.main() == before


def _create(story: Story, environment: str, image: str, *options: str) -> CompletedProcess[str]:
    """kubectl create of a pod with that image, by somebody whom the lock on writers lets through."""
    pod = manifest("Pod", image)
    pod["spec"]["imagePullSecrets"] = [{"name": "registry"}]
    own = ("-n", story.world.namespace(environment), "create", "-f", "-", *options)
    cluster = story.world.cluster(environment)
    kubectl = story.world.clusters.kubectl
    return kubectl(cluster, *own, who=roles.AS_CONTROLLER, check=False, input=json.dumps(pod))


@contextmanager
def _committed(story: Story, path: str, text: str) -> Iterator[None]:
    """A file is otherwise in the last commit, which nobody pushed, while the block runs."""
    team = story.world.team
    before = team.git("rev-parse", "HEAD")
    try:
        (team.path / path).write_text(text)
        team.commit("for a moment")
        yield
    finally:
        team.git("reset", "--quiet", "--hard", before)
