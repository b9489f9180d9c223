"""The registry of tests, a real one, and a way to put tiny images on it."""

import atexit
import hashlib
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

# One for the session: to make a client takes longer than to ask, and so does reading the authorities of TLS, which
# nobody asks here.
HTTP = httpx.Client(trust_env=False, verify=False)
atexit.register(HTTP.close)


@dataclass(frozen=True)
class Shelf:
    """A repository in a real registry with a login, and a way to put tiny images into it."""

    port: int
    repository: str
    folder: Path  # the registry's own

    @property
    def name(self) -> str:
        """HOST/PATH, as the tests reach it."""
        return f"localhost:{self.port}/{self.repository}"

    def blob(self, digest: str) -> Path:
        """The file that the registry keeps it in."""
        algorithm, _, number = digest.partition(":")
        return self.folder / "registry/docker/registry/v2/blobs" / algorithm / number[:2] / number / "data"

    def push(
        self,
        build: str,
        revision: str,
        *tags: str,
        version: str = "1.2.3",
        layer: bytes = b"",
        architecture: str = "amd64",
    ) -> str:
        """An image that says of itself what ours say, under these tags; its digest."""
        labels = {"delivery.build": build, "org.opencontainers.image.version": version}
        said = {"Labels": labels | {"org.opencontainers.image.revision": revision}}
        config = json.dumps({"architecture": architecture, "os": "linux", "config": said}).encode()
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        manifest = {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": self._blob(config, "application/vnd.docker.container.image.v1+json"),
            "layers": [self._blob(layer, "application/vnd.docker.image.rootfs.diff.tar.gzip")],
        }
        return self.put(manifest, *tags)

    def index(self, children: dict[str, str], *tags: str) -> str:
        """An index as `docker buildx build --platform … --push` makes it: digest -> platform; its digest.

        What is for `unknown/unknown` is an attestation about the first.
        """
        kind = "application/vnd.oci.image.index.v1+json"
        listed = []
        for digest, platform in children.items():
            size = len(self.ask("GET", f"manifests/{digest}", headers={"Accept": "*/*"}).content)
            system, architecture = platform.split("/")
            one: dict[str, object] = {
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "digest": digest,
                "size": size,
                "platform": {"os": system, "architecture": architecture},
            }
            if system == "unknown":
                one["annotations"] = {"vnd.docker.reference.type": "attestation-manifest"}
            listed.append(one)
        return self.put({"schemaVersion": 2, "mediaType": kind, "manifests": listed}, *tags)

    def put(self, manifest: dict[str, Any], *tags: str) -> str:
        """A manifest or an index under these tags, or under its digest alone; its digest."""
        body = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        for tag in tags or (digest,):
            headers = {"Content-Type": manifest["mediaType"]}
            self.ask("PUT", f"manifests/{tag}", content=body, headers=headers)
        return digest

    def ask(self, method: str, path: str, **options: object) -> httpx.Response:
        """One request to the repository."""
        url = path if path.startswith("http") else f"http://localhost:{self.port}/v2/{self.repository}/{path}"
        options = {"auth": ("delivery", "secret"), **options}
        return HTTP.request(method, url, **options).raise_for_status()  # type: ignore[arg-type]

    def _blob(self, content: bytes, kind: str) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        upload = self.ask("POST", "blobs/uploads/").headers["location"]
        self.ask("PUT", str(httpx.URL(upload).copy_merge_params({"digest": digest})), content=content)
        return {"mediaType": kind, "size": len(content), "digest": digest}


@contextmanager
def serving_registry(program: Path, folder: Path, settings: str = "") -> Iterator[int]:
    """The real registry over plain HTTP, with its files and its log in a folder; its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "registry.yml").write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/registry}}, delete: {{enabled: true}}}}\n"
        f"http:\n  addr: localhost:{port}\n{settings}"
    )
    command = [str(program), "serve", str(folder / "registry.yml")]
    with (
        open(folder / "registry.log", "w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            for _ in range(200):
                try:
                    HTTP.get(f"http://localhost:{port}/v2/")
                    break
                except httpx.TransportError:
                    time.sleep(0.02)
            yield port
        finally:
            process.kill()
