"""The registry, a real one: digests come from there, and only content that has its digest is believed."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from delivery import context as contexts
from delivery.build import image
from delivery.errors import BadInput, PlatformError, Refused
from delivery.files import write_private
from delivery.parts.git import Repository
from delivery.parts.registry import (
    Falsified,
    LoginRefused,
    Registry,
    RegistryRefused,
    RegistryUnreachable,
    connect,
)
from delivery.site import ImageRepository

if TYPE_CHECKING:
    from conftest import Shelf

    from scripts.tests.world import World

REVISION = "d" * 40


def opened(world: World) -> Registry:
    return connect(world.context.site.image)


def test_digest_of_a_tag(stocked: World, shelf: Shelf) -> None:
    """A tag's digest is the registry's own word; what is not there is None, not an error."""
    digest = shelf.push("15", REVISION, "15")
    with opened(stocked) as registry:
        registry.ping()
        assert registry.digest("15") == digest
        assert registry.digest(digest) == digest
        assert registry.digest("16") is None
        assert registry.image(f"sha256:{'0' * 64}") is None


def both(shelf: Shelf, build: str = "15", revision: str = REVISION) -> dict[str, str]:
    """Images of one build for two platforms, and an attestation about them: digest -> platform."""
    return {
        shelf.push(build, revision): "linux/amd64",
        shelf.push(build, revision, architecture="arm64"): "linux/arm64",
        shelf.push("", "", layer=b"attestation"): "unknown/unknown",
    }


def test_an_index_is_promoted_as_such(stocked: World, shelf: Shelf) -> None:
    """What CI pushed for several platforms is one build: its digest is the index's, attestations are no platform."""
    children = both(shelf)
    digest = shelf.index(children, REVISION, "15")
    with opened(stocked) as registry:
        built = image.known(stocked.context, registry, digest)
    assert (built.digest, built.build, built.version, built.revision) == (digest, "15", "1.2.3", REVISION)
    assert built.platforms == {"linux/amd64", "linux/arm64"}
    assert built.children == {one for one, platform in children.items() if platform != "unknown/unknown"}


def test_an_index_of_two_builds_is_refused(stocked: World, shelf: Shelf) -> None:
    """Platforms that were built from different commits, or as different builds, are not one build."""
    for other in (
        shelf.push("16", REVISION, architecture="arm64"),
        shelf.push("15", "e" * 40, architecture="arm64"),
    ):
        digest = shelf.index({shelf.push("15", REVISION): "linux/amd64", other: "linux/arm64"})
        with opened(stocked) as registry, pytest.raises(image.Contradictory, match="do not agree"):
            image.describe(stocked.context, registry, digest)


def test_an_index_whose_child_is_gone(stocked: World, shelf: Shelf) -> None:
    """An index that names an image which the registry does not have (any more) is not what was pushed."""
    children = both(shelf)
    digest = shelf.index(children)
    shelf.ask("DELETE", f"manifests/{next(iter(children))}")
    with opened(stocked) as registry, pytest.raises(Falsified, match="which is not there"):
        registry.image(digest)


def test_an_index_without_an_image(stocked: World, shelf: Shelf) -> None:
    """An index of attestations alone, and an index of indexes, are no image that a pod can run."""
    attestation = shelf.push("", "", layer=b"attestation")
    nothing = shelf.index({attestation: "unknown/unknown"})
    nested = shelf.index({shelf.index(both(shelf)): "linux/amd64"})
    with opened(stocked) as registry:
        with pytest.raises(RegistryRefused, match="index without an image"):
            registry.image(nothing)
        with pytest.raises(RegistryRefused, match="is not an image"):
            registry.image(nested)


def test_a_registry_that_lies(stocked: World, shelf: Shelf) -> None:
    """Bytes that do not have the digest that was asked for are never taken for it: the index or a part of it."""
    children = both(shelf)
    digest = shelf.index(children)
    for one in (digest, next(iter(children))):
        blob = shelf.blob(one)
        content = blob.read_bytes()
        blob.write_bytes(content.replace(b"amd64", b"arm64").replace(b"schemaVersion", b"SchemaVersion"))
        with opened(stocked) as registry, pytest.raises(PlatformError):
            registry.image(digest)
        blob.write_bytes(content)
    with opened(stocked) as registry:
        assert registry.image(digest) is not None


