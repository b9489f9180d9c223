"""Public images are pinned by digest, and `make pin` writes what registries and publishers say today."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pytest
from ruamel.yaml import YAML

from delivery.errors import BadInput, PlatformError
from local import fetch, images, paths, pinning, pins, platforms, published
from local.catalog import ARGOCD, ArgocdImages, Catalog
from local.closed.golang import Module
from local.online import Online
from local.platforms import KNOWN
from scripts.tests.fake_cluster import Answering, serving
from scripts.tests.world import ROOT

NEW = f"sha256:{'e' * 64}"
NEWER = f"sha256:{'f' * 64}"
UPSTREAM = "image: quay.io/argoproj/argocd:v9\n  image: public.ecr.aws/docker/library/redis:9-alpine\n"


@dataclass
class Daemon:
    """A Docker daemon that is asked what a name means in its registry, and for whom it makes containers."""

    architecture: str = "arm64"
    system: str = "linux"
    digests: dict[str, str] = field(default_factory=dict)  # what is not here is NEW
    refuses: str = ""
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> tuple[int, object]:
        """Status and body of one request."""
        if path.endswith("/_ping"):
            return 200, "OK"
        if path.endswith("/version"):
            return 200, {"ApiVersion": "1.47", "Os": self.system, "Arch": self.architecture}
        name = path.partition("/distribution/")[2].removesuffix("/json")
        self.asked.append(name)
        if name == self.refuses:
            return 404, {"message": f"manifest for {name} not found"}
        return 200, {"Descriptor": {"digest": self.digests.get(name, NEW), "size": 1}, "Platforms": []}


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """The daemon that DOCKER_HOST names."""
    played = Daemon()

    class Handler(Answering):
        def do_GET(self) -> None:
            status, body = played.answer(unquote(self.path))
            self.write(status, json.dumps(body).encode())

        do_HEAD = do_GET

    with serving(Handler) as port:
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
        monkeypatch.delenv("DOCKER_TLS_VERIFY", raising=False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield played


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with the real scripts/local, whose Argo CD module asks for newer images."""
    shutil.copytree(ROOT / "scripts" / "local", tmp_path / "scripts" / "local")
    manifest = tmp_path / "argo-cd" / "manifests" / "core-install.yaml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(f"  {UPSTREAM}")
    monkeypatch.setattr(Module, "source", lambda _, module: tmp_path / "argo-cd")
    return tmp_path


