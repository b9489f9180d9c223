"""The Debian base of every image on a machine without a container registry: a slim debootstrap."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from local import host, paths
from local.shell import run

_HINT = "look at the Debian package sources of this machine, then run it again"
_UNUSED = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    *(f"usr/share/{d}" for d in ("doc", "man", "locale", "info")),
)


def rootfs(suite: str, said: Callable[[str], None] = lambda step: None) -> Path:
    """A tar file with a minimal Debian, made once; whole or not there. `said` is told what debootstrap does."""
    made = paths.cache("debian", f"{suite}.tar")
    if made.exists():
        return made
    if not shutil.which("debootstrap"):
        host.install("debootstrap", said=said)
    made.parent.mkdir(parents=True, exist_ok=True)
    for left in made.parent.glob("tmp*"):
        shutil.rmtree(left)  # of a run that was killed
    sources = package_sources(suite)
    with tempfile.TemporaryDirectory(dir=made.parent) as folder:
        root = Path(folder, "root")
        mirror = [sources[0].split()[1]] if sources else []
        command = ["debootstrap", "--variant=minbase", suite, str(root), *mirror]
        run(command, hint=_HINT, limit=1800, said=lambda line: said(line.removeprefix("I: ")))
        said("packing it")
        for unused in _UNUSED:
            shutil.rmtree(root / unused, ignore_errors=True)
            (root / unused).mkdir(mode=0o755)
        if sources:
            (root / "etc/apt/sources.list").write_text("\n".join(sources) + "\n")
        packed = Path(folder, "rootfs.tar")
        run(["tar", "--numeric-owner", "-C", root, "-cf", packed, "."], hint=_HINT)
        packed.replace(made)
    return made


def package_sources(suite: str) -> list[str]:
    """This host's own sources of that suite, security updates too; none when it runs another system."""
    if not shutil.which("apt-get"):
        return []
    fields = "$(SITE)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(REPO_URI)"
    listed = run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"], hint=_HINT)
    found: dict[tuple[bool, str, str], set[str]] = {}
    for line in listed.splitlines():
        _, release, component, _, uri = line.split("|")
        if release == suite or release.startswith(f"{suite}-"):
            found.setdefault((release != suite, uri.rstrip("/"), release), set()).add(component)
    if not any(release == suite for _, _, release in found):
        return []
    return [
        f"deb {uri} {release} {' '.join(sorted(components))}"
        for (_, uri, release), components in sorted(found.items())
    ]
