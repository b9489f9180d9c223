"""Helm, through pyhelm3: render the chart as Argo CD would, and lint it."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyhelm3 import Command
from pyhelm3.errors import Error

from delivery.errors import BadInput, PlatformError
from delivery.parts import documents, programs

SECONDS = 60
logging.getLogger("pyhelm3").addHandler(logging.NullHandler())  # our errors say what it would log


class DoesNotRender(BadInput):
    """The chart with these values is not valid; the message has Helm's reason."""


def template(
    chart: Path, values: Path, release: str, namespace: str, instead: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The manifests of the chart with one values file, hooks included; `instead` sets values on top."""
    command = ["template", release, chart, "--values", values, "--namespace", namespace, *_set(instead)]
    return documents.every(_run(command, values.name))


def lint(chart: Path, values: Path, instead: Mapping[str, str] | None = None) -> None:
    """Return when `helm lint --strict` has nothing to say."""
    _run(["lint", "--strict", "--quiet", chart, "--values", values, *_set(instead)], values.name)


def _set(values: Mapping[str, str] | None) -> list[str]:
    return [word for key, value in (values or {}).items() for word in ("--set-string", f"{key}={value}")]


def _run(command: list[Any], what: str) -> bytes:
    helm = Command(executable=str(programs.path("helm")))
    try:
        return asyncio.run(asyncio.wait_for(helm.run(command), SECONDS))
    except TimeoutError:
        raise PlatformError(
            f"helm {command[0]} {what} did not finish within {SECONDS} s", "run it again"
        ) from None
    except Error as error:
        raw = (error.stderr + b"\n" + error.stdout).decode("utf-8", "replace")
        if error.returncode in (126, 127):
            raise PlatformError(f"helm does not run: {_reason(raw)}", "fetch it: delivery up") from None
        raise DoesNotRender(
            f"helm {command[0]} {what}: {_reason(raw)}", "mend the chart or the values file that it names"
        ) from None


def _reason(text: str) -> str:
    lines = [line.strip().removeprefix("Error: ") for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("==>", "Use --debug"))]
    return "; ".join(dict.fromkeys(lines))[:500]
