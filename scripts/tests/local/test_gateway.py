"""The door before the registry, a real nginx before a real registry: who writes where, and what nobody does."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from delivery.parts.logins import Login
from local import credentials, services
from scripts.tests.shelf import HTTP, serving_registry
from scripts.tests.world import ROOT, SIGNERS

GATEWAY = ROOT / "scripts" / "local" / "gateway"
OCI = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
DSSE = "application/vnd.dsse.envelope.v1+json"
ATT = f"sha256-{'a' * 64}.att"
WRITERS = {"manual-app": "build", **{f"manual-app/{name}": name for name in SIGNERS}}


@dataclass(frozen=True)
class Door:
    """The registry as this host sees it, past nginx."""

    url: str

    def ask(self, who: str, method: str, path: str, **options: Any) -> httpx.Response:
        """One request with the login of `who`."""
        return HTTP.request(method, f"{self.url}/v2/{path}", auth=(who, f"password-{who}"), **options)

    def blob(self, who: str, repository: str, content: bytes) -> str:
        """A blob that is there afterwards; its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        begun = self.ask(who, "POST", f"{repository}/blobs/uploads/")
        assert begun.status_code == 202, begun.text
        location = httpx.URL(self.url).join(begun.headers["location"])
        ended = HTTP.put(
            location.copy_merge_params({"digest": digest}), content=content, auth=(who, f"password-{who}")
        )
        assert ended.status_code == 201, ended.text
        return digest

    def manifest(self, who: str, repository: str, *statements: str, **changes: Any) -> bytes:
        """A manifest with these as its layers, whose blobs are there."""
        config = self.blob(who, repository, b"{}")
        layers = [
            {
                "mediaType": DSSE,
                "size": len(one),
                "digest": self.blob(who, repository, one.encode()),
                "annotations": {"dev.cosignproject.cosign/signature": ""},
            }
            for one in statements
        ]
        made = {
            "schemaVersion": 2,
            "mediaType": OCI,
            "config": {"mediaType": CONFIG, "size": 2, "digest": config},
            "layers": layers,
        }
        return json.dumps(made | changes).encode()

    def put(self, who: str, path: str, body: bytes, kind: str = OCI) -> httpx.Response:
        """A manifest under a tag: REPOSITORY/manifests/TAG."""
        return self.ask(who, "PUT", path, content=body, headers={"Content-Type": kind})

    def get(self, path: str) -> bytes:
        """What a tag has."""
        answer = self.ask(credentials.READER, "GET", path, headers={"Accept": OCI})
        assert answer.status_code == 200, answer.text
        return answer.content


