"""The platform's programs, built from the one Go module in scripts/local/closed/go.

go.mod and go.sum pin every line of their source; sharing one module at one Kubernetes version lets
them share their compiled packages, which is most of the time.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import semver

from delivery.errors import NotReached, PlatformError
from delivery.lock import alone
from delivery.progress import phase
from local import paths, platforms
from local.platforms import Platform
from local.shell import last_line, run

_K8S = "k8s.io/kubernetes/cmd/"
_CNI = "github.com/containernetworking/plugins/plugins/"

# Program -> package. The order says nothing; Go builds them together. Those of our own folder are upstream's
# programs without the clouds that nothing here talks to: a seventh less to compile.
PACKAGES = {
    **{
        name: _K8S + name
        for name in (
            "kube-apiserver",
            "kube-controller-manager",
            "kube-proxy",
            "kube-scheduler",
            "kubeadm",
            "kubectl",
            "kubelet",
        )
    },
    "etcd": "go.etcd.io/etcd/server/v3",
    "coredns": "./coredns",
    "pause": "./pause",
    "crictl": "sigs.k8s.io/cri-tools/cmd/crictl",
    "ptp": _CNI + "main/ptp",
    "loopback": _CNI + "main/loopback",
    "host-local": _CNI + "ipam/host-local",
    "portmap": _CNI + "meta/portmap",
    "kube-network-policies": "sigs.k8s.io/kube-network-policies/cmd",
    "local-path-provisioner": "github.com/rancher/local-path-provisioner",
    "kind": "sigs.k8s.io/kind",
    "helm": "helm.sh/helm/v4/cmd/helm",
    "registry": "./registry",
    "argocd": "./argocd",
    "cosign": "github.com/sigstore/cosign/v3/cmd/cosign",
    "policy-controller": "github.com/sigstore/policy-controller/cmd/webhook",
}

# Run on this host only; all the others go into images (kubectl and helm: both).
_NOT_IN_IMAGES = ("kind", "cosign")

# It spells a module's name (logrus) with a capital that Go refuses beside the other spelling.
_ALONE = "local-path-provisioner"

BUILD_LIMIT = 3600.0
_HINT = "run it again: what is compiled is kept; see the Go proxy and the space that is left"


class Module:
    """The Go module at `folder`, and the programs it makes. The bench has one of its own (e2e/bench/flux)."""

    programs: ClassVar[Mapping[str, str]] = PACKAGES

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mod = (folder / "go.mod").read_text(encoding="utf-8")

    def version(self, module: str) -> str:
        """The version that go.mod pins, such as `v1.36.1`."""
        found = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", self._mod, re.M)
        if not found:
            raise PlatformError(
                f"go.mod does not name {module}", "restore it: git checkout scripts/local/closed/go"
            )
        return found[1]

    @property
    def key(self) -> str:
        """What the programs are made of, as a hash: the same key, the same programs."""
        digest = hashlib.sha256()
        for file in (self.folder / "go.mod", self.folder / "go.sum", *sorted(self.folder.glob("*/main.go"))):
            digest.update(file.read_bytes())
        digest.update(self.linker_flags().encode())
        return digest.hexdigest()[:16]

    @property
    def toolchain(self) -> Path:
        """The lock of the wheel that has a Go."""
        return self.folder / "go-toolchain.lock"

    @property
    def bin(self) -> Path:
        """The folder where finished programs of this host are, each put there whole."""
        return self.bin_for(platforms.here())

    def bin_for(self, platform: Platform) -> Path:
        """The folder of the programs for a platform."""
        # A Mac keeps its own programs beside its node's.
        other = "" if platform == platforms.here() else f"-{platform.os}-{platform.arch}"
        return paths.cache("programs", f"{self.key}{other}")

    def source(self, module: str) -> Path:
        """The folder with a module's files: manifests and recipes are taken from there, never copied into Git."""
        there = self._unpacked(module)
        if self._whole(module):
            return there
        out = run(
            [self.go(), "mod", "download", "-json", module], hint=_HINT, cwd=self.folder, env=self._env()
        )
        found = re.search(r'"Dir": "(.*)"', out)
        if not found:
            raise PlatformError(f"the Go proxy did not give {module}", _HINT)
        return Path(found[1])

    def drop_sources(self, *kept: str) -> None:
        """Remove what only the compiler needs, gigabytes of it; programs stay, and so do the sources of `kept`.

        Nothing where another compilation runs.
        """
        modules, compiled = self._sources(), paths.cache("go", "build")
        with (
            suppress(NotReached),
            alone(paths.cache("programs", "lock"), "another compilation on this machine", 0.0),
        ):
            if not compiled.exists():
                return
            aside, gone = modules.with_name("mod.kept"), modules.with_name("mod.gone")
            for left in (aside, gone):  # of a run that was killed
                _remove(left)
            for module in kept:
                there = self._unpacked(module)
                if self._whole(module):
                    there.chmod(0o755)  # Go takes it away: a folder that moves is written to
                    place = aside / there.relative_to(modules)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    there.rename(place)
            if modules.exists():  # at once: no module is ever there by halves
                modules.rename(gone)
            if aside.exists():
                aside.rename(modules)
            _remove(gone)
            _remove(compiled)

    def _sources(self) -> Path:
        return paths.cache("go", "mod")

    def _unpacked(self, module: str) -> Path:
        return self._sources() / f"{_escaped(module)}@{self.version(module)}"

    def _whole(self, module: str) -> bool:
        """Whether a module is unpacked, without Go's own mark beside it that says: not to its end."""
        versions = self._sources() / "cache" / "download" / _escaped(module) / "@v"
        half = versions / f"{self.version(module)}.partial"
        return self._unpacked(module).is_dir() and not half.exists()

    def build_for_images(self, platform: Platform) -> Path:
        """Build every program that goes into an image, for the platform of the node; the folder that has them.

        Where host and node are alike, this host's own tools are compiled with them: together is faster.
        """
        alike = platform == platforms.here()
        return self.build(
            *(name for name in self.programs if alike or name not in _NOT_IN_IMAGES), platform=platform
        )

    def build(self, *names: str, platform: Platform) -> Path:
        """Build the named programs that are not there yet; the folder that has them."""
        folder = self.bin_for(platform)
        # Two processes share the cache: the second waits, and finds what the first made.
        with alone(paths.cache("programs", "lock"), "another compilation on this machine", BUILD_LIMIT):
            missing = [name for name in names if not (folder / name).exists()]
            if missing:
                self._build(missing, folder, platform)
        return folder

    def _build(self, missing: list[str], target: Path, platform: Platform) -> None:
        target.mkdir(parents=True, exist_ok=True)
        for left in target.parent.glob("tmp*"):
            shutil.rmtree(left)  # of a run that was killed
        title = f"Compiling {missing[0]}" if len(missing) == 1 else f"Compiling {len(missing)} programs"
        with phase(title) as progress, tempfile.TemporaryDirectory(dir=target.parent) as folder:
            for group in ([n for n in missing if n != _ALONE], [n for n in missing if n == _ALONE]):
                if group:
                    self._compile(group, Path(folder), platform, progress.update)
            for name in missing:
                made = Path(folder, self.programs[name].rpartition("/")[2].replace("v3", "server"))
                made.replace(target / name)

    def _compile(
        self, names: list[str], folder: Path, platform: Platform, said: Callable[[str], None]
    ) -> None:
        packages = [self.programs[name] for name in names]
        env = {**self._env(), "GOOS": platform.os, "GOARCH": platform.arch}
        go = self.go()
        left = _packages(go, packages, self.folder, env, said)
        total, tail = len(left), ""
        command: list[str | Path] = [
            go,
            "build",
            "-v",
            # What a debugger wants is stripped from the programs anyway; not to compute it saves a seventh of the time.
            "-gcflags=all=-dwarf=false",
            "-ldflags",
            self.linker_flags(),
            "-o",
            f"{folder}/",
            *packages,
        ]
        with subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as build:
            try:
                for line in build.stderr or ():
                    tail = line if line.strip() else tail
                    left.discard(line.strip())
                    # Those that Go has compiled before it does not name: then it links while some are left.
                    said(f"{total - len(left)} of {total} packages" if left else "linking")
                code = build.wait(BUILD_LIMIT)
            except BaseException:
                build.terminate()
                raise
        if code:
            raise PlatformError(f"go build failed: {last_line(tail)}", _HINT)

    def linker_flags(self) -> str:
        """What the linker is told: no symbols, and the versions that the programs say they have."""
        # kubeadm refuses to work without a real version; setting them only relinks.
        k8s = self.version("k8s.io/kubernetes")
        major, minor = k8s.removeprefix("v").split(".")[:2]
        values: dict[str, str] = {}
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
            values |= {
                f"{package}.gitVersion": k8s,
                f"{package}.gitMajor": major,
                f"{package}.gitMinor": minor,
                f"{package}.gitTreeState": "clean",
                f"{package}.buildDate": "1970-01-01T00:00:00Z",
            }
        common = "github.com/argoproj/argo-cd/v3/common"
        values[f"{common}.version"] = self.version("github.com/argoproj/argo-cd/v3")
        values["helm.sh/helm/v4/internal/version.version"] = self.version("helm.sh/helm/v4")
        return "-s -w " + " ".join(f"-X {name}={value}" for name, value in values.items())

    def go(self) -> Path:
        """A Go toolchain that is new enough: the one on PATH, else a pinned wheel in the virtual environment."""
        found = re.search(r"^go (\S+)", self._mod, re.M)
        assert found  # noqa: S101
        own = Path(sys.prefix, "bin", "go")
        for candidate in (shutil.which("go"), own):
            if candidate and _is_at_least(Path(candidate), found[1]):
                return Path(candidate)
        lock = self.toolchain
        with phase("Installing Go") as progress:
            pip = "-m pip install --disable-pip-version-check --progress-bar=off --require-hashes -r"
            run([sys.executable, *pip.split(), lock], hint=_HINT, said=progress.update)
        if not _is_at_least(own, found[1]):
            raise PlatformError(
                f"go.mod asks for Go {found[1]}, and what {lock.name} installs is not that new",
                f"install Go {found[1]} or newer, or pin a newer wheel in {lock.name}",
            )
        return own

    def _env(self) -> dict[str, str]:
        return {
            "CGO_ENABLED": "0",
            "GOFLAGS": "-buildvcs=false -trimpath",
            "GOTOOLCHAIN": "local",
            "GOWORK": "off",  # a go.work above the checkout would name other modules
            "GOMODCACHE": str(self._sources()),
            "GOCACHE": str(paths.cache("go", "build")),
            # Each compiler, one a core, collects no garbage before it has so much of it: a fifth less time.
            "GOGC": "off",
            "GOMEMLIMIT": "768MiB",
        }