@pytest.mark.parametrize(
    ("platforms", "nodes", "fits"),
    [
        ({"linux/amd64"}, {"linux/amd64"}, True),
        ({"linux/amd64", "linux/arm64"}, {"linux/arm64"}, True),
        ({"linux/amd64"}, {"linux/arm64", "linux/amd64"}, True),
        ({"linux/amd64"}, {"linux/arm64"}, False),
        ({"linux/amd64"}, set(), True),
        (set(), {"linux/arm64"}, True),
    ],
)
def test_which_node_can_run_it(platforms: set[str], nodes: set[str], fits: bool) -> None:
    """An image that no node can run is refused; where platforms are not known the cluster itself will tell."""
    built = image.Built(f"sha256:{'a' * 64}", "15", "1.2.3", REVISION, platforms=frozenset(platforms))
    if fits:
        return image.fits(built, nodes)
    with pytest.raises(image.WrongPlatform, match="is for linux/amd64, the cluster's nodes are linux/arm64"):
        image.fits(built, nodes)


def test_what_was_pushed_must_be_what_was_built(stocked: World, shelf: Shelf) -> None:
    """The digest that the push reported is looked for in the registry, and must be this build: no tag decides."""
    digest = shelf.push("15", REVISION)
    built = image.Built(digest, "15", "1.2.3", REVISION, new=True)
    with opened(stocked) as registry:
        image._arrived(stocked.context, registry, built)
        with pytest.raises(Refused, match="the registry does not have it"):
            image._arrived(stocked.context, registry, replace(built, digest=f"sha256:{'0' * 64}"))
        with pytest.raises(Refused, match="which says it is build 15 of dddddddddddd, not build 16"):
            image._arrived(stocked.context, registry, replace(built, build="16"))


def test_tags(stocked: World, shelf: Shelf) -> None:
    """All tags are listed; a repository that does not exist has none."""
    shelf.push("15", REVISION, "15", REVISION, "latest")
    with opened(stocked) as registry:
        assert sorted(registry.tags()) == sorted(["15", REVISION, "latest"])
    ours = registry.repository
    elsewhere = ImageRepository(
        name=f"{ours.host}/nobody/nothing", plain_http=True, docker_config=ours.docker_config
    )
    with Registry(elsewhere) as nothing:
        assert nothing.tags() == []
        assert nothing.digest("1") is None


def test_a_second_tag_is_the_same_digest(stocked: World, shelf: Shelf) -> None:
    """Giving an image one more tag never changes its digest."""
    digest = shelf.push("15", REVISION, REVISION)
    with opened(stocked) as registry:
        manifest = registry.manifest(digest)
        assert manifest is not None
        registry.tag(manifest, "15")
        assert registry.digest("15") == digest


def test_wrong_login(stocked: World, shelf: Shelf) -> None:
    """A registry that does not take our login is an error with a remedy, not an empty registry."""
    repository = stocked.context.site.image
    assert repository.docker_config
    word = base64.b64encode(b"delivery:guess").decode()
    write_private(
        repository.docker_config / "config.json", json.dumps({"auths": {repository.host: {"auth": word}}})
    )
    with (
        opened(stocked) as registry,
        pytest.raises(LoginRefused, match="our login, delivery of /") as refused,
    ):
        registry.tags()
    assert "guess" not in str(refused.value)
    assert refused.value.hint == "make the login again: delivery up"


def test_registry_down(world: World) -> None:
    """A registry that is down is named, and what it holds is unknown."""
    nowhere = ImageRepository(name="localhost:1/manual-app", plain_http=True)
    with (
        Registry(nowhere, seconds=1) as registry,
        pytest.raises(RegistryUnreachable, match="localhost:1 does not answer") as refused,
    ):
        registry.digest("15")
    assert refused.value.exit_code == 4
    assert refused.value.hint


def test_cluster_not_up(world: World) -> None:
    """Before `delivery up` there is no local site: the error says to start it."""
    with pytest.raises(PlatformError, match="site local is not up") as refused:
        contexts.load("local")
    assert refused.value.hint == "start it: delivery up"