@pytest.fixture(scope="module")
def door(program: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """nginx with the gateway's own configuration; only addresses and paths are the test's."""
    nginx, folder = (
        os.environ.get("NGINX_PROGRAM") or shutil.which("nginx"),
        tmp_path_factory.mktemp("gateway"),
    )
    module = Path(os.environ.get("NGINX_MODULES", "/usr/lib/nginx/modules"), "ngx_http_js_module.so")
    if not nginx or not module.is_file():
        pytest.skip("no nginx with njs: apt-get install nginx-light libnginx-mod-http-js")
    names = (credentials.READER, *SIGNERS)
    (folder / "registry.htpasswd").write_bytes(
        services.htpasswd(Login(name, f"password-{name}") for name in names)
    )
    (folder / "writers.conf").write_text(services.writers((who, path) for path, who in WRITERS.items()))
    (folder / "guard.js").write_bytes((GATEWAY / "guard.js").read_bytes())
    (folder / "temporary").mkdir()
    with serving_registry(program("registry"), folder) as registry:
        port = _free()
        text = (GATEWAY / "nginx.conf").read_text()
        for old, new in {
            "/usr/lib/nginx/modules/ngx_http_js_module.so": str(module),
            "user www-data;": "user root;" if os.geteuid() == 0 else "",
            "/dev/stderr": f"{folder}/nginx.log",
            "/etc/nginx/": f"{folder}/",
            "$registry:5000": f"127.0.0.1:{registry}",
            "listen 5001;": f"listen 127.0.0.1:{port};",
            **{f"listen {one};": f"listen 127.0.0.1:{_free()};" for one in (80, 3000, 5000)},
            "events {}": f"pid {folder}/pid; events {{}}",
            "http {": "http {"
            + "".join(
                f"{one}_temp_path {folder}/temporary;"
                for one in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ),
        }.items():
            assert old in text, old
            text = text.replace(old, new)
        (folder / "nginx.conf").write_text(text)
        command = [
            nginx,
            "-p",
            folder,
            "-c",
            folder / "nginx.conf",
            "-e",
            folder / "nginx.log",
            "-g",
            "daemon off;",
        ]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                yield _answering(f"http://127.0.0.1:{port}", folder)
            finally:
                process.terminate()


def _free() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _answering(url: str, folder: Path) -> Door:
    for _ in range(100):
        try:
            assert HTTP.get(f"{url}/v2/").status_code == 401
            return Door(url)
        except httpx.TransportError:
            time.sleep(0.05)
    log = folder / "nginx.log"
    raise AssertionError(log.read_text() if log.exists() else "nginx does not start")


@pytest.mark.parametrize("who", [credentials.READER, *SIGNERS])
@pytest.mark.parametrize("repository", [*WRITERS, "another"])
def test_each_login_writes_what_is_its_own(door: Door, who: str, repository: str) -> None:
    """dev's login pushes no evidence of stage, nobody but the build pushes the image, and everybody reads."""
    allowed = WRITERS.get(repository) == who
    begun = door.ask(who, "POST", f"{repository}/blobs/uploads/")
    assert begun.status_code == (202 if allowed else 403), begun.text
    if allowed:
        tag = f"{repository}/manifests/of-{who}"
        assert door.put(who, tag, door.manifest(who, repository, who)).status_code == 201
    else:
        assert begun.json()["errors"][0] == {
            "code": "DENIED",
            "message": f"{who} does not write {repository}",
        }
        made = f"{repository}/manifests/by-{who}"
        assert door.put(who, made, b"{}").status_code == 403
        assert door.ask(who, "GET", made).status_code == 404
    assert door.ask(who, "GET", "").status_code == 200
    assert door.ask(who, "GET", f"{repository}/tags/list").status_code in (200, 404)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_nobody_without_a_password(door: Door, method: str) -> None:
    """The right name is not enough, for reading neither."""
    path = {"GET": "manual-app/tags/list", "POST": "manual-app/blobs/uploads/"}.get(
        method, "manual-app/manifests/1"
    )
    for auth in (None, ("build", "guess")):
        assert HTTP.request(method, f"{door.url}/v2/{path}", auth=auth).status_code == 401


@pytest.mark.parametrize("path", ["manifests/{digest}", "manifests/{tag}", "blobs/{blob}"])
def test_nobody_deletes(door: Door, path: str) -> None:
    """Not even the writer of a repository takes a manifest, a tag or a blob away."""
    body = door.manifest("stage", "manual-app/stage", "FAILED")
    assert door.put("stage", f"manual-app/stage/manifests/{ATT[:-5]}d.att", body).status_code == 201
    known = {
        "digest": f"sha256:{hashlib.sha256(body).hexdigest()}",
        "tag": f"{ATT[:-5]}d.att",
        "blob": json.loads(body)["layers"][0]["digest"],
    }
    told = f"manual-app/stage/{path.format_map(known)}"
    for who in ("stage", "build", credentials.READER):
        assert door.ask(who, "DELETE", told).status_code == 405
    assert door.ask("dev", "GET", told, headers={"Accept": OCI}).status_code == 200


def _tag(letter: str) -> str:
    return f"manual-app/stage/manifests/sha256-{letter * 64}.att"


def test_to_statements_is_only_added(door: Door) -> None:
    """A result that was once attached stays: its writer adds to it, and can neither leave out nor replace."""
    tag, make = _tag("b"), lambda *texts, **rest: door.manifest("stage", "manual-app/stage", *texts, **rest)
    assert door.put("stage", tag, make("FAILED")).status_code == 201
    both = make("FAILED", "PASSED")
    assert door.put("stage", tag, both).status_code == 201
    assert door.put("stage", tag, both).status_code == 201, "the same again changes nothing"
    for fewer in (make("PASSED"), make(), make("FAILED", "another")):
        answer = door.put("stage", tag, fewer)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (403, "DENIED")
    assert door.get(tag) == both
    assert door.put("stage", tag, make("PASSED", "more", "FAILED")).status_code == 201


def test_there_is_no_end_of_statements(door: Door) -> None:
    """A digest that was tested three hundred times can be tested once more: what is there may be long."""
    tag, runs = _tag("f"), [f"run {n}" for n in range(301)]
    for count in (300, 301):
        manifest = door.manifest("stage", "manual-app/stage", *runs[:count])
        assert door.put("stage", tag, manifest).status_code == 201
    assert door.get(tag) == manifest
    assert len(manifest) > 60_000


def test_no_spelling_of_a_manifest_hides_a_statement(door: Door) -> None:
    """What Go's reader would take for another list, or for a statement without its signature, is refused."""
    tag = _tag("c")
    whole = door.manifest("stage", "manual-app/stage", "FAILED")
    assert door.put("stage", tag, whole).status_code == 201
    manifest = json.loads(whole)
    [layer] = manifest["layers"]
    empty = json.dumps(manifest | {"layers": []}).encode()
    for hidden in (
        json.dumps(manifest | {"Layers": []}).encode(),
        json.dumps(manifest | {"layer\u017f": []}).encode(),
        json.dumps(manifest | {"layers": [layer | {"Digest": "sha256:0"}]}).encode(),
        json.dumps(manifest | {"layers": [layer | {"annotations": {}}]}).encode(),
        json.dumps(manifest | {"layers": [layer | {"mediaType": "text/plain"}]}).encode(),
        json.dumps(manifest | {"manifests": []}).encode(),
        whole[:-1] + b', "layers": []}',
        b"\xff" + whole,
        b"",
        empty,
    ):
        assert door.put("stage", tag, hidden).status_code in (400, 403), hidden
    assert door.get(tag) == whole


@pytest.mark.parametrize("kind", [OCI, "application/vnd.docker.distribution.manifest.v2+json"])
def test_a_tag_is_never_moved(door: Door, kind: str) -> None:
    """A build number names one digest for good, whatever kind of manifest it is, also for the build itself."""
    tag = f"manual-app/manifests/{len(kind)}"
    one = door.manifest("build", "manual-app", "one", mediaType=kind)
    other = door.manifest("build", "manual-app", "other", mediaType=OCI)
    assert door.put("build", tag, one, kind).status_code == 201
    assert door.put("build", tag, one, kind).status_code == 201
    refused = door.put("build", tag, other)
    assert refused.status_code == 403
    assert "never moved" in refused.json()["errors"][0]["message"]
    there = door.ask("dev", "GET", tag, headers={"Accept": kind})
    assert there.content == one
    digest = f"sha256:{hashlib.sha256(other).hexdigest()}"
    assert door.put("build", f"manual-app/manifests/{digest}", other).status_code == 201, "nothing moves"


@pytest.mark.parametrize(
    "path",
    [
        "manual-app/dev/../stage/manifests/x",
        "manual-app/dev/%2e%2e/stage/manifests/x",
        "manual-app%2Fstage/manifests/x",
        "manual-app//stage/manifests/x",
        "manual-app/stage/./manifests/x",
        "manual-app/stage/manifests/x?repository=manual-app/dev",
        "manual-app/stage/manifests/x%00",
        "manual-app/stage/manifests/x%3Ftag=y",
        "manual-app/STAGE/manifests/x",
    ],
)
def test_no_spelling_of_a_path_leads_elsewhere(door: Door, path: str) -> None:
    """However dev's login spells the path: nothing of stage's is written."""
    body = door.manifest("dev", "manual-app/dev", "x")
    host, _, port = door.url.removeprefix("http://").partition(":")
    word = base64.b64encode(b"dev:password-dev").decode()
    head = f"PUT /v2/{path} HTTP/1.0\r\nHost: {host}\r\nAuthorization: Basic {word}\r\n"
    head += f"Content-Type: {OCI}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode() + body)
        status = connection.recv(4096).split()[1]
    assert status in (b"400", b"403", b"404", b"405")
    assert door.ask("dev", "GET", "manual-app/stage/manifests/x", headers={"Accept": OCI}).status_code == 404


def test_of_many_at_once_none_is_lost(door: Door) -> None:
    """Writers that add at the same time: each that was told yes is there at the end."""
    tag = _tag("e")
    bodies = {n: door.manifest("stage", "manual-app/stage", f"run {n}") for n in range(12)}
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda n: (n, door.put("stage", tag, bodies[n]).status_code), bodies))
    taken = [n for n, status in answers if status == 201]
    assert {status for _, status in answers} <= {201, 403, 429}
    assert len(taken) == 1, "each of them leaves the others out"
    assert door.get(tag) == bodies[taken[0]]
