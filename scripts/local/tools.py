"""kind, kubectl, helm and cosign for this host: which one is taken, and why.

What was compiled or fetched for this checkout comes first, then a program on PATH whose version is in the
range of scripts/local/versions.yaml. Else it is fetched, where its checksum is pinned and its host answers, or
compiled from its Go module. DELIVERY_TOOLS=pinned leaves PATH out: the same program on every machine.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import semver

from delivery.errors import BadInput, DeliveryError, PlatformError
from delivery.progress import note, phase
from local import paths, platforms, released
from local.images import catalog
from local.released import Tool

CHOICE = "DELIVERY_TOOLS"
NAMES = ("kind", "kubectl", "helm", "cosign")


def _plain(text: str) -> str:
    return text


def _git_version(text: str) -> str:
    data = json.loads(text)
    return str(data.get("clientVersion", data)["gitVersion"])


# How each tells its version: what it is asked, and where the version is in its answer.
_TELLS: dict[str, tuple[tuple[str, ...], Callable[[str], str]]] = {
    "kind": (("version", "--quiet"), _plain),
    "kubectl": (("version", "--client", "--output=json"), _git_version),
    "helm": (("version", "--template", "{{.Version}}"), _plain),
    "cosign": (("version", "--json"), _git_version),
}


@dataclass(frozen=True)
class Located:
    """Where a tool is, or that it is not there yet, and why it is this one."""

    name: str
    path: Path | None
    why: str


@cache
def path(name: str) -> Path:
    """Where the program is; fetches or compiles it when it is not there (minutes, once)."""
    return _have((name,))[name]


def ensure() -> None:
    """Have every tool; those that must be compiled are compiled together, which is faster."""
    _have(NAMES)


def look(name: str) -> Located:
    """What would be taken now; changes nothing."""
    tool, compiled = _tools()[name], catalog().module.bin / name
    if compiled.exists():
        return Located(name, compiled, f"{tool.version}, compiled for this checkout")
    checksum = tool.checksum(platforms.here())
    if checksum and (fetched := _shelf(tool, checksum)).exists():
        return Located(name, fetched, f"{tool.version}, fetched")
    chosen = os.environ.get(CHOICE, "auto")
    if chosen not in ("auto", "pinned"):
        raise BadInput(f"{CHOICE}={chosen} is unknown", f"{CHOICE} is auto or pinned")
    if chosen == "pinned":
        return Located(name, None, f"PATH is left out by {CHOICE}=pinned")
    on_path = shutil.which(name)
    if on_path is None:
        return Located(name, None, "not on PATH")
    said = _version(name, on_path)
    if said is None:
        return Located(name, None, f"{on_path} does not tell its version")
    if not tool.takes(said):
        return Located(name, None, f"{on_path} is {said}, outside {tool.words}")
    return Located(name, Path(on_path), f"{said}, on PATH, within {tool.words}")


def seen(name: str) -> str:
    """Which one is taken and why, in words; PlatformError while there is none yet."""
    found = look(name)
    if not found.path:
        raise PlatformError(
            f"not there yet: {found.why}",
            f"delivery up fetches or compiles it; or install {name} {_tools()[name].words}, first on PATH",
        )
    return f"{found.path} ({found.why})"


def _have(names: Iterable[str]) -> dict[str, Path]:
    found = {name: look(name) for name in names}
    there = {name: one.path for name, one in found.items() if one.path}
    missing = {name: one.why for name, one in found.items() if not one.path}
    return there | (_bring(missing) if missing else {})


def _bring(missing: dict[str, str]) -> dict[str, Path]:
    from local import fetch  # with its client for HTTP: a verb whose programs are there does without

    there, reasons = {}, {}
    for name, why in missing.items():
        try:
            there[name] = _fetch(_tools()[name], why)
        except fetch.NotFetched as error:
            reasons[name] = f"{why}; {error.message}"
    if reasons:
        for name, why in reasons.items():
            note(f"{name} {_tools()[name].version} is compiled: {why}")
        there |= _compile(reasons)
    return there


def _fetch(tool: Tool, why: str) -> Path:
    from local import fetch

    here = platforms.here()
    checksum = tool.checksum(here)
    if not checksum:
        other = tool.pinned.get("version")
        which = f"only {other} is pinned" if other else f"no checksum is pinned for {here}"
        raise fetch.NotFetched(which, "pin it: make pin")
    target = _shelf(tool, checksum)
    with phase(f"Fetching {tool.name} {tool.version} ({why})") as progress:
        place = tool.at(tool.url, here), checksum, target, tool.at(tool.member, here)
        fetch.program(tool.name, *place, progress=progress.update)
    return target


def _compile(reasons: dict[str, str]) -> dict[str, Path]:
    try:
        folder = catalog().module.build(*reasons, platform=platforms.here())
    except DeliveryError as error:
        name, why = next(iter(reasons.items()))
        raise PlatformError(
            f"{name} ({why}) could not be compiled either: {error.message}",
            f"install {name} {_tools()[name].words} and have it first on PATH; or {error.hint}",
        ) from None
    return {name: folder / name for name in reasons}


def _version(name: str, program: str) -> semver.Version | None:
    """What a program says of itself; None when it does not run, or says nothing that is a version."""
    arguments, read = _TELLS[name]
    try:
        done = subprocess.run(
            [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30
        )
        return semver.Version.parse(read(done.stdout).strip().removeprefix("v"))
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError, AttributeError):
        return None


def _shelf(tool: Tool, checksum: str) -> Path:
    return paths.cache("tools", checksum[:16], tool.name)


@cache
def _tools() -> dict[str, Tool]:
    return released.tools(catalog())