def test_a_second_build_is_the_first(stocked: World, shelf: Shelf) -> None:
    """The commit was built already: the first digest and its number, and nothing is built or pushed."""
    revision = image.source(stocked.context, Repository(stocked.checkout))
    digest = shelf.push("15", revision, revision, "15")
    built = image.build(stocked.context, number=99)
    assert (built.digest, built.build, built.version, built.new) == (digest, "15", "1.2.3", False)
    with opened(stocked) as registry:
        assert registry.digest("99") is None


def test_a_build_that_was_stopped_between_its_tags(stocked: World, shelf: Shelf) -> None:
    """Killed after the push and before the number was given: the next build gives it, same digest."""
    revision = image.source(stocked.context, Repository(stocked.checkout))
    digest = shelf.push("15", revision, revision)
    assert image.build(stocked.context).digest == digest
    with opened(stocked) as registry:
        assert registry.digest("15") == digest


def test_a_number_that_is_taken(stocked: World, shelf: Shelf) -> None:
    """A build number of another commit is refused with that commit's name, before anything is built."""
    shelf.push("15", "e" * 40, "15")
    with pytest.raises(BadInput, match=f"15 belongs to commit {'e' * 12}"):
        image.build(stocked.context, number=15)


def test_a_rebuild_elsewhere_is_caught(stocked: World, shelf: Shelf) -> None:
    """An image of another commit behind this commit's tag is refused: the image itself must say so too."""
    revision = image.source(stocked.context, Repository(stocked.checkout))
    shelf.push("15", "e" * 40, revision)
    with pytest.raises(Refused, match="of another commit"):
        image.build(stocked.context)


@pytest.mark.parametrize(
    ("tags", "number"), [([], 15), (["latest", "d" * 40], 15), (["9", "10", "2"], 11), (["015", "20"], 21)]
)
def test_next_number(tags: list[str], number: int) -> None:
    """The next build number follows the highest there is; the first one is pipeline.yaml's."""
    assert image.next_number(tags, 15) == number


def test_dirty_tree(world: World) -> None:
    """A dirty tree is refused: an untracked file, too. What is ignored does not count, and is not built."""
    repository = Repository(world.checkout)
    (world.checkout / ".delivery").mkdir()
    (world.checkout / ".delivery" / "key").write_text("secret")
    image.source(world.context, repository)
    (world.checkout / "manual-app" / "new.py").write_text("1")
    with pytest.raises(BadInput, match=r"dirty: .*manual-app/new\.py"):
        image.source(world.context, repository)


def test_only_what_is_committed_is_built(world: World) -> None:
    """The tree that is built is the committed one: an ignored file cannot slip in."""
    world.commit(world.checkout, ".gitignore", "*.pyc\n", "ignore")
    (world.checkout / "manual-app" / "x.pyc").write_text("stale")
    context = Repository(world.checkout).archive("HEAD:manual-app")
    assert b"pyproject.toml" in context
    assert b"x.pyc" not in context


def test_shallow_clone(world: World) -> None:
    """A shallow clone is refused with the command that mends it."""
    shallow = world.checkout.parent / "shallow"
    world.git(world.checkout, "commit", "--quiet", "--allow-empty", "--message", "more")
    world.git(
        world.checkout.parent, "clone", "--quiet", "--depth=1", f"file://{world.checkout}", str(shallow)
    )
    with pytest.raises(BadInput, match="shallow") as refused:
        image.source(world.context, Repository(shallow))
    assert "--unshallow" in refused.value.hint


def test_revision_is_the_last_change_of_the_app(world: World) -> None:
    """A commit that does not touch the app keeps the image: the revision is the last one that did."""
    app = world.commit(world.checkout, "manual-app/app.py", "1\n", "app")
    world.commit(world.checkout, "README.md", "words\n", "words")
    assert image.source(world.context, Repository(world.checkout)) == app


@pytest.mark.parametrize("text", ["0", "-1", "15a", "1.5", " 15", "9" * 12])
def test_wrong_build_number(world: World, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A BUILD_NUMBER that is none is refused, and nothing is built."""
    monkeypatch.setenv("BUILD_NUMBER", text)
    with pytest.raises(BadInput, match="not a build number"):
        image.build(world.context)
