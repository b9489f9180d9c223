"""A registry that is not ours: TLS under an authority of its own, a login by token or password, docker's own logins.

The registry is the real one; before it stands a door as GHCR or GitLab have one (tokens).
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from delivery.errors import BadInput
from delivery.parts import certificates, cosign, dsse, logins, programs, syft, tar
from delivery.parts.daemon import LoginsUnreadable
from delivery.parts.registry import (
    Falsified,
    LoginRefused,
    Registry,
    RegistryRefused,
    RegistryUnreachable,
    RegistryUntrusted,
)
from delivery.site import ImageRepository
from scripts.tests.shelf import Shelf, serving_registry
from scripts.tests.tokens import Authority, Door, Tokens, log_in

pytestmark = pytest.mark.filterwarnings("ignore:docker-credential:UserWarning")
ROOT = Path(__file__).resolve().parents[2]
REVISION, PATH = "d" * 40, "acme/shop"


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that no system knows."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], Path]) -> Iterator[Shelf]:
    """What is behind the door: one registry for all tests, which takes whatever comes."""
    folder = tmp_path_factory.mktemp("stock")
    with serving_registry(program("registry"), folder) as port:
        yield Shelf(port, PATH, folder)


@pytest.fixture(autouse=True)
def docker_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of docker's config.json, still empty; and a ~/.netrc that must not count."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine localhost login mallory password wrong\n")
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker"


@pytest.fixture(params=["token", "basic"])
def door(request: pytest.FixtureRequest, stock: Shelf, authority: Authority) -> Iterator[Door]:
    """A door with either login."""
    with Door(stock.port, authority, request.param).open() as one:
        yield one


@pytest.fixture
def token_door(stock: Shelf, authority: Authority) -> Iterator[Door]:
    """A door as GHCR has one."""
    with Door(stock.port, authority).open() as one:
        yield one


def at(door: Door, **changes: Any) -> ImageRepository:
    """The repository behind a door, as a site names it."""
    return ImageRepository(**{"name": f"{door.host}/{PATH}", "ca": door.authority.file, **changes})


def helper(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential helper named docker-credential-vault; what it is asked is in the file `asked` beside it."""
    file = folder / "docker-credential-vault"
    file.write_text(f"#!/bin/sh\nread host; echo $1 $host >> {folder}/asked\n{script}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_whole_life(door: Door, stock: Shelf, docker_home: Path) -> None:
    """Everything works in a registry with TLS and a login: looking, reading, naming, listing; a push after a read."""
    log_in(docker_home, door.host)
    digest = stock.push("15", REVISION, REVISION)
    with Registry(at(door)) as registry:
        registry.ping()
        assert registry.digest("no-such-tag") is None
        assert registry.digest(REVISION) == digest
        image = registry.image(digest)
        assert image is not None
        assert (
            image.configs["linux/amd64"]["config"]["Labels"]["org.opencontainers.image.revision"] == REVISION
        )
        manifest = registry.manifest(REVISION)
        assert manifest is not None
        registry.tag(manifest, "life")
        assert registry.digest("life") == digest
        assert {REVISION, "life"} <= set(registry.tags())
        assert registry.attestations(digest) == []


def test_a_token_that_is_good_no_more(token_door: Door, stock: Shelf, docker_home: Path) -> None:
    """A promotion takes longer than a token lives: a new one is asked for, and nobody notices."""
    log_in(docker_home, token_door.host)
    digest = stock.push("15", REVISION, "expires")
    with Registry(at(token_door)) as registry:
        assert registry.digest("expires") == digest
        token_door.tokens = Tokens(token_door.authority)
        assert registry.digest("expires") == digest
    assert sum(one.startswith("GET /token") for one in token_door.asked) == 2


def test_a_token_says_no_more_than_is_needed(token_door: Door, stock: Shelf, docker_home: Path) -> None:
    """Who only reads asks for a token that only reads, of this repository."""
    log_in(docker_home, token_door.host)
    with Registry(at(token_door)) as registry:
        registry.tags()
    [asked] = [one for one in token_door.asked if one.startswith("GET /token")]
    assert asked.endswith("scope=repository%3Aacme%2Fshop%3Apull")


def test_tags_that_come_page_by_page(token_door: Door, stock: Shelf, docker_home: Path) -> None:
    """A registry that gives two tags an answer has as many as it has: no build number is given twice."""
    log_in(docker_home, token_door.host)
    names = [f"page-{n}" for n in range(5)]
    stock.push("15", REVISION, *names)
    token_door.page = 2
    with Registry(at(token_door)) as registry:
        assert set(names) <= set(registry.tags())
    assert sum("/tags/list" in one for one in token_door.asked) >= 3


def test_bytes_come_and_go_as_they_are(token_door: Door, stock: Shelf, docker_home: Path) -> None:
    """A manifest's bytes are its identity: they are read and written as they are, whatever JSON would make of them."""
    log_in(docker_home, token_door.host)
    digest = stock.push("15", REVISION, "bytes", version="1.2.3-größe")
    raw = stock.ask("GET", f"manifests/{digest}", headers={"Accept": "*/*"}).content
    odd = b"  " + raw.replace(b'": ', b'" :   ') + b"\n"
    stock.ask("PUT", "manifests/odd", content=odd, headers={"Content-Type": json.loads(raw)["mediaType"]})
    with Registry(at(token_door)) as registry:
        manifest = registry.manifest("odd")
        assert manifest is not None
        assert manifest.body == odd
        registry.tag(manifest, "odd-2")
        assert registry.digest("odd-2") == manifest.digest == registry.digest("odd")


@pytest.mark.parametrize("what", ["/manifests/", "/blobs/"])
def test_a_proxy_that_replaces_bytes(token_door: Door, stock: Shelf, docker_home: Path, what: str) -> None:
    """Bytes that are not those of the digest are never taken for it, whoever changed them on the way."""
    log_in(docker_home, token_door.host)
    digest = stock.push("15", REVISION)
    token_door.spoil = lambda path, body: body.replace(b"a", b"b") if what in path else body
    with Registry(at(token_door)) as registry, pytest.raises(Falsified) as refused:
        registry.image(digest)
    assert refused.value.hint


def test_an_authority_that_nobody_knows(door: Door, docker_home: Path) -> None:
    """A certificate of an authority that neither system nor site names: nothing is asked, and both are named."""
    log_in(docker_home, door.host)
    with (
        Registry(at(door, ca=None)) as registry,
        pytest.raises(RegistryUntrusted, match="no other, for the site names none") as refused,
    ):
        registry.tags()
    assert str(certificates.system()) in refused.value.message
    assert "`ca`" in refused.value.hint
    assert door.asked == []


def test_another_authority(door: Door, docker_home: Path, tmp_path: Path) -> None:
    """A certificate of another authority than the site names is refused, and says which one was named."""
    other = Authority(tmp_path / "other")
    with Registry(at(door, ca=other.file)) as registry, pytest.raises(RegistryUntrusted) as refused:
        registry.digest("15")
    assert str(other.file) in refused.value.message


@pytest.mark.parametrize(("text", "why"), [(None, "is missing"), ("hello", "is not a certificate in PEM")])
def test_an_authority_that_is_none(door: Door, tmp_path: Path, text: str | None, why: str) -> None:
    """A site that names a file that is not there, or no certificate, is bad input, with what belongs there."""
    file = tmp_path / "acme.pem"
    if text:
        file.write_text(text)
    with pytest.raises(BadInput, match=f"{why}: {file}"), Registry(at(door, ca=file)):
        pass


def test_the_systems_authorities_still_count(
    door: Door, docker_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The named authority is believed beside the system's: a token server may be public where the registry is not."""
    log_in(docker_home, door.host)
    monkeypatch.setenv("SSL_CERT_FILE", str(door.authority.file))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for ca in (None, Authority(tmp_path / "other").file):
        with Registry(at(door, ca=ca)) as registry:
            registry.ping()


def test_a_host_that_speaks_no_tls(stock: Shelf) -> None:
    """Plain HTTP is never spoken unasked: a site without it that names such a host is told so."""
    with (
        Registry(ImageRepository(name=f"localhost:{stock.port}/{PATH}")) as registry,
        pytest.raises(RegistryUnreachable, match="does not speak TLS"),
    ):
        registry.ping()


def test_no_login(door: Door, docker_home: Path) -> None:
    """Without a login the error names the file that has none, and the command that makes one."""
    where = f"registry {door.host} asks for a login, and {docker_home}/config.json"
    with Registry(at(door)) as registry:
        with pytest.raises(LoginRefused, match=rf"{where} \(which is not there\) has none for it") as refused:
            registry.tags()
        assert refused.value.hint == f"docker login {door.host}"
    log_in(docker_home, "ghcr.io")
    with Registry(at(door)) as registry, pytest.raises(LoginRefused, match=f"{where} has none for it"):
        registry.ping()


def test_a_wrong_login(door: Door, docker_home: Path) -> None:
    """A login that is refused is named by its user and its file, never by its password; once is enough."""
    log_in(docker_home, door.host, word="guess")
    with (
        Registry(at(door)) as registry,
        pytest.raises(LoginRefused, match=f"our login, ada of {docker_home}/config.json$") as refused,
    ):
        registry.digest("15")
    assert "guess" not in str(refused.value) + refused.value.hint
    assert len(door.asked) <= 2


def test_a_user_who_may_not(door: Door, stock: Shelf, docker_home: Path) -> None:
    """Who may read and not write is told who was asked for what: that is no wrong password."""
    log_in(docker_home, door.host)
    stock.push("15", REVISION, "mayread")
    door.forbids = "push"
    with Registry(at(door)) as registry:
        manifest = registry.manifest("mayread")
        assert manifest is not None
        with pytest.raises(LoginRefused, match=r"PUT manifests/16: 403 .*denied.*asked as ada") as refused:
            registry.tag(manifest, "16")
    assert PATH in refused.value.hint


def test_the_folder_that_a_site_names(door: Door, docker_home: Path, tmp_path: Path) -> None:
    """A site with a docker configuration of its own asks that one, and no other."""
    log_in(docker_home, door.host)
    with (
        Registry(at(door, docker_config=tmp_path / "own")) as registry,
        pytest.raises(LoginRefused, match=f"{tmp_path}/own/config.json"),
    ):
        registry.tags()
    (tmp_path / "own").mkdir()
    log_in(tmp_path / "own", door.host)
    docker_home.joinpath("config.json").unlink()
    with Registry(at(door, docker_config=tmp_path / "own")) as registry:
        registry.ping()


@pytest.mark.parametrize("named", [{"credHelpers": {"HOST": "vault"}}, {"credsStore": "vault"}])
def test_a_credential_helper(
    door: Door, docker_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: dict[str, Any]
) -> None:
    """The helper that docker's configuration names for this registry is asked by name, once, for this registry."""
    helper(tmp_path, """echo '{"Username": "ada", "Secret": "secret"}'""", monkeypatch)
    docker_home.joinpath("config.json").write_text(json.dumps(named).replace("HOST", door.host))
    with Registry(at(door)) as registry:
        registry.ping()
        registry.tags()
    assert (tmp_path / "asked").read_text() == f"get {door.host}\n"


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (
            "echo 'no session: vault login'; exit 1",
            "docker-credential-vault, which .* does not work: .*no session: vault login",
        ),
        ("echo hello", r"docker-credential-vault \(named in .*\) gave no login"),
        ("""echo '{"Username": "<token>", "Secret": "x"}'""", "identity token for localhost"),
        ("sleep 5", r"docker-credential-vault \(named in .*\) does not answer within"),
    ],
    ids=["refuses", "babbles", "identity-token", "hangs"],
)
def test_a_helper_that_does_not_work(
    token_door: Door,
    docker_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    why: str,
) -> None:
    """A helper that is broken, or waits for somebody, is named with its file and its own words; nobody waits long."""
    monkeypatch.setattr(logins, "SECONDS", 1.0)
    helper(tmp_path, script, monkeypatch)
    docker_home.joinpath("config.json").write_text('{"credsStore": "vault"}')
    with Registry(at(token_door)) as registry, pytest.raises(LoginsUnreadable, match=why) as refused:
        registry.tags()
    assert f"{docker_home}/config.json" in refused.value.message
    assert refused.value.hint


