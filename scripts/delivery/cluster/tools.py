"""kind, kubectl, helm and cosign at the pinned version: from PATH where that is the one, else compiled."""

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from delivery.cluster.images import catalog

# Program -> (the module whose version counts, how it tells its own).
_ON_PATH = {
    "kind": ("sigs.k8s.io/kind", ("version", "-q")),
    "kubectl": ("k8s.io/kubernetes", ("version", "--client", "-o", "json")),
    "helm": ("helm.sh/helm/v4", ("version", "--template", "{{.Version}}")),
    "cosign": ("github.com/sigstore/cosign/v3", ("version", "--json")),
}


@cache
def path(name: str) -> Path:
    """Where the program is; compiles it when it was not there (minutes, once)."""
    module = catalog().module
    if (module.bin / name).exists():
        return module.bin / name
    if name in _ON_PATH and (found := shutil.which(name)):
        wanted, question = _ON_PATH[name]
        if _says(found, question, module.version(wanted).removeprefix("v")):
            return Path(found)
    return module.build(*(_ON_PATH if name in _ON_PATH else (name,))) / name


def _says(program: str, question: tuple[str, ...], version: str) -> bool:
    try:
        answer = subprocess.run([program, *question], capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    return bool(re.search(rf"(?<![\d.]){re.escape(version)}(?![\d.])", answer))
