"""The Debian base of every image on a machine without a container registry: a slim debootstrap."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from delivery.errors import PlatformError
from local import host, paths
from local.shell import last_line, run

_HINT = "look at the Debian package sources of this machine, then run it again"
_UNUSED = (
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/log",
    *(f"usr/share/{d}" for d in ("doc", "man", "locale", "info")),
)


def rootfs(suite: str) -> Path:
    """A tar file with a minimal Debian, made once; whole or not there."""
    made = paths.cache("debian", f"{suite}.tar")
    if made.exists():
        return made
    if not shutil.which("debootstrap"):
        host.install("debootstrap")
    made.parent.mkdir(parents=True, exist_ok=True)
    for left in made.parent.glob("tmp*"):
        shutil.rmtree(left)  # of a run that was killed
    sources = package_sources(suite)
    with tempfile.TemporaryDirectory(dir=made.parent) as folder:
        root = Path(folder, "root")
        mirror = [sources[0].split()[1]] if sources else []
        command = ["debootstrap", "--variant=minbase", suite, str(root), *mirror]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=1800)
        if done.returncode:
            raise PlatformError(f"debootstrap failed: {last_line(done.stdout + done.stderr)}", _HINT)
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
