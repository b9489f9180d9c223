"""Who made it: by the e-mails of the commits, and by the keys that signed them, with real Git and real keys."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pysequoia import Cert, Tsk

from delivery import pipeline as pipelines
from delivery.build import image
from delivery.errors import BadInput, PlatformError, Refused
from delivery.gate import authors
from delivery.gate import decide as gate
from delivery.gate.weaker import opens
from delivery.parts import openpgp, ssh
from delivery.parts.git import Repository
from delivery.pipeline import Approver, Developer
from delivery.signed import developers
from delivery.signed.developers import Keyring
from delivery.verbs import approve as approving
from scripts.tests.steps import bare_promote, deploy, promote, put, refused
from scripts.tests.test_gate import PIPELINE, question

if TYPE_CHECKING:
    from conftest import Shelf

    from scripts.tests.fake_cluster import FakeCluster
    from scripts.tests.world import World

needs_ssh = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="ssh-keygen is not installed")


@dataclass(frozen=True)
class Person:
    """Somebody with a key, and how that key signs."""

    name: str
    public: str
    sign: Callable[[bytes], str]
    secret: str = ""

    @property
    def email(self) -> str:
        return f"{self.name}@example.org"

    @property
    def developer(self) -> Developer:
        return Developer(name=self.name, identity=self.email, key=f"keys/{self.name}.pub")


def with_openpgp(name: str) -> Person:
    secret, public = openpgp.generate(f"{name} <{name}@example.org>")
    return Person(name, public, lambda data: openpgp.sign(secret, data), secret)


def with_ssh(name: str, folder: Path) -> Person:
    file = folder / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "a comment", "-f", str(file)]
    subprocess.run(command, check=True)

    def sign(data: bytes) -> str:
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(file)]
        return subprocess.run(command, input=data, check=True, capture_output=True).stdout.decode()

    return Person(name, file.with_suffix(".pub").read_text(), sign, str(file))


@pytest.fixture
def short_home() -> Iterator[dict[str, str]]:
    """What is set for gpg: a home of the test's own, with a short name, for its agent listens at a socket in there."""
    with tempfile.TemporaryDirectory(prefix="gpg-", ignore_cleanup_errors=True) as folder:
        yield {**os.environ, "GNUPGHOME": folder}
        if shutil.which("gpgconf"):
            subprocess.run(["gpgconf", "--homedir", folder, "--kill", "gpg-agent"], check=False)


KINDS = ["openpgp", pytest.param("ssh", marks=needs_ssh)]


@pytest.fixture
def person(tmp_path: Path) -> Callable[..., Person]:
    """Somebody new with a key of this kind."""
    return lambda name, kind="openpgp": with_openpgp(name) if kind == "openpgp" else with_ssh(name, tmp_path)


def ring(*people: Person) -> Keyring:
    """The keys of these people, as if a commit had them."""
    return Keyring(tuple(developers._key(one.developer, one.public) for one in people))


