"""python -m e2e.online [--store containerd|classic] [--keep]: `make demo` on a laptop, once for each image store.

From an empty image store to PROVEN as an ordinary user, then the main story's journeys on the cluster that it left.
Ends with the times and sizes; logs are in .delivery/online/.
"""

import argparse
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from delivery import pipeline as pipelines
from delivery.errors import DeliveryError
from e2e.online.laptop import CHECKOUT, ImageStore, Laptop, laptop
from e2e.online.public import Public
from e2e.online.world import World, world
from local import host, images

_DEMO_LIMIT = 2400.0
_VENV_LIMIT = 900.0
_JOURNEYS = "e2e/test_flow.py"


@dataclass(frozen=True)
class Result:
    """What one run took."""

    store: str
    demo: float
    journeys: float
    used: int


def main() -> None:
    """Both stores, or the one that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m e2e.online")
    parser.add_argument("--store", choices=[store.value for store in ImageStore], action="append")
    parser.add_argument(
        "--keep", action="store_true", help="wait for Enter before the laptop goes, for a look"
    )
    options = parser.parse_args()
    stores = [ImageStore(name) for name in options.store or [store.value for store in ImageStore]]
    root = pipelines.root()
    folder = root / ".delivery" / "online"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    host.ensure_docker()
    public = Public()
    local = public.make()
    names = public.names()
    results = []
    with world(folder, local["registry"], public.web(), names) as outside:
        pinned = outside.publish(local, names)
        downloads = public.downloads()
        outside.offer(downloads)
        bundle = _checkout(root, folder, public.versions(pinned, downloads))
        for store in stores:
            results.append(_run(folder, store, outside, bundle, options.keep))
    for result in results:
        print(
            f"{result.store} image store: make demo PROVEN in {result.demo:.0f} s, journeys passed in "
            f"{result.journeys:.0f} s, {result.used / 1e9:.1f} GB of disk used"
        )


def _checkout(root: Path, folder: Path, versions: str) -> bytes:
    """This commit and, on top, the digests that the test's registries have, as a bundle to clone from."""
    path = folder / "checkout"
    shutil.rmtree(path, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", root, path], check=True)
    (path / "scripts" / "local" / "versions.yaml").write_text(versions, encoding="utf-8")
    git = ["git", "-C", str(path), "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run([*git, "checkout", "--quiet", "-B", "main"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--all", "--message", "versions of the test"], check=True)
    bundle = folder / "checkout.bundle"
    subprocess.run([*git, "bundle", "create", "--quiet", bundle.absolute(), "HEAD", "main"], check=True)
    return bundle.read_bytes()


def _run(folder: Path, store: ImageStore, outside: World, bundle: bytes, keep: bool) -> Result:
    log = folder / f"{store}.log"
    log.unlink(missing_ok=True)
    print(f"-- a laptop with the {store} image store; its log: {log}", flush=True)
    with laptop(folder, store, outside) as machine:
        machine.put("/tmp", {"checkout.bundle": bundle})
        machine.root("su", "ada", "-c", f"git clone -q -b main /tmp/checkout.bundle '{CHECKOUT}'")
        try:
            return _story(machine, store, outside, log)
        finally:
            log.with_suffix(".world.log").write_text(outside.log(), encoding="utf-8")
            if keep and sys.stdin.isatty():
                input("the laptop is there until you press Enter")


def _story(machine: Laptop, store: ImageStore, outside: World, log: Path) -> Result:
    driver = machine.user("docker info --format '{{.Driver}} {{.DriverStatus}}'", 60)
    assert ("io.containerd.snapshotter" in driver) == (store is ImageStore.containerd), driver
    assert not machine.user("docker images --quiet", 60), "the image store must be empty"
    prepared = time.monotonic()
    machine.user("make .venv/ready", _VENV_LIMIT, log)
    prepared = time.monotonic() - prepared
    _unknown_authority(machine)
    machine.trust(outside.authority)
    started = time.monotonic()
    # One store with BuildKit, which the laptop has, the other with the classic builder, which an older one has alone.
    builder = "buildkit" if store is ImageStore.containerd else "classic"
    said = machine.user(f"DELIVERY_BUILDER={builder} make demo", _DEMO_LIMIT, log)
    demo = prepared + time.monotonic() - started
    assert "PROVEN" in said
    assert "Compiling" not in said, "a laptop fetches what its PATH lacks"
    # The same commands again find everything done and well, and the pins as they are.
    again = machine.user(
        "make --silent doctor && .venv/bin/delivery verify && .venv/bin/delivery pin --images && git diff --exit-code",
        300,
        log,
    )
    assert "MISMATCH" not in again
    assert "UNKNOWN" not in again
    _stranger(machine)
    started = time.monotonic()
    machine.user(f".venv/bin/python -m pytest {_JOURNEYS} --reuse local", 900, log)
    return Result(store.value, demo, time.monotonic() - started, machine.used)


def _unknown_authority(machine: Laptop) -> None:
    """Where a proxy re-signs TLS and Docker does not know it, that is what is said, and nothing is left behind."""
    said = machine.user(".venv/bin/delivery up; echo exit $?", 120)
    assert "certificate" in said.partition("hint: ")[0], said
    assert "exit 4" in said, said
    assert not machine.user("docker images --quiet", 60), "nothing was pulled"


def _stranger(machine: Laptop) -> None:
    """A user who may not use Docker's socket is told so, not that there is no Docker."""
    without = f"cd '{CHECKOUT}' && .venv/bin/delivery up; echo exit $?"
    said = machine.root(
        "setpriv", "--reuid=ada", "--regid=ada", "--clear-groups", "sh", "-c", f"{without} 2>&1"
    )
    assert "this user may not use /var/run/docker.sock" in said, said
    assert "usermod -aG docker" in said, said
    assert "exit 4" in said, said


if __name__ == "__main__":
    try:
        images.catalog()
        main()
    except DeliveryError as error:
        sys.exit(f"error: {error.message}\nhint: {error.hint}")