def test_a_helper_that_is_not_installed(token_door: Door, docker_home: Path) -> None:
    """A helper that an old Docker Desktop left behind in the file is not taken for `no login`."""
    docker_home.joinpath("config.json").write_text('{"credsStore": "nowhere"}')
    with (
        Registry(at(token_door)) as registry,
        pytest.raises(LoginsUnreadable, match=r"nowhere.*not installed") as refused,
    ):
        registry.tags()
    assert f"{docker_home}/config.json" in refused.value.message


@pytest.mark.parametrize("text", ["{", '{"auths": {"x": {"auth": "%"}}}', '{"auths": 1}', "[]", "[1]"])
def test_a_broken_configuration(docker_home: Path, text: str) -> None:
    """A config.json that is cut off or mangled is named; it is not `no login`."""
    docker_home.joinpath("config.json").write_text(text)
    if text == "[]":
        assert logins.find("ghcr.io").login is None
        return
    with pytest.raises(LoginsUnreadable, match=f"{docker_home}/config.json cannot be read"):
        logins.find("ghcr.io")


def test_docker_hub_goes_by_many_names(docker_home: Path) -> None:
    """The login of Docker Hub is filed under its first address, and found for docker.io."""
    log_in(docker_home, "https://index.docker.io/v1/")
    found = logins.find("docker.io").login
    assert found is not None
    assert found.username == "ada"