def made(
    world: World, by: Person | None, files: dict[str, str], message: str = "a change", email: str = ""
) -> str:
    """A commit in the checkout, signed by somebody or by nobody; it is pushed."""
    checkout = Repository(world.checkout)
    world.git(world.checkout, "pull", "--quiet", "--rebase", str(world.server), "main")
    for path, text in files.items():
        (world.checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (world.checkout / path).write_text(text)
    world.git(world.checkout, "add", "--all")
    author = email or (by.email if by else "eve@example.test")
    commit = checkout.commit_signed(f"{message}\n", ("Somebody", author), by.sign if by else None)
    world.git(world.checkout, "push", "--quiet", str(world.server), "main")
    return commit


def asking(text: str, *people: Person) -> dict[str, str]:
    """pipeline.yaml with these developers, and their keys."""
    head, _, sites = text.partition("\nsites:")
    head = head.partition("\ndevelopers:")[0]
    lines = [
        f"  - {{ name: {one.name}, identity: {one.email}, key: {one.developer.key} }}\n" for one in people
    ]
    keys = {one.developer.key: one.public for one in people}
    return {"pipeline.yaml": f"{head}\ndevelopers:\n{''.join(lines)}\nsites:{sites}"} | keys


def on_the_way(world: World, asked: Keyring, in_force: Keyring | None = None) -> authors.Makers:
    """Who made what wants into prod, where nothing ever entered."""
    context, head = world.context, world.head()
    server = Repository(world.server)
    revision = server.last_change(head, context.pipeline.image.context)
    in_force = Keyring() if in_force is None else in_force
    return authors.between(
        context, server, head, context.environment("prod"), revision, None, asked, in_force
    )


def commit_object(message: str, author: str = "a@example.org", committer: str = "c@example.org") -> bytes:
    head = f"tree {'0' * 40}\nauthor A <{author}> 1 +0000\ncommitter C <{committer}> 1 +0000\n"
    return f"{head}\n{message}".encode()


@pytest.mark.parametrize(
    ("message", "who"),
    [
        ("one\n\nCo-authored-by: Bob <bob@example.org>\n", {"bob@example.org"}),
        ("one\n\nco-AUTHORED-by : Bob <BOB@example.org>\n", {"bob@example.org"}),
        ("one\n\nCo-authored-by: Bob\n  the Builder\n\t<bob@example.org>\n", {"bob@example.org"}),
        ("one\n\nCo-authored-by:\n <bob@example.org>\n", {"bob@example.org"}),
        ("one\n\nCo-Authored-By: bob@example.org\r\n", {"bob@example.org"}),
        (
            "one\n\nCo-authored-by: B <bob@example.org>, D <dan@example.org>\n",
            {"bob@example.org", "dan@example.org"},
        ),
        (
            "one\n\n  Co-authored-by: B <bob@example.org>\n  Co-authored-by: <dan@example.org>\n",
            {"bob@example.org", "dan@example.org"},
        ),
        (
            "Co-authored-by: Bob <bob@example.org>\n\nand then a text, which is no trailer\n",
            {"bob@example.org"},
        ),
        ("one\n\nthanks to bob@example.org\n", set()),
    ],
)
def test_co_authors_are_found_however_they_are_spelled(message: str, who: set[str]) -> None:
    """A co-author counts, in any case, folded, indented, or in the middle of the message."""
    assert authors.emails_of([commit_object(message)]) == {"a@example.org", "c@example.org", *who}


def test_a_committer_counts_and_a_mailmap_does_not(world: World) -> None:
    """Whoever rebases somebody's commit made it, too; and .mailmap gives nobody another e-mail."""
    world.commit(world.checkout, ".mailmap", "Grace <grace@example.org> <ada@example.test>\n", "who is who")
    world.git(world.checkout, "commit", "--amend", "--quiet", "--no-edit", "--author=Bob <Bob@Example.org>")
    commit = world.git(world.checkout, "rev-parse", "HEAD")
    assert world.git(world.checkout, "log", "-1", "--format=%cE", commit) == "grace@example.org"
    found = authors.emails_of(Repository(world.checkout).commits([commit]).values())
    assert found == {"bob@example.org", "ada@example.test"}


@pytest.mark.parametrize("what", ["adds by itself", "takes away", "joins"])
def test_who_merges_counts(world: World, what: str) -> None:
    """A merge makes its own change, or takes away what one side had: whoever made it is among the authors."""
    made(world, None, {"manual-app-helm/main.yaml": "1\n", "README.md": "1\n"}, email="main@example.org")
    world.git(world.checkout, "checkout", "--quiet", "-b", "side")
    file = "manual-app-helm/side.yaml" if what == "joins" else "README.md"
    world.commit(world.checkout, file, "2\n", "side")
    world.git(world.checkout, "checkout", "--quiet", "main")
    made(world, None, {"manual-app-helm/main.yaml": "fixed\n"}, email="fix@example.org")
    who = ("-c", "user.email=merges@example.org")
    if what == "takes away":  # the tree is the side's, without the fix
        tree = world.git(world.checkout, "rev-parse", "side^{tree}")
        parents = ("-p", "side", "-p", "main")
        merge = world.git(world.checkout, *who, "commit-tree", tree, *parents, "-m", "merge")
        world.git(world.checkout, "reset", "--quiet", "--hard", merge)
        assert (world.checkout / "manual-app-helm/main.yaml").read_text() == "1\n"
    else:
        world.git(world.checkout, *who, "merge", "--quiet", "--no-ff", "--no-commit", "side")
        if what == "adds by itself":
            (world.checkout / "manual-app-helm/evil.yaml").write_text("3\n")
        world.git(world.checkout, "add", "--all")
        world.git(world.checkout, *who, "commit", "--quiet", "--message", "merge")
    world.git(world.checkout, "push", "--quiet", str(world.server), "main")
    assert {"merges@example.org", "fix@example.org"} <= on_the_way(world, Keyring()).emails


@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_says_who_made_it(stocked: World, person: Callable[..., Person], kind: str) -> None:
    """I am the author because my key signed, whatever e-mail the commit tells; and that one counts, too."""
    world = stocked
    ada = person("ada", kind)
    commit = made(world, ada, {"manual-app/app.py": "2\n"}, email="ghost@example.org")
    [stored] = Repository(world.server).commits([commit]).values()
    assert ring(ada).signature(stored) == developers.Signature((ada.developer,), "")
    found = on_the_way(world, ring(ada))
    assert found.signers == {"ada@example.org": "ada"}
    assert {"ghost@example.org", "ada@example.org"} <= found.everybody


@pytest.mark.parametrize("kind", KINDS)
def test_what_git_itself_signs(
    world: World,
    person: Callable[..., Person],
    kind: str,
    short_home: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`git commit -S` with my SSH key or with gpg is such a signature."""
    if kind == "openpgp" and not shutil.which("gpg"):
        pytest.skip("gpg is not installed")
    ada = person("ada", kind)
    key = ada.secret if kind == "ssh" else ada.email
    if kind == "openpgp":
        monkeypatch.setenv("GNUPGHOME", short_home["GNUPGHOME"])
        imports = ["gpg", "--batch", "--quiet", "--import"]
        subprocess.run(imports, input=ada.secret.encode(), check=True, capture_output=True)
    (world.checkout / "x").write_text("1")
    world.git(world.checkout, "add", "x")
    options = ("-c", f"gpg.format={kind}", "-c", f"user.signingkey={key}")
    world.git(world.checkout, *options, "commit", "--quiet", "--gpg-sign", "--message", "signed by git")
    repository = Repository(world.checkout)
    [stored] = repository.commits([repository.commit("HEAD")]).values()
    assert ring(ada).signature(stored).objection == ""
    changed = stored.replace(b"signed by git", b"signed by bot")
    assert ring(ada).signature(changed).objection == "names the key of ada, which did not sign it"


@pytest.mark.parametrize("kind", KINDS)
def test_somebody_elses_signature(world: World, person: Callable[..., Person], kind: str) -> None:
    """Signed by a key that pipeline.yaml does not name, or in ada's name without her key, or not at all: nobody's."""
    ada, eve = person("ada", kind), person("eve", kind)
    commits = [made(world, by, {"x": str(by)}) for by in (eve, None)]
    strange, unsigned = Repository(world.server).commits(commits).values()
    says = "is signed with a key that developers in pipeline.yaml do not have"
    assert ring(ada).signature(strange) == developers.Signature((), says)
    assert ring(ada).signature(unsigned) == developers.Signature((), "is not signed")
    garbage = unsigned.replace(b"\n\n", b"\ngpgsig -----BEGIN SSH SIGNATURE-----\n  !!\n\n", 1)
    assert ring(ada).signature(garbage).objection == says


@needs_ssh
def test_an_ssh_signature_is_for_git(person: Callable[..., Person]) -> None:
    """What my key signed for another purpose, a file or a login, is not my signature of a commit."""
    ada = person("ada", "ssh")
    command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", ada.secret]
    other = subprocess.run(command, input=b"data", check=True, capture_output=True).stdout.decode()
    assert ssh.claims(ada.public, other)
    assert not ssh.verified(ada.public, b"data", other)
    assert ssh.verified(ada.public, b"data", ada.sign(b"data"))


@needs_ssh
def test_no_ssh_keygen(
    stocked: World, person: Callable[..., Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where ssh-keygen is missing nothing is known, and I read what to install."""
    world = stocked
    ada = person("ada", "ssh")
    made(world, ada, {"manual-app/app.py": "2\n"})
    bin_ = world.checkout.parent / "bin"
    bin_.mkdir()
    (bin_ / "git").symlink_to(shutil.which("git") or "")
    monkeypatch.setenv("PATH", str(bin_))
    with pytest.raises(PlatformError, match="ssh-keygen is not installed") as error:
        on_the_way(world, ring(ada))
    assert "openssh-client" in error.value.hint


def test_a_key_that_expired_or_was_revoked(world: World, person: Callable[..., Person]) -> None:
    """A key of the past counts for nothing, also in a commit that says it is older: whoever has it writes the date."""
    ada = person("ada")
    secret, certificate = Tsk.from_bytes(ada.secret.encode()), Cert.from_bytes(ada.public.encode())
    commit = made(world, ada, {"x": "1"})
    [stored] = Repository(world.server).commits([commit]).values()
    soon = datetime.now(UTC) + timedelta(seconds=1)
    revoked = Cert.from_bytes(bytes(certificate) + bytes(certificate.revoke(secret.certifier())))
    expired = certificate.set_expiration(soon, secret.certifier())
    time.sleep(1.1)
    for public, why in ((revoked, "is revoked"), (expired, f"expired on {soon:%Y-%m-%d}")):
        found = ring(replace(ada, public=str(public))).signature(stored)
        assert found.objection == f"is signed with the key of ada, which {why}"
        assert found.by == (ada.developer,), "it counts as made by her all the same"


@pytest.mark.skipif(not shutil.which("gpg"), reason="gpg is not installed")
@pytest.mark.parametrize(("lasts", "why"), [("2024-02-01", "expired on 2024-02-0"), ("never", "is revoked")])
def test_a_subkey_of_the_past(short_home: dict[str, str], lasts: str, why: str) -> None:
    """I signed with a subkey that is over, or that I took back: it counts no longer, though my key itself lasts."""

    def gpg(*arguments: str, reads: str = "") -> str:
        command = ["gpg", "--batch", "--yes", "--passphrase", "", "--pinentry-mode", "loopback"]
        command += ["--command-fd", "0"] if reads else []
        command += ["--faked-system-time", "20240101T000000"]
        done = subprocess.run(
            [*command, *arguments],
            input=reads,
            check=True,
            capture_output=True,
            text=True,
            env=short_home,
        )
        return done.stdout

    gpg("--quick-generate-key", "ada@example.org", "ed25519", "cert", "never")
    listed = gpg("--list-keys", "--with-colons").splitlines()
    key = next(line.split(":")[9] for line in listed if line.startswith("fpr"))
    gpg("--quick-add-key", key, "ed25519", "sign", lasts)
    (file := Path(short_home["GNUPGHOME"]) / "data").write_text("data")
    signature = gpg("--armor", "--detach-sign", "--output", "-", str(file))
    certificate = gpg("--armor", "--export", "ada@example.org")
    assert openpgp.verified(certificate, b"data", signature), "it was good when it was made"
    if lasts == "never":
        assert openpgp.over(certificate, signature) == ""
        gpg("--edit-key", key, reads="key 1\nrevkey\ny\n0\n\ny\nsave\n")
        certificate = gpg("--armor", "--export", "ada@example.org")
    assert openpgp.over(certificate, signature).startswith(why)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "the key of ada is not in Git: keys/ada.pub"),
        ("nothing", "keys/ada.pub holds no public key of ada: it is no SSH public key"),
        ("", "it has 0 lines, and is to have one public key"),
        ("ssh-rsa AAAAC3NzaC1lZDI1NTE5\n", "it is no SSH public key"),
        ("ssh-ed25519 \u00e4\n", "keys/ada.pub holds no public key of ada"),
        ("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nnothing\n", "keys/ada.pub holds no public key of ada"),
    ],
)
def test_a_key_that_is_none(
    stocked: World, person: Callable[..., Person], text: str | None, says: str
) -> None:
    """pipeline.yaml names a file that is not there, or holds no public key: nothing enters, and the file is named."""
    world = stocked
    ada = person("ada")
    made(world, ada, {"README.md": "1\n"} if text is None else {"keys/ada.pub": text})
    found = developers.at(Repository(world.server), world.head(), [ada.developer])
    assert says in found.faults[0]
    assert any(says in one for one in on_the_way(world, found).unsigned)


