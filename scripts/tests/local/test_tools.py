"""Which kind, kubectl, helm and cosign this host runs: from PATH within a range, fetched and checked, or compiled."""

import hashlib
import io
import os
import shutil
import ssl
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import semver

from delivery.errors import BadInput, PlatformError
from local import fetch, platforms, published, released, tools
from local.catalog import Catalog
from local.platforms import KNOWN, Platform
from local.released import Signed, Tool
from scripts.tests.world import ROOT

HERE = Platform("linux", "amd64")
PROGRAM = b"#!/bin/sh\necho fetched\n"
CHECKSUM = hashlib.sha256(PROGRAM).hexdigest()

# How each answers when it is asked for its version, with the version that a test wants.
ANSWERS = {
    "kind": "{}",
    "kubectl": '{{"clientVersion": {{"gitVersion": "v{}"}}, "kustomizeVersion": "v1.36.1"}}',
    "helm": "v{}",
    "cosign": '{{"gitVersion": "v{}", "goVersion": "go1.26.8"}}',
}


@dataclass
class Host:
    """The files that a publisher's host has, over TLS."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 with its key, which only those trust who are told to (it is its own CA)."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl on PATH, which makes the certificate of the test's host")
    file = tmp_path_factory.mktemp("authority") / "host.pem"
    settings = file.with_suffix(".cnf")
    settings.write_text(
        "[req]\nprompt=no\ndistinguished_name=name\nx509_extensions=all\n[name]\nCN=a test's host\n"
        "[all]\nsubjectAltName=IP:127.0.0.1\nbasicConstraints=critical,CA:true\n"
        "keyUsage=critical,digitalSignature,keyCertSign\nsubjectKeyIdentifier=hash\n"
    )
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-config", settings]
    subprocess.run(
        [*command, "-keyout", file, "-out", file.with_suffix(".crt")], check=True, capture_output=True
    )
    file.write_text(file.read_text() + file.with_suffix(".crt").read_text())
    return file


@pytest.fixture
def host(authority: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A publisher's host; this machine's CA bundle has its authority, and no proxy is on the way."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.with_suffix(".crt")))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    publisher = Host("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            publisher.asked.append(self.path)
            content, target = publisher.files.get(self.path), publisher.redirects.get(self.path)
            self.send_response(302 if target else 200 if content is not None else 404)
            if target:
                self.send_header("Location", target)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that does not trust us
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    publisher.url = f"https://127.0.0.1:{server.server_address[1]}"
    yield publisher
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Machine:
    """A host with an empty cache, a PATH of the test's own, and a compiler that only writes down what it is asked."""

    path: Path
    tools: dict[str, Tool]
    compiled: list[tuple[str, ...]] = field(default_factory=list)

    def install(self, name: str, version: str) -> Path:
        """Put a program on PATH that says that it is of this version."""
        answer = ANSWERS[name].format(version)
        (self.path / name).write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
        (self.path / name).chmod(0o755)
        return self.path / name


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine on which `tools` looks and fetches as it does anywhere."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin{os.pathsep}/usr/bin")
    monkeypatch.delenv(tools.CHOICE, raising=False)
    monkeypatch.setattr(platforms, "here", lambda: HERE)
    catalog = Catalog(ROOT)
    found = Machine(tmp_path, released.tools(catalog))
    for name in tools.NAMES:  # what this machine really has does not count
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)

    def build(*names: str, platform: Platform) -> Path:
        found.compiled.append(names)
        folder = catalog.module.bin_for(platform)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / name).write_text("compiled")
        return folder

    monkeypatch.setattr(catalog.module, "build", build)
    monkeypatch.setattr(tools, "catalog", lambda: catalog)
    monkeypatch.setattr(tools, "_tools", lambda: found.tools)
    tools.path.cache_clear()
    yield found
    tools.path.cache_clear()


def pinned(tool: Tool, host: Host, path: str, checksum: str, **more: str) -> Tool:
    """The tool as if the host were its publisher's, and this checksum pinned."""
    changes = {"url": host.url + path, "pinned": {"version": tool.version, str(HERE): checksum}, **more}
    return tool.model_copy(update=changes)


