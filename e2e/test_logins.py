"""Who may write what where, in the registry and in Git: each login tries what is another's, and what is nobody's."""

import json
import os
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from delivery.parts import git, programs
from delivery.pipeline import BUILD
from delivery.signed import ledger
from e2e.conftest import Build
from e2e.delivery import Checkout
from local import credentials

OCI = "application/vnd.oci.image.manifest.v1+json"
KINDS = f"{OCI}, application/vnd.docker.distribution.manifest.v2+json"
LEDGER = f"refs/heads/{ledger.BRANCH}"
_SCRATCH = secrets.token_hex(32)  # a digest that nobody has

# One request as somebody: name, method, what stands below /v2/APP/.
Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(platform: Checkout) -> Iterator[Ask]:
    """One request to the registry with the login of somebody."""
    logins = credentials.create(platform.cluster).registry
    with httpx.Client(trust_env=False, timeout=20) as client:

        def one(who: str, method: str, path: str, **options: Any) -> httpx.Response:
            login = logins[who]
            url = f"http://{platform.cluster.registry_host}/v2/{platform.app}{path}"
            options.setdefault("headers", {"Accept": KINDS})
            return client.request(method, url, auth=(login.username, login.password), **options)

        yield one


@pytest.fixture(autouse=True)
def nothing_is_gone(platform: Checkout, prod: Build, ask: Ask) -> Iterator[None]:
    """After each attempt every statement, every tag and every branch is what it was."""
    before = (_registry(platform, prod, ask), _refs(platform))
    yield
    assert (_registry(platform, prod, ask), _refs(platform)) == before


def _registry(platform: Checkout, build: Build, ask: Ask) -> dict[str, bytes]:
    found = {}
    for name in platform.pipeline.signed_by:
        answer = ask(credentials.READER, "GET", _statements(build, name))
        assert answer.status_code in (200, 404)
        found[name] = answer.content
    assert found[BUILD] != found["stage"]
    return found | {build.number: ask(credentials.READER, "GET", f"/manifests/{build.number}").content}


def _refs(platform: Checkout) -> dict[str, str]:
    lines = platform.git("ls-remote", platform.cluster.git_url).splitlines()
    return {ref: commit for commit, ref in (line.split("\t") for line in lines)}


def _statements(build: Build, name: str) -> str:
    return f"/{name}/manifests/{build.digest.replace(':', '-')}.att"


def _put(ask: Ask, who: str, path: str, content: bytes) -> httpx.Response:
    return ask(who, "PUT", path, content=content, headers={"Content-Type": OCI})


def test_each_login_writes_its_own_alone(platform: Checkout, prod: Build, ask: Ask) -> None:
    """dev's login pushes no evidence of stage, no gate enters another's environment, none but build the image."""
    names = platform.pipeline.signed_by
    for who in (credentials.READER, *names):
        for other in ("", *(f"/{name}" for name in names)):
            own = other == f"/{who}" or (other == "" and who == BUILD)
            begun = ask(who, "POST", f"{other}/blobs/uploads/")
            assert begun.status_code == (202 if own else 403), (who, other)
            if not own:
                assert begun.json()["errors"][0]["code"] == "DENIED"
                there = ask(who, "GET", _statements(prod, "stage")).content
                assert _put(ask, who, f"{other}/manifests/{prod.number}", there).status_code == 403