def test_a_secret_key_in_git(world: World, person: Callable[..., Person]) -> None:
    """I committed the wrong half of my key: it is said, and the key counts for nothing."""
    ada = person("ada")
    made(world, ada, {"keys/ada.pub": ada.secret})
    found = developers.at(Repository(world.server), world.head(), [ada.developer])
    assert found.faults == ("keys/ada.pub holds no public key of ada: it holds a secret key",)


def test_keys_are_those_of_the_commit(world: World, person: Callable[..., Person]) -> None:
    """The working tree says nothing: a key counts as the commit has it."""
    ada, eve = person("ada"), person("eve")
    commit = made(world, ada, {"keys/ada.pub": ada.public})
    made(world, None, {"keys/ada.pub": eve.public})
    (world.checkout / "keys/ada.pub").write_text("nothing")
    server = Repository(world.server)
    before, after = (developers.at(server, one, [ada.developer]) for one in (commit, world.head()))
    assert before == ring(ada)
    assert developers.weaker(before, after) == ["another key stands in keys/ada.pub, for ada@example.org"]


def test_what_makes_keys_weaker(person: Callable[..., Person]) -> None:
    """The same key that lasts longer is the same key; one that was revoked does not come back by an old copy of it."""
    ada = person("ada")
    secret, certificate = Tsk.from_bytes(ada.secret.encode()), Cert.from_bytes(ada.public.encode())
    longer = replace(
        ada, public=str(certificate.set_expiration(datetime(2040, 1, 1, tzinfo=UTC), secret.certifier()))
    )
    assert longer.public != ada.public
    assert developers.weaker(ring(ada), ring(longer)) == []
    revoked = replace(
        ada, public=str(Cert.from_bytes(bytes(certificate) + bytes(certificate.revoke(secret.certifier()))))
    )
    assert developers.weaker(ring(ada), ring(revoked)) == []
    assert developers.weaker(ring(revoked), ring(ada)) == [
        "keys/ada.pub is revoked, and would not be any more"
    ]