@pytest.mark.parametrize(
    ("name", "version", "taken"),
    [
        ("kind", "0.30.0", True),
        ("kind", "0.33.0", True),
        ("kind", "0.29.0", False),
        ("kind", "0.30.0-alpha+1a2b3c", False),
        ("kubectl", "1.35.0", True),
        ("kubectl", "1.37.4", True),
        ("kubectl", "1.36.1-dispatcher", True),
        ("kubectl", "1.35.4-eks-113cf36", True),
        ("kubectl", "1.34.9", False),
        ("kubectl", "1.38.0", False),
        ("kubectl", "1.38.0-rc.0", False),
        ("helm", "3.18.0", True),
        ("helm", "3.19.2+g1a2b3c", True),
        ("helm", "4.2.4", True),
        ("helm", "3.17.4", False),
        ("helm", "5.0.0-rc.1", False),
        ("cosign", "3.0.4", True),
        ("cosign", "3.1.3", True),
        ("cosign", "3.0.3", False),
        ("cosign", "2.6.1", False),
    ],
)
def test_a_tool_on_path_is_taken_within_its_range(
    name: str, version: str, taken: bool, machine: Machine
) -> None:
    """kubectl one minor either way of the cluster's, helm 3.18+ and 4, kind >= 0.30, cosign >= 3.0.4: no compiling."""
    program = machine.install(name, version)
    found = tools.look(name)
    assert found.path == (program if taken else None)
    assert version in found.why
    assert machine.tools[name].words in found.why
    if taken:
        assert tools.path(name) == program
        assert machine.compiled == []


def test_the_ranges_stand_in_one_file(machine: Machine) -> None:
    """kubectl's range follows the cluster's Kubernetes, which go.mod names."""
    kubectl = machine.tools["kubectl"].model_copy(update={"version": "v1.40.2"})
    assert kubectl.words == "1.39 to 1.41"
    assert kubectl.takes(semver.Version.parse("1.41.0"))
    assert not kubectl.takes(semver.Version.parse("1.38.9"))


def test_a_tool_that_does_not_tell_its_version_is_not_taken(machine: Machine) -> None:
    """A broken program, or another one of the same name, is not tried and failed with."""
    assert tools.look("helm").path is None
    machine.install("helm", "four")
    assert "does not tell its version" in tools.look("helm").why