def test_something_else_than_a_registry(docker_home: Path) -> None:
    """A web site in a registry's place is told from one: not an empty repository, not a traceback."""
    from scripts.tests.fake_cluster import Answering, serving

    class Site(Answering):
        def do_GET(self) -> None:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Negotiate" if "manifests" in self.path else "(;;)")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

    with serving(Site) as port:
        site = ImageRepository(name=f"localhost:{port}/{PATH}", plain_http=True)
        with Registry(site) as registry, pytest.raises(LoginRefused):
            registry.digest("15")

    class Page(Answering):
        def do_GET(self) -> None:
            self.write(200, b"<html>")

        do_HEAD = do_GET

    with (
        serving(Page) as port,
        Registry(ImageRepository(name=f"localhost:{port}/x", plain_http=True)) as registry,
    ):
        with pytest.raises(RegistryRefused, match="an answer that no registry gives"):
            registry.tags()
        with pytest.raises(RegistryRefused, match="named no digest"):
            registry.digest("15")


def test_a_token_server_that_is_down(stock: Shelf, authority: Authority, docker_home: Path) -> None:
    """Where the token server is down, that is what is named, beside the registry that sends us there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        gone = free.getsockname()[1]
    with Door(stock.port, authority).open() as door:
        door.realm = f"localhost:{gone}"
        with (
            Registry(at(door), seconds=2) as registry,
            pytest.raises(RegistryUnreachable, match=f"{gone}, which {door.host} names, does not answer"),
        ):
            registry.tags()


def test_threads_share_one_registry(token_door: Door, stock: Shelf, docker_home: Path) -> None:
    """Questions that are asked at once, with one connection and one token after the other, are all answered."""
    from concurrent.futures import ThreadPoolExecutor

    log_in(docker_home, token_door.host)
    digest = stock.push("15", REVISION, "threads")
    manifest = Registry(at(token_door))
    with manifest as registry, ThreadPoolExecutor(8) as pool:
        read = registry.manifest("threads")
        assert read is not None

        def one(n: int) -> str | None:
            if n % 2:
                registry.tag(read, f"thread-{n}")
            return registry.digest("threads")

        assert set(pool.map(one, range(16))) == {digest}


def test_a_registry_without_the_referrers_api(door: Door, stock: Shelf, docker_home: Path) -> None:
    """What is attached is found by its tag: a registry without the referrers API, as this one is, lacks nothing."""
    digest = stock.push("15", REVISION)
    with pytest.raises(Exception, match="404"):
        stock.ask("GET", f"referrers/{digest}")
    log_in(docker_home, door.host)
    layer = stock._blob(b"an envelope", "application/vnd.dsse.envelope.v1+json")
    attached = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": stock._blob(b"{}", "application/vnd.oci.image.config.v1+json"),
        "layers": [layer],
    }
    stock.put(attached, f"{digest.replace(':', '-')}.att")
    with Registry(at(door)) as registry:
        assert registry.attestations(digest) == [b"an envelope"]


def with_packages(stock: Shelf) -> str:
    """An image in which one Debian package is installed; its digest."""
    package = b"Package: perl\nStatus: install ok installed\nVersion: 5.36.0-7\nArchitecture: amd64\n\n"
    release = b'ID=debian\nVERSION_ID="12"\n'
    layer = tar.pack({"var/lib/dpkg/status": package, "etc/os-release": release})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": stock._blob(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
        "layers": [stock._blob(layer, "application/vnd.oci.image.layer.v1.tar")],
    }
    return stock.put(manifest)


def test_syft_reaches_the_same_registry(door: Door, stock: Shelf, docker_home: Path, tmp_path: Path) -> None:
    """The bill of materials is read with the same login and authority; with another authority there is none."""
    log_in(docker_home, door.host)
    digest = with_packages(stock)
    names = [one["name"] for one in syft.sbom(at(door), digest)["components"]]
    assert "perl" in names
    for wrong in (at(door, ca=None), at(door, ca=Authority(tmp_path / "other").file)):
        with pytest.raises(syft.NoSbom, match=r"certificate|x509"):
            syft.sbom(wrong, digest)


@pytest.mark.slow
def test_cosign_reaches_the_same_registry(
    door: Door,
    stock: Shelf,
    docker_home: Path,
    tmp_path: Path,
    program: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A statement is attached and verified with the same login and authority, beside those that were there before.

    A registry that cosign cannot ask is not an image without evidence.
    """
    monkeypatch.setattr(programs, "path", program)
    cosign.generate(tmp_path / "key", "word")
    (tmp_path / "password").write_text("word")
    log_in(docker_home, door.host)
    digest, kind = stock.push("15", REVISION, layer=door.login.encode()), "https://delivery/approval/v1"
    subject = [{"name": PATH, "digest": {"sha256": digest.removeprefix("sha256:")}}]
    key = cosign.Key(str(tmp_path / "key.key"), tmp_path / "password")
    place = at(door).model_copy(update={"name": f"{at(door).name}/approver"})
    made = []
    for word in ("one", "two"):
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": subject,
            "predicateType": kind,
            "predicate": {"word": word},
        }
        made.append(cosign.sign(json.dumps(statement).encode(), key))
        cosign.attach(at(door), place, digest, made[-1])
    ours = dsse.verifier((tmp_path / "key.pub").read_text())
    with Registry(at(door)) as registry:
        assert registry.attestations(digest) == []
        found = [cosign.envelope(one) for one in registry.beside(place).attestations(digest)]
        assert [one.payload for one in found] == [one.payload for one in made]
        assert all(map(ours, found))
    other = Authority(tmp_path / "other").file
    with pytest.raises(cosign.CosignFailed, match="x509"):
        cosign.attach(at(door, ca=other), place, digest, made[0])
    log_in(docker_home, door.host, word="guess")
    with pytest.raises(cosign.CosignFailed, match=r"UNAUTHORIZED|401"):
        cosign.attach(at(door), place, digest, made[0])
