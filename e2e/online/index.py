"""Push an image the way the public registries hold one: an OCI index of two platforms and an attestation."""

import gzip
import hashlib
import json
import tarfile
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import httpx

from delivery.parts import docker

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
Object = dict[str, Any]


@dataclass(frozen=True)
class Store:
    """A registry of the test, over plain HTTP on this machine."""

    host: str

    def push(self, local: str, repository: str, tag: str) -> str:
        """Push a local image as REPOSITORY:TAG; the digest of its index."""
        client = docker.client(seconds=900)
        try:
            client.images.get(local).tag(f"{self.host}/{repository}", f"{tag}-amd64")
            for message in client.api.push(
                f"{self.host}/{repository}", tag=f"{tag}-amd64", stream=True, decode=True
            ):
                assert "error" not in message, message["error"]
            client.images.remove(f"{self.host}/{repository}:{tag}-amd64")
        finally:
            client.close()
        with httpx.Client(
            base_url=f"http://{self.host}/v2/{repository}/", timeout=60, trust_env=False
        ) as http:
            amd64 = _oci(http, f"{tag}-amd64")
            arm64 = _dummy(http)
            attestation = _attestation(http, amd64["digest"])
            index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [amd64, arm64, attestation]}
            return str(_manifest(http, tag, index, _INDEX)["digest"])


def _oci(http: httpx.Client, tag: str) -> Object:
    """Docker's own manifest, said in OCI's words: the same config, the same layers."""
    found = http.get(f"manifests/{tag}", headers={"Accept": _DOCKER}).raise_for_status().json()
    config = found["config"] | {"mediaType": _CONFIG}
    layers = [layer | {"mediaType": _LAYER} for layer in found["layers"]]
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": layers}
    return _manifest(http, "", manifest) | {"platform": {"architecture": "amd64", "os": "linux"}}


def _dummy(http: httpx.Client) -> Object:
    """An arm64 that no amd64 machine ever fetches."""
    empty = BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    config = {
        "architecture": "arm64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [_digest(empty.getvalue())]},
    }
    layer = _blob(http, gzip.compress(empty.getvalue(), mtime=0), _LAYER)
    manifest = {"config": _blob(http, json.dumps(config).encode(), _CONFIG), "layers": [layer]}
    return _manifest(http, "", {"schemaVersion": 2, "mediaType": _MANIFEST, **manifest}) | {
        "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}
    }


def _attestation(http: httpx.Client, about: str) -> Object:
    """What BuildKit puts beside an image: a manifest of no platform."""
    config = _blob(http, json.dumps({"architecture": "unknown", "os": "unknown"}).encode(), _CONFIG)
    statement = {"_type": "https://in-toto.io/Statement/v0.1", "subject": [], "predicate": {}}
    layer = _blob(http, json.dumps(statement).encode(), "application/vnd.in-toto+json")
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": [layer]}
    return _manifest(http, "", manifest) | {
        "platform": {"architecture": "unknown", "os": "unknown"},
        "annotations": {
            "vnd.docker.reference.digest": about,
            "vnd.docker.reference.type": "attestation-manifest",
        },
    }


def _manifest(http: httpx.Client, tag: str, content: Object, media_type: str = _MANIFEST) -> Object:
    body = json.dumps(content).encode()
    digest = _digest(body)
    answer = http.put(f"manifests/{tag or digest}", content=body, headers={"Content-Type": media_type})
    answer.raise_for_status()
    return {"mediaType": media_type, "digest": digest, "size": len(body)}


def _blob(http: httpx.Client, body: bytes, media_type: str) -> Object:
    digest = _digest(body)
    begun = http.post("blobs/uploads/").raise_for_status()
    where = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest})
    http.put(where, content=body).raise_for_status()
    return {"mediaType": media_type, "digest": digest, "size": len(body)}


def _digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