def test_cosign_with_devs_login_attaches_nothing_to_stages(platform: Checkout, prod: Build) -> None:
    """The tool that everybody uses is refused just so, with the very envelope that stage signed."""
    site = platform.context.site
    own = site.logged_in(site.statements_of("stage"), "stage")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "envelope.json")
        signed = next((site.state / "statements").rglob("stage-*.json"))
        file.write_bytes(signed.read_bytes())
        for who, says in (("dev", "DENIED"), ("approver", "DENIED"), (credentials.READER, "DENIED")):
            config = (
                platform.cluster.docker_config
                if who == credentials.READER
                else platform.cluster.docker_config_of(who)
            )
            done = subprocess.run(
                [
                    programs.path("cosign"),
                    "attach",
                    "attestation",
                    "--attestation",
                    file,
                    site.image.at(prod.digest),
                ],
                env={**os.environ, "DOCKER_CONFIG": str(config), "COSIGN_REPOSITORY": own.here},
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode, f"{who} attached to {own.here}"
            assert says in done.stderr


@pytest.mark.parametrize("role", ["build", "dev", "stage", "gate-prod", "approver", credentials.READER])
def test_nobody_deletes(platform: Checkout, prod: Build, ask: Ask, role: str) -> None:
    """Neither a manifest, nor a tag, nor a blob, not even in one's own repository: 405, as the registry says it."""
    names = ["", "/build", "/stage"] + ([f"/{role}"] if role != credentials.READER else [])
    for name in names:
        tag = prod.number if name == "" else f"{prod.digest.replace(':', '-')}.att"
        there = ask(role, "GET", f"{name}/manifests/{tag}")
        digest = there.headers.get("docker-content-digest", prod.digest)
        blob = there.json()["layers"][0]["digest"] if there.status_code == 200 else prod.digest
        for path in (f"manifests/{digest}", f"manifests/{tag}", f"blobs/{blob}"):
            assert ask(role, "DELETE", f"{name}/{path}").status_code == 405, path
        if there.status_code == 200:
            assert ask(role, "GET", f"{name}/blobs/{blob}").status_code == 200


def test_the_writer_of_evidence_cannot_take_it_back(prod: Build, ask: Ask) -> None:
    """stage's own login leaves out one statement, all of them, or the signature of one: 403, and all are there."""
    whole = ask("stage", "GET", _statements(prod, "stage"))
    manifest = whole.json()
    first, *rest = manifest["layers"]
    for layers in ([], rest, [first | {"annotations": {}}, *rest]):
        answer = _put(
            ask, "stage", _statements(prod, "stage"), json.dumps(manifest | {"layers": layers}).encode()
        )
        assert answer.status_code == 403, layers
        assert answer.json()["errors"][0]["code"] == "DENIED"
    assert _put(ask, "stage", _statements(prod, "stage"), whole.content).status_code == 201, "the same again"


def test_there_is_no_end_of_evidence(prod: Build, ask: Ask) -> None:
    """A digest that has three hundred statements takes one more: what is tested often can be tested again."""
    manifest = ask("stage", "GET", _statements(prod, "stage")).json()
    for count in (300, 301):
        layers = (manifest["layers"] * count)[:count]
        path = f"/stage/manifests/sha256-{_SCRATCH}.att"
        assert _put(ask, "stage", path, json.dumps(manifest | {"layers": layers}).encode()).status_code == 201


def test_the_build_cannot_move_a_build_number(prod: Build, ask: Ask) -> None:
    """The build's own login gives a build number to other bytes: 403. A tag of nobody's yet it may make."""
    there = ask(BUILD, "GET", f"/manifests/{prod.number}")
    other = json.dumps(there.json(), indent=7).encode()
    kind = {"Content-Type": there.headers["Content-Type"]}
    for tag in (prod.number, prod.revision):
        answer = ask(BUILD, "PUT", f"/manifests/{tag}", content=other, headers=kind)
        assert answer.status_code == 403
        assert "never moved" in answer.json()["errors"][0]["message"]
    assert (
        ask(BUILD, "PUT", f"/manifests/{prod.number}", content=there.content, headers=kind).status_code == 201
    )


@pytest.mark.parametrize(
    ("login", "refspec"),
    [
        (credentials.DEVELOPER, f"HEAD:{LEDGER}"),
        (credentials.DEVELOPER, f"+HEAD:{LEDGER}"),
        (credentials.DEVELOPER, f":{LEDGER}"),
        (credentials.DEVELOPER, "HEAD:refs/tags/v0.0"),
        (credentials.DEVELOPER, "HEAD:refs/notes/evidence"),
        (credentials.DEVELOPER, ":refs/heads/main"),
        (credentials.DELIVERY, f"+HEAD:{LEDGER}"),
        (credentials.DELIVERY, f":{LEDGER}"),
        (credentials.DELIVERY, ":refs/heads/main"),
        (credentials.DELIVERY, "HEAD:refs/heads/other"),
    ],
)
def test_the_ledger_and_main_stay(platform: Checkout, prod: Build, login: str, refspec: str) -> None:
    """People do not write the ledger; nobody rewrites or deletes it, or main; the verbs write their branches alone."""
    platform.pull()
    with pytest.raises(git.GitFailed, match=r"rejected|declined|denied|prohibited"):
        platform.push(refspec, login=login)