def _packages(
    go: Path, wanted: list[str], folder: Path, env: dict[str, str], said: Callable[[str], None]
) -> set[str]:
    """All packages that programs are compiled of; their modules are downloaded for that, which `said` is told of."""
    said("modules")
    modules: set[str] = set()

    def listen(line: str) -> None:
        if line.startswith("go: downloading "):
            modules.add(line)
            said(f"{len(modules)} modules downloaded: {line.split()[2]}")

    command = [str(go), "list", "-deps", *wanted]
    listed = run(command, hint=_HINT, limit=1800, cwd=folder, env=env, said=listen)
    # `unsafe` is in no file. What Go says besides has more than one word in a line.
    return {line for line in listed.splitlines() if len(line.split()) == 1} - {"unsafe"}


def _escaped(module: str) -> str:
    """A module's name as Go writes it into paths: the same on disks that know no capitals."""
    return re.sub("[A-Z]", lambda found: f"!{found[0].lower()}", module)


def _remove(folder: Path) -> None:
    """Go takes the right to write away from the folders of its modules."""
    for inside, _, _ in os.walk(folder):
        Path(inside).chmod(0o755)
    shutil.rmtree(folder, ignore_errors=True)


def _is_at_least(go: Path, wanted: str) -> bool:
    try:
        out = subprocess.run(
            [go, "env", "GOVERSION"],
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "GOTOOLCHAIN": "local"},
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    found, least = version(out), version(wanted)
    return found is not None and least is not None and found >= least


def version(text: str) -> semver.Version | None:
    """The Go version that a text names, ordered as Go does: 1.27 (the language), 1.27rc1, 1.27.0, 1.27.1."""
    found = re.search(r"(\d+)\.(\d+)(?:\.(\d+))?(?:(beta|rc)(\d+))?", text)
    if not found:
        return None
    major, minor, patch, stage, number = found.groups()
    before = f"{stage}.{number}" if stage else None if patch else "0"
    return semver.Version(int(major), int(minor), int(patch or 0), before)