def developed(*names: str, **changes: Any) -> pipelines.Pipeline:
    """The pipeline with these developers."""
    some = [Developer(name=one, identity=f"{one}@example.org", key=f"keys/{one}.asc") for one in names]
    return PIPELINE.model_copy(update={"developers": tuple(one.model_copy(update=changes) for one in some)})


@pytest.mark.parametrize("name", ["stage", "prod"])
@pytest.mark.parametrize(
    ("after", "says"),
    [
        (developed(), "would take commits that nobody signed"),
        (developed("ada", "eve"), "would take commits signed by eve@example.org (keys/eve.asc), too"),
        (developed("eve"), "would take commits signed by eve@example.org (keys/eve.asc), too"),
        (developed("ada", key="keys/new.asc"), "signed by ada@example.org (keys/new.asc), too"),
        (developed("ada", identity="eve@example.org"), "signed by eve@example.org (keys/ada.asc), too"),
    ],
)
def test_developers_that_make_the_rules_weaker(name: str, after: pipelines.Pipeline, says: str) -> None:
    """Whoever takes `developers:` away, adds somebody, or puts another key or name in: the old rules hold."""
    [reason] = opens(developed("ada"), after, name)
    assert says in reason
    assert reason.startswith(name)


def test_developers_that_make_the_rules_stricter() -> None:
    """To ask for signatures, or to take somebody's key out, opens nothing."""
    assert opens(developed(), developed("ada"), "prod") == []
    assert opens(developed("ada", "bob"), developed("ada"), "prod") == []