@pytest.fixture
def publishers(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The publishers, who all answer; tests put a checksum per tool in here. (test_tools.py asks real hosts.)"""
    checksums: dict[str, str] = {}

    def asked(tool: published.Tool, *_: object) -> published.Checksums:
        if tool.name == checksums.get("refuses"):
            raise fetch.NotFetched(f"cannot fetch {tool.url}", "see the network")
        return published.Checksums(dict.fromkeys(KNOWN, checksums.get(tool.name, "a" * 64)), "TLS alone")

    monkeypatch.setattr(published, "checksums", asked)
    return checksums


def versions(root: Path) -> dict[str, dict[str, str]]:
    """scripts/local/versions.yaml of a checkout."""
    found: dict[str, dict[str, str]] = YAML(typ="safe").load(
        (root / "scripts" / "local" / "versions.yaml").read_text()
    )
    return found


def test_every_public_image_with_a_known_digest_is_pinned() -> None:
    """What a laptop pulls next month is what was pinned: only Argo CD's digest was not known when this was written."""
    online = versions(ROOT)["online"]
    assert set(pins.unpinned(online)) <= {online["argocd"]}
    for name in online.values():
        assert ":" in pins.bare(name).rpartition("/")[2], "the tag stays for a reader, and for `make pin`"


def test_argocds_pins_are_of_the_version_that_go_mod_names() -> None:
    """Raising Argo CD in go.mod without `make pin` fails here."""
    catalog = Catalog(ROOT)
    version = catalog.module.version(ARGOCD)
    assert pins.bare(catalog.versions["online"]["argocd"]) == f"quay.io/argoproj/argocd:{version}"
    manifest = paths.cache("go", "mod", f"{ARGOCD}@{version}", "manifests", "core-install.yaml")
    if not manifest.exists():
        pytest.skip("Argo CD's own manifest comes with the first `delivery up`")
    pins.agree(catalog.versions["online"], ArgocdImages.read(manifest))


def test_pins_of_another_argocd_are_refused() -> None:
    """`up` does not preload Redis under a name that no pod asks for: it says what the manifest wants."""
    online = {"argocd": f"a/argocd:v1@{NEW}", "redis": f"r/redis:1@{NEW}"}
    pins.agree(online, ArgocdImages("a/argocd:v1", "r/redis:1"))
    with pytest.raises(
        BadInput, match=r"has r/redis:1, but Argo CD's manifest asks for r/redis:2"
    ) as refused:
        pins.agree(online, ArgocdImages("a/argocd:v1", "r/redis:2"))
    assert "make pin" in refused.value.hint


@pytest.mark.parametrize("name", ["node", "argocd", "redis", "postgresql"])
def test_a_new_pin_makes_a_new_node_image(name: str) -> None:
    """After `make pin` the next `up` preloads what was pinned, instead of finding an older node image good."""
    catalog = Catalog(ROOT)
    before = Online(catalog).node.name
    catalog.versions["online"][name] = f"{pins.bare(catalog.versions['online'][name])}@{NEW}"
    assert Online(catalog).node.name != before


def test_up_says_what_is_not_pinned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, with the command that pins; nothing where all is pinned."""
    monkeypatch.delenv(pins.CHOICE, raising=False)
    pins.check({"one": f"one:1@{NEW}"})
    assert capsys.readouterr().err == ""
    pins.check({"one": f"one:1@{NEW}", "two": "two:2", "three": "example.org/three:3"})
    said = capsys.readouterr().err
    assert said == " · not pinned, taken by tag: two:2, example.org/three:3 (hint: make pin)\n"


def test_a_user_may_ask_for_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    """DELIVERY_PINS=required: with one image by tag, `up` refuses before it pulls anything, with exit code 2."""
    catalog = Catalog(ROOT)
    catalog.versions["online"]["argocd"] = "quay.io/argoproj/argocd:v1"
    monkeypatch.setattr(images, "catalog", lambda: catalog)
    monkeypatch.setattr(images, "source", lambda: Online(catalog))
    monkeypatch.setattr(Online, "make", lambda _: pytest.fail("it pulled"))
    monkeypatch.setenv(pins.CHOICE, "required")
    with pytest.raises(BadInput, match=r"not pinned: quay\.io/argoproj/argocd:v1") as refused:
        images.ensure()
    assert refused.value.hint == "pin them: make pin"
    assert refused.value.exit_code == 2


def test_a_misspelt_wish_for_pins_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes DELIVERY_PINS=require does not get unpinned images in silence."""
    monkeypatch.setenv(pins.CHOICE, "require")
    with pytest.raises(BadInput, match="DELIVERY_PINS=require is unknown"):
        pins.check({})


def test_make_pin_writes_what_is_there_today(
    checkout: Path, daemon: Daemon, publishers: dict[str, str]
) -> None:
    """Every image and every tool is asked for, and the file has the answers; comments and order stay."""
    before = (checkout / "scripts" / "local" / "versions.yaml").read_text().splitlines()
    daemon.digests["postgres:15-bookworm"] = NEWER
    publishers["helm"] = "b" * 64
    done = pinning.run(checkout)
    found = versions(checkout)
    assert found["online"]["postgresql"] == f"postgres:15-bookworm@{NEWER}"
    assert found["online"]["argocd"] == f"quay.io/argoproj/argocd:v9@{NEW}"
    assert found["online"]["redis"] == f"public.ecr.aws/docker/library/redis:9-alpine@{NEW}"
    assert not pins.unpinned(found["online"])
    assert len(daemon.asked) == len(found["online"])
    helm = Catalog(checkout).module.version("helm.sh/helm/v4")
    wanted = {"version": helm, **dict.fromkeys(map(str, KNOWN), "b" * 64)}
    assert found["tools"]["helm"]["pinned"] == wanted
    assert done.believed[f"helm {helm}"] == "TLS alone"
    after = (checkout / "scripts" / "local" / "versions.yaml").read_text().splitlines()
    assert len(after) == len(before)
    assert [line for line in before if "#" in line] == [line for line in after if "#" in line]
    assert len(done.changes) == sum(one != other for one, other in zip(before, after, strict=True))
    assert pinning.run(checkout).changes == [], "the second time nothing changes"


def test_make_pin_of_images_alone(checkout: Path, daemon: Daemon, publishers: dict[str, str]) -> None:
    """--images asks no publisher of tools."""
    publishers["refuses"] = "kind"
    before = versions(checkout)["tools"]
    assert pinning.run(checkout, images_only=True).believed == {}
    assert versions(checkout)["tools"] == before


@pytest.mark.parametrize("answer", ["refused", "no digest", "publisher"])
def test_make_pin_is_all_or_nothing(
    answer: str, checkout: Path, daemon: Daemon, publishers: dict[str, str]
) -> None:
    """One registry or publisher that does not answer: the error names it, and the file is as it was."""
    before = (checkout / "scripts" / "local" / "versions.yaml").read_bytes()
    if answer == "refused":
        daemon.refuses = "registry:3"
    elif answer == "no digest":
        daemon.digests["registry:3"] = "latest"
    else:
        publishers["refuses"] = "cosign"
    with pytest.raises(PlatformError, match="cosign" if answer == "publisher" else "registry of registry:3"):
        pinning.run(checkout)
    assert (checkout / "scripts" / "local" / "versions.yaml").read_bytes() == before
    assert not list((checkout / "scripts" / "local").glob(".versions*"))


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_the_nodes_platform_is_the_daemons(architecture: str, daemon: Daemon) -> None:
    """Docker Desktop on a Mac makes Linux containers: programs for the node are for those."""
    daemon.architecture = architecture
    assert str(platforms.node()) == f"linux/{architecture}"


def test_a_daemon_for_other_containers_is_said(daemon: Daemon) -> None:
    """Windows containers cannot be a kind node."""
    daemon.system = "windows"
    with pytest.raises(PlatformError, match="windows/arm64"):
        platforms.node()
