"""Who signs what: the build, each environment's tests, each approver; and where their keys are.

A local cluster's key pairs are made at `up` and kept in its state folder; pipeline.yaml may name a KMS.
"""

import os
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from delivery import pipeline as pipelines
from delivery.errors import PlatformError
from delivery.parts import cosign
from delivery.parts.credentials import write_private
from delivery.pipeline import Cluster


def create(cluster: Cluster) -> None:
    """Make the key pairs that are missing; safe to repeat, also after being killed."""
    pipeline = pipelines.load(cluster.root)
    missing = [
        name
        for name in pipeline.signed_by
        if name not in pipeline.signers and not all(file.exists() for file in _files(cluster, name))
    ]
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(lambda name: _make(cluster, name), missing))


def public(cluster: Cluster, name: str) -> Path:
    """The public key that verifies what `name` signed; PlatformError when it is not there."""
    signer = pipelines.load(cluster.root).signers.get(name)
    file = cluster.root / signer.public if signer else _files(cluster, name)[1]
    if not file.is_file():
        raise PlatformError(
            f"the public key of {name} is missing: {file}",
            "restore it: see signers in pipeline.yaml" if signer else "make the keys: delivery up",
        )
    return file


def private(cluster: Cluster, name: str) -> cosign.Key:
    """What `name` signs with; PlatformError when it is not on this machine."""
    signer = pipelines.load(cluster.root).signers.get(name)
    if signer:
        return cosign.Key(signer.key)
    password, _, key = _files(cluster, name)
    if not key.is_file() or not password.is_file():
        raise PlatformError(f"the key of {name} is not on this machine: {key}", "make the keys: delivery up")
    return cosign.Key(str(key), password)


def _files(cluster: Cluster, name: str) -> tuple[Path, Path, Path]:
    """Password, public key, key: in this order they come into being."""
    folder = cluster.state / "keys"
    return folder / f"{name}.password", folder / f"{name}.pub", folder / f"{name}.key"


def _make(cluster: Cluster, name: str) -> None:
    folder = cluster.state / "keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    password = secrets.token_urlsafe(24)
    work = folder / f".{name}.{os.getpid()}"
    work.mkdir(mode=0o700, exist_ok=True)
    try:
        cosign.generate(work / name, password)
        write_private(work / f"{name}.password", password)
        for file in _files(cluster, name):
            made = work / file.name
            made.chmod(0o600)
            made.replace(file)
    finally:
        shutil.rmtree(work, ignore_errors=True)