def test_the_old_rules_hold_for_a_key_that_was_swapped() -> None:
    """Another key stands in the same file: approved by those whom the old rules name, or signed by the old keys."""
    rules = developed("ada")
    swapped = gate.InForce("c" * 40, rules, keys=("another key stands in keys/ada.asc, for ada@example.org",))
    assert gate.decide(question(pipeline=rules, in_force=swapped)).allowed, (
        "the approver of the old rules signed it"
    )
    unapproved = question(pipeline=rules, in_force=swapped).approvals
    refusals = gate.decide(
        question(pipeline=rules, in_force=swapped, approvals=replace(unapproved, approvals=()))
    ).refusals
    assert any("became weaker since cccccccccccc (another key stands in" in one for one in refusals)


@pytest.mark.parametrize("approves", [True, False])
def test_what_nobody_answers_for_is_refused(approves: bool) -> None:
    """By the developers who are asked; by the old ones, too, where the rules became weaker and nobody approves."""
    rules = developed("ada")
    by_asked = authors.Makers(unsigned=("commit 012345678901 is not signed",))
    assert (
        "commit 012345678901 is not signed"
        in gate.decide(question(pipeline=rules, authors=by_asked)).refusals
    )
    prod = rules.environment("prod").model_copy(
        update={"approval": rules.environment("prod").approval if approves else None}
    )
    old = rules.model_copy(update={"environments": (*rules.environments[:2], prod)})
    new = developed("ada", "eve").model_copy(update={"environments": old.environments})
    in_force = gate.InForce("c" * 40, old)
    by_old = authors.Makers(unsigned_in_force=("commit 012345678901 is signed with a key",))
    decision = gate.decide(question(pipeline=new, target=prod, in_force=in_force, authors=by_old))
    assert decision.allowed == approves
    if not approves:
        assert any("(prod would take commits signed by eve" in one for one in decision.refusals)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["{ name: ada, identity: a@b.c, key: /keys/a.asc }"], "key"),
        (["{ name: ada, identity: a@b.c, key: ../a.asc }"], "key"),
        (["{ name: ada, identity: nobody, key: keys/a.asc }"], "identity"),
        (["{ name: ada, identity: a@b.c }"], "key"),
        (
            ["{ name: ada, identity: a@b.c, key: k/a }", "{ name: ada, identity: d@b.c, key: k/b }"],
            "share one name",
        ),
        (
            ["{ name: ada, identity: a@b.c, key: k/a }", "{ name: bob, identity: d@b.c, key: k/a }"],
            "share one key",
        ),
        (["{ name: approver, identity: a@b.c, key: k/a }"], "approver and a developer, under two identities"),
    ],
)
def test_developers_that_are_none(world: World, lines: list[str], says: str) -> None:
    """A mistake in `developers:` is named, with its file."""
    text = (world.checkout / "pipeline.yaml").read_text()
    block = "\ndevelopers:\n" + "".join(f"  - {line}\n" for line in lines) + "\nsites:"
    with pytest.raises(BadInput, match=says):
        pipelines.parse(text.replace("\nsites:", block, 1), world.checkout)