def test_what_is_missing_is_compiled_together_and_said_why(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only what PATH lacks is compiled, in one go, and `up` says what was wrong with the one on PATH."""
    machine.install("kubectl", "1.36.0")
    machine.install("helm", "4.0.0")
    machine.install("cosign", "2.6.1")
    tools.ensure()
    assert machine.compiled == [("kind", "cosign")]
    said = capsys.readouterr().err
    assert f"{machine.path}/cosign is 2.6.1, outside >=3.0.4; no checksum is pinned for linux/amd64" in said
    tools.ensure()
    assert len(machine.compiled) == 1, "the second `up` finds what the first compiled"
    assert tools.look("cosign").why.endswith("compiled for this checkout")


def test_a_tool_outside_its_range_that_cannot_be_had_otherwise(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the program on PATH, its version and the range that was wanted; exit code 4."""

    def refuse(*_: str, **__: Platform) -> Path:
        raise PlatformError("go build failed: no space", "free some space")

    machine.install("helm", "3.17.0")
    monkeypatch.setattr(tools.catalog().module, "build", refuse)
    with pytest.raises(
        PlatformError, match=r"helm is 3\.17\.0, outside >=3\.18\.0 <5\.0\.0.*no space"
    ) as refused:
        tools.path("helm")
    assert "install helm >=3.18.0 <5.0.0" in refused.value.hint
    assert refused.value.exit_code == 4


def test_doctor_says_which_one_is_taken_and_why(machine: Machine) -> None:
    """`doctor` reads like this for each tool, and never compiles."""
    program = machine.install("cosign", "3.0.4")
    assert tools.seen("cosign") == f"{program} (3.0.4, on PATH, within >=3.0.4)"
    machine.install("kubectl", "1.30.1")
    with pytest.raises(PlatformError, match=r"not there yet: .*kubectl is 1\.30\.1, outside 1\.35 to 1\.37"):
        tools.seen("kubectl")
    assert machine.compiled == []


def test_the_projects_own_whatever_a_runner_has(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI tests with the project's helm: with DELIVERY_TOOLS=pinned one on PATH, in range or not, is not taken."""
    runners = machine.install("helm", "3.20.0")
    assert tools.look("helm").path == runners
    monkeypatch.setenv("DELIVERY_TOOLS", "pinned")
    assert tools.path("helm") != runners
    assert machine.compiled == [("helm",)]


def test_a_choice_of_tools_that_there_is_not(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt DELIVERY_TOOLS is told, not taken for the default."""
    monkeypatch.setenv("DELIVERY_TOOLS", "pined")
    with pytest.raises(BadInput, match="DELIVERY_TOOLS=pined is unknown"):
        tools.look("helm")


def test_a_fetched_tool_is_the_pinned_one(machine: Machine, host: Host) -> None:
    """With a checksum for this platform a tool is fetched with this host's CA bundle, checked, and kept."""
    host.files["/kind"] = PROGRAM
    machine.tools["kind"] = pinned(machine.tools["kind"], host, "/kind", CHECKSUM)
    program = tools.path("kind")
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "fetched\n"
    assert machine.compiled == []
    tools.path.cache_clear()
    assert tools.path("kind") == program
    assert tools.look("kind").why == f"{machine.tools['kind'].version}, fetched"
    assert host.asked == ["/kind"]


def test_a_tool_is_fetched_out_of_an_archive(machine: Machine, host: Host) -> None:
    """helm is published as an archive; its checksum is the archive's."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        entry = tarfile.TarInfo("linux-amd64/helm")
        entry.size = len(PROGRAM)
        archive.addfile(entry, io.BytesIO(PROGRAM))
    host.files["/moved"] = stream.getvalue()
    host.redirects["/helm.tar.gz"] = "/moved"
    checksum = hashlib.sha256(stream.getvalue()).hexdigest()
    machine.tools["helm"] = pinned(machine.tools["helm"], host, "/helm.tar.gz", checksum)
    assert tools.path("helm").read_bytes() == PROGRAM


def test_a_wrong_checksum_is_an_error_and_leaves_nothing(machine: Machine, host: Host) -> None:
    """What is not the pinned program is never run, nor is something else compiled in silence."""
    host.files["/kind"] = PROGRAM + b"and more"
    came = hashlib.sha256(PROGRAM + b"and more").hexdigest()
    machine.tools["kind"] = pinned(machine.tools["kind"], host, "/kind", CHECKSUM)
    with pytest.raises(fetch.WrongChecksum, match=f"kind from .*{came}.*{CHECKSUM}") as refused:
        tools.path("kind")
    assert "make pin" in refused.value.hint
    assert refused.value.exit_code == 4
    left = [file for file in (machine.path / "cache").rglob("*") if file.is_file() and file.name != "lock"]
    assert left == []
    assert machine.compiled == []


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        ("gone", "it answered 404"),
        ("untrusted", "CERTIFICATE_VERIFY_FAILED"),
        ("silent", "refused"),
        ("plain", "which has no TLS"),
    ],
)
def test_a_host_that_does_not_give_it_is_no_end(
    trouble: str,
    why: str,
    machine: Machine,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where a publisher's host does not answer, or is not trusted, the tool is compiled, and it is said why."""
    machine.tools["kind"] = pinned(machine.tools["kind"], host, "/kind", CHECKSUM)
    if trouble == "untrusted":
        monkeypatch.setenv("SSL_CERT_FILE", str(ROOT / "LICENSE"))
        monkeypatch.setenv("SSL_CERT_DIR", str(machine.path))
    if trouble == "silent":
        gone = machine.tools["kind"].model_copy(update={"url": "https://127.0.0.1:1/kind"})
        machine.tools["kind"] = gone
    if trouble == "plain":
        host.redirects["/kind"] = "http://127.0.0.1:1/kind"
    assert tools.path("kind").read_text() == "compiled"
    said = capsys.readouterr().err
    assert "kind v0.32.0 is compiled: " in said
    assert "cannot fetch https://127.0.0.1:" in said
    assert why in said


def test_a_checksum_of_another_version_does_not_count(
    machine: Machine, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    """go.mod was raised and `make pin` forgotten: the old program is not fetched under the new version's name."""
    stale = pinned(machine.tools["kind"], host, "/kind", CHECKSUM)
    stale = stale.model_copy(update={"pinned": {**stale.pinned, "version": "v0.1.0"}})
    machine.tools["kind"] = stale
    assert tools.path("kind").read_text() == "compiled"
    assert "only v0.1.0 is pinned" in capsys.readouterr().err
    assert host.asked == []


def test_every_address_of_the_file_can_be_filled_in() -> None:
    """A misspelt placeholder in scripts/local/versions.yaml is found here, not by whoever runs `make pin`."""
    for tool in released.tools(Catalog(ROOT)).values():
        signed = tool.signed or Signed()
        for template in (tool.url, tool.member, tool.list, signed.bundle, signed.program, signed.pgp):
            for platform in KNOWN:
                filled = tool.at(template, platform)
                assert "{" not in filled
                assert not filled or filled.startswith("https://") or template == tool.member
        assert set(tool.pinned) == {"version", *map(str, KNOWN)}


def test_a_malformed_section_is_bad_input() -> None:
    """A mistake in scripts/local/versions.yaml is one line that names the tool."""
    catalog = Catalog(ROOT)
    del catalog.versions["tools"]["helm"]["url"]
    with pytest.raises(released.BadInput, match=r"versions\.yaml: tools\.helm: "):
        released.tools(catalog)


def test_kind_takes_our_node_image() -> None:
    """kind 0.30 and 0.31 write kubeadm's v1beta3, which kubeadm knows up to 1.36 alone: raise the range with it."""
    tool = released.tools(Catalog(ROOT))["kubectl"]
    assert tool.own < semver.Version(1, 37), "kind's range must start at 0.32.0 for Kubernetes 1.37"


# What the publishers write down, and how it is believed.


@pytest.mark.parametrize(
    "text",
    [
        f"{CHECKSUM}\n",
        f"{CHECKSUM}  kind-linux-amd64\n",
        f"{'0' * 64}  kind-linux-arm64\n{CHECKSUM} *bin/kind-linux-amd64\n",
    ],
)
def test_a_publishers_list_is_read_in_each_form(text: str) -> None:
    """kubectl's list is one checksum alone, the others name files."""
    assert published.listed(text, "kind-linux-amd64") == CHECKSUM


@pytest.mark.parametrize(
    "text", ["", "not found\n", f"{CHECKSUM}  kind-linux-arm64\n", f"{CHECKSUM}\n{CHECKSUM}\n", "<html>"]
)
def test_a_list_without_the_program_is_not_believed(text: str) -> None:
    """A page of a proxy, or the list of another program, gives no checksum."""
    with pytest.raises(published.NotBelieved, match="kind-linux-amd64"):
        published.listed(text, "kind-linux-amd64")


@pytest.fixture
def publisher(host: Host) -> Callable[..., Tool]:
    """A tool that the host publishes for every platform, signed as told."""

    def publish(signed: Signed | None) -> Tool:
        for platform in KNOWN:
            host.files[f"/{platform}/p"] = PROGRAM
            host.files[f"/{platform}/list"] = f"{CHECKSUM}  p\n".encode()
        at = host.url + "/{os}/{arch}/"
        return Tool(
            name="p", module="m", version="v1.0.0", url=f"{at}p", list=f"{at}list", signed=signed, pinned={}
        )

    return publish


def checker(cosign: Path | None = None, module: Path | None = None) -> published.Checker:
    """Signatures are checked with these."""
    return published.Checker(lambda: cosign or Path("unused"), lambda _: module or Path("unused"))


def test_an_unsigned_list_is_said_to_be_unsigned(publisher: Callable[..., Tool]) -> None:
    """kind signs nothing: `make pin` says that only TLS stands behind its checksums."""
    found = published.checksums(publisher(None), checker())
    assert found.of == dict.fromkeys(KNOWN, CHECKSUM)
    assert found.by.startswith("TLS alone")


@pytest.fixture(scope="module")
def signer() -> Iterator[Callable[..., None]]:
    """A publisher's PGP key, which signs files and writes down its public part."""
    gpg = shutil.which("gpg")
    if gpg is None:
        pytest.skip("no gpg on PATH")
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as home:  # gpg's socket has a short path
        command = [gpg, "--homedir", home, "--batch", "--pinentry-mode=loopback", "--passphrase="]
        identity = ["--quick-generate-key", "Ada <ada@example.test>", "ed25519", "sign", "1d"]
        subprocess.run([*command, *identity], check=True, capture_output=True)

        def sign(keys: Path, content: bytes) -> bytes:
            exported = subprocess.run(
                [*command, "--armor", "--export"], check=True, capture_output=True
            ).stdout
            keys.write_bytes(b"The keys of those who sign.\n\n" + exported)
            signing = [*command, "--armor", "--detach-sign"]
            return subprocess.run(signing, input=content, check=True, capture_output=True).stdout

        yield sign
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)


def test_a_list_signed_by_pgp_is_checked(
    publisher: Callable[..., Tool], signer: Callable[..., bytes], host: Host, tmp_path: Path
) -> None:
    """helm's list holds by the signature of a key in helm's own module; another list under it does not."""
    tool = publisher(Signed(pgp=host.url + "/{os}/{arch}/asc", keys="KEYS"))
    for platform in KNOWN:
        signature = signer(tmp_path / "KEYS", host.files[f"/{platform}/list"])
        host.files[f"/{platform}/asc"] = signature
    found = published.checksums(tool, checker(module=tmp_path))
    assert found.by == "the list's PGP signature by Ada <ada@example.test>"
    host.files["/darwin/arm64/list"] = f"{'0' * 64}  p\n".encode()
    with pytest.raises(published.NotBelieved, match=r"p v1\.0\.0 is not believed: gpg failed"):
        published.checksums(tool, checker(module=tmp_path))


def test_a_list_signed_by_a_stranger_is_not_believed(
    publisher: Callable[..., Tool], signer: Callable[..., bytes], host: Host, tmp_path: Path
) -> None:
    """A key that does not stand in the module's KEYS signs for nobody."""
    tool = publisher(Signed(pgp=host.url + "/{os}/{arch}/asc", keys="KEYS"))
    for platform in KNOWN:
        host.files[f"/{platform}/asc"] = signer(tmp_path / "KEYS", host.files[f"/{platform}/list"])
    (tmp_path / "KEYS").write_bytes((ROOT / "LICENSE").read_bytes())
    with pytest.raises(PlatformError):
        published.checksums(tool, checker(module=tmp_path))


PLAYED_COSIGN = """\
import hashlib, pathlib, sys
# It believes what was signed by ada: a signature is the checksum of what is signed, and her name.
*options, blob = sys.argv[1:]
pathlib.Path(__file__).with_name("asked").write_text(" ".join(options))
proof = options[options.index("--bundle" if "--bundle" in options else "--signature") + 1]
(by,) = (o.partition("=")[2] for o in options if o.startswith("--certificate-identity="))
signed = hashlib.sha256(pathlib.Path(blob).read_bytes()).hexdigest()
if pathlib.Path(proof).read_text() != f"{signed} {by}":
    sys.exit("Error: none of the signatures")
"""


@pytest.fixture
def cosign(tmp_path: Path) -> Path:
    """cosign as far as `make pin` calls it."""
    file = tmp_path / "cosign"
    file.write_text(f"#!/usr/bin/env python3\n{PLAYED_COSIGN}")
    file.chmod(0o755)
    return file


def test_a_list_with_a_sigstore_bundle_is_checked(
    publisher: Callable[..., Tool], cosign: Path, host: Host
) -> None:
    """cosign's list holds by the identity that versions.yaml names, through cosign itself."""
    tool = publisher(Signed(bundle=host.url + "/{os}/{arch}/bundle", by="ada", issuer="https://issuer"))
    for platform in KNOWN:
        checksum = hashlib.sha256(host.files[f"/{platform}/list"]).hexdigest()
        host.files[f"/{platform}/bundle"] = f"{checksum} ada".encode()
    assert published.checksums(tool, checker(cosign)).by == "the list's signature by ada"
    assert "--certificate-oidc-issuer=https://issuer" in cosign.with_name("asked").read_text()
    eve = tool.model_copy(update={"signed": tool.signed and tool.signed.model_copy(update={"by": "eve"})})
    with pytest.raises(published.NotBelieved, match="none of the signatures"):
        published.checksums(eve, checker(cosign))


def test_programs_that_are_signed_each_are_checked_each(
    publisher: Callable[..., Tool], cosign: Path, host: Host
) -> None:
    """kubectl signs the program: it is fetched for every platform, and must be what the list says."""
    tool = publisher(Signed(program=host.url + "/{os}/{arch}/p", by="ada", issuer="https://issuer"))
    for platform in KNOWN:
        host.files[f"/{platform}/p.sig"] = f"{CHECKSUM} ada".encode()
        host.files[f"/{platform}/p.cert"] = b"a certificate"
    assert published.checksums(tool, checker(cosign)).by == "each program's signature by ada"
    host.files["/linux/arm64/p"] = b"another program"
    with pytest.raises(published.NotBelieved, match="its list says"):
        published.checksums(tool, checker(cosign))