def test_a_commit_that_is_vouched_for(stocked: World, person: Callable[..., Person]) -> None:
    """An unsigned commit is on main for ever: a developer signs that it is theirs now, and is its author."""
    world, ada, eve = stocked, person("ada"), person("eve")
    old = [*world.git(world.server, "log", "--format=%H", "main").split()]
    unsigned = made(world, None, {"manual-app/app.py": "2\n"})
    [first, *_, last] = on_the_way(world, ring(ada)).unsigned
    assert first == f"commit {unsigned[:12]} is not signed"
    assert f'git commit -S --allow-empty -m "Vouches-for: {unsigned}", and a line for each' in last
    everything = "\n".join(f"Vouches-for: {one}" for one in [*old, unsigned])
    for stranger in (eve, None):
        made(world, stranger, {}, f"fine\n\n{everything}")
        assert on_the_way(world, ring(ada)).unsigned[0] == first, "only a developer's word counts"
    made(world, ada, {}, f"I looked\n\nvouches-for: {unsigned[:12]}")
    assert on_the_way(world, ring(ada)).unsigned[0] == first, "by its full id"
    made(world, ada, {}, f"I looked\n\n{everything}", email="else@example.org")
    found = on_the_way(world, ring(ada))
    assert found.unsigned == ()
    assert found.signers == {"ada@example.org": "ada"}
    assert "else@example.org" in found.emails


def test_many_commits_that_nobody_answers_for(stocked: World, person: Callable[..., Person]) -> None:
    """A long history is a short message."""
    for number in range(6):
        made(stocked, None, {"manual-app/app.py": f"{number}\n"})
    *_, more, _ = found = on_the_way(stocked, ring(person("ada"))).unsigned
    assert len(found) == 5
    assert more == "4 more commits are like that"


def test_a_gate_signs_its_own_commits(
    cluster: FakeCluster, built: image.Built, person: Callable[..., Person]
) -> None:
    """What prod's gate signed needs no developer; what stage's gate signed is none of prod's."""
    deploy(cluster)
    promote(cluster, "stage")
    done = promote(cluster, "prod")
    world, ada = cluster.world, person("ada")
    said = str(on_the_way(world, ring(ada)).unsigned)
    assert done.commit[:12] not in said
    text = world.file("manual-app-helm/values-prod.yaml") + "\n# by hand\n"
    secret = (world.context.site.state / "keys" / "gate-stage.pgp").read_text()
    gate_stage = Person("gate", "", lambda data: openpgp.sign(secret, data))
    commit = made(world, gate_stage, {"manual-app-helm/values-prod.yaml": text})
    assert any(commit[:12] in one for one in on_the_way(world, ring(ada)).unsigned)


def approve(cluster: FakeCluster, seen: list[approving.Asked] | None = None) -> approving.Approved:
    context = cluster.world.context

    def agrees(asked: approving.Asked) -> bool:
        if seen is not None:
            seen.append(asked)
        return True

    return approving.run(context, context.environment("prod"), None, agrees=agrees)


def test_a_first_release_is_everybodys(cluster: FakeCluster, shelf: Shelf) -> None:
    """I wrote the app, and somebody else's typo came last: nothing runs in prod yet, and I cannot approve it."""
    world = cluster.world
    made(world, None, {"manual-app/app.py": "2\n"}, email="Approver@Localhost")
    made(world, None, {"manual-app/typo.py": "2\n"}, email="typo@example.test")
    newer = put(cluster, shelf, "16")
    deploy(cluster)
    promote(cluster, "stage")
    world.prove(world.context.environment("stage"), newer.digest)
    refused(cluster, Refused, "approver@localhost is an author of it", lambda: approve(cluster))


def test_signed_commits_from_push_to_prod(
    cluster: FakeCluster, shelf: Shelf, person: Callable[..., Person], capsys: pytest.CaptureFixture[str]
) -> None:
    """The pipeline asks for signatures: what nobody signed enters nowhere, and who signed does not approve it."""
    from delivery.show import report

    ada, bob = person("ada"), person("bob")
    world = cluster.world
    legacy = world.git(world.server, "log", "--format=Vouches-for: %H", "main")
    made(world, ada, asking(world.file("pipeline.yaml"), ada), f"signed from now on\n\n{legacy}")
    cluster.world = world = world.reloaded()
    put(cluster, shelf, "15")
    deploy(cluster)
    unsigned = made(world, None, {"manual-app/app.py": "2\n"}, email=bob.email)
    newer = put(cluster, shelf, "16")
    deploy(cluster)
    dev, stage = (world.context.environment(name) for name in ("dev", "stage"))
    world.prove(dev, newer.digest)
    says = f"commit {unsigned[:12]} is not signed; a developer who answers for it"
    refused(cluster, Refused, says, lambda: bare_promote(cluster, "stage"))
    made(world, ada, {}, f"mine\n\nVouches-for: {unsigned}")
    bare_promote(cluster, "stage")
    world.prove(stage, newer.digest)
    seen: list[approving.Asked] = []
    approve(cluster, seen)
    report.print_asked(seen[0])
    shown = capsys.readouterr().out.replace("\n", " ")
    assert "ada@example.org (signed by ada)" in shown
    assert "bob@example.org (e-mail, not verified)" in shown
    bare_promote(cluster, "prod")
    # Somebody puts a key of his own beside ada's, and signs with it: by the rules in force he is nobody.
    made(world, bob, asking(world.file("pipeline.yaml"), ada, bob), "and me")
    made(world, bob, {"manual-app/app.py": "3\n"})
    cluster.world = world = world.reloaded()
    newest = put(cluster, shelf, "17")
    deploy(cluster)
    world.prove(dev, newest.digest)
    says = (
        r"stage became weaker .*signed by bob@example.org.*: commit .* is signed with a key that developers"
    )
    refused(cluster, Refused, says, lambda: bare_promote(cluster, "stage"))


def test_who_signed_does_not_approve(
    cluster: FakeCluster, shelf: Shelf, person: Callable[..., Person]
) -> None:
    """My key signed it under somebody else's e-mail: I am its author, and cannot approve it."""
    ada = person("ada")
    world = cluster.world
    legacy = world.git(world.server, "log", "--format=Vouches-for: %H", "main")
    files = asking(world.file("pipeline.yaml"), ada) | {"manual-app/app.py": "2\n"}
    made(world, ada, files, f"mine\n\n{legacy}", email="ghost@example.org")
    world = world.reloaded()
    cluster.world = world = world.ruled(approvers=(Approver(name="approver", identity="ADA@example.org"),))
    newer = put(cluster, shelf, "16")
    deploy(cluster)
    promote(cluster, "stage")
    world.prove(world.context.environment("stage"), newer.digest)
    refused(cluster, Refused, "ADA@example.org is an author of it", lambda: approve(cluster))
