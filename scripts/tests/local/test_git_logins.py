"""The hook of the local Git server: what people push, and what the verbs push, by the login that nginx has checked."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from delivery.signed import ledger
from scripts.tests.world import ROOT, git

HOOK = ROOT / "scripts" / "local" / "gateway" / "update-hook"
LEDGER = f"refs/heads/{ledger.BRANCH}"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository as scripts/local/gateway/start makes it, with a main, a ledger, a tag; and a clone of it."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    made, clone = tmp_path / "server.git", tmp_path / "clone"
    git(tmp_path, "init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(made))
    git(made, "config", "receive.denyNonFastForwards", "true")
    git(made, "config", "receive.denyDeletes", "true")
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(clone))
    for number in (1, 2):
        git(clone, "commit", "--quiet", "--allow-empty", "--message", str(number))
    git(clone, "push", "--quiet", str(made), "main", f"main:{LEDGER}", "main:refs/tags/v1")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "3")
    (made / "hooks").mkdir()
    shutil.copy(HOOK, made / "hooks" / "update")
    return made


def pushes(server: Path, login: str, refspec: str) -> tuple[bool, str]:
    """Whether a push is taken, and what the server says."""
    done = subprocess.run(
        ["git", "-C", str(server.parent / "clone"), "push", "--porcelain", str(server), refspec],
        env={**os.environ, "REMOTE_USER": login},
        capture_output=True,
        text=True,
    )
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("login", "refspec", "says"),
    [
        ("developer", "HEAD:main", ""),
        ("developer", "HEAD:refs/heads/feature", ""),
        ("developer", f"HEAD:{LEDGER}", "the ledger is for the login delivery alone"),
        ("developer", f"HEAD^^:{LEDGER}", "rejected"),
        ("developer", f":{LEDGER}", "rejected"),
        ("developer", "HEAD:refs/heads/release", ""),
        ("developer", "HEAD:refs/tags/v2", "the login developer does not push tags/v2"),
        ("developer", "HEAD:refs/tags/request/v2", ""),
        ("developer", "HEAD:refs/notes/x", "the login developer does not push notes/x"),
        ("delivery", "HEAD:main", ""),
        ("delivery", f"HEAD:{LEDGER}", ""),
        ("delivery", "HEAD:refs/heads/release", ""),
        ("delivery", "HEAD:refs/tags/v2", ""),
        ("delivery", "+HEAD:refs/tags/v1", "tag v1 exists and cannot be moved"),
        ("delivery", ":refs/tags/v1", "rejected"),
        ("delivery", "HEAD:refs/heads/feature", "the login delivery does not push heads/feature"),
        ("delivery", f"+HEAD^^:{LEDGER}", "non-fast-forward"),
        ("delivery", f":{LEDGER}", "deletion prohibited"),
        ("delivery", ":refs/heads/main", "rejected"),
        ("delivery", "+HEAD^^:refs/heads/main", "non-fast-forward"),
    ],
)
def test_who_pushes_what(server: Path, login: str, refspec: str, says: str) -> None:
    """People push every branch but the ledger, the verbs what is theirs; nobody rewrites or deletes anything."""
    before = git(server, "for-each-ref")
    taken, said = pushes(server, login, refspec)
    assert taken == (not says), said
    assert says in said
    assert (git(server, "for-each-ref") == before) == (not taken)


def test_another_branch_of_the_environments(server: Path) -> None:
    """Where the environments live on a branch of another name, it is that one that the verbs push."""
    git(server, "symbolic-ref", "HEAD", "refs/heads/trunk")
    assert pushes(server, "delivery", "HEAD:refs/heads/trunk")[0]
    assert not pushes(server, "delivery", "HEAD:refs/heads/main")[0]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("entered/prod/one", "first\nsecond\n", ""),
        ("entered/prod/two", "first\n", ""),
        (
            "entered/prod/one",
            "another\n",
            "the ledger only grows, and this takes something out of entered/prod/one",
        ),
        ("entered/prod/one", "first and more\n", "takes something out of entered/prod/one"),
        ("entered/prod/one", None, "takes something out of entered/prod/one"),
        ("entered/prod/one", "first\n\0", "takes something out of entered/prod/one"),
    ],
    ids=["a line", "a file", "another line", "a longer line", "no file", "bytes"],
)
def test_the_ledger_only_grows(server: Path, file: str, text: str | None, says: str) -> None:
    """Who may write the ledger adds lines to it; what is there stays there, whatever a push on top of it says."""
    clone = server.parent / "clone"
    kept = clone / "entered" / "prod" / "one"
    kept.parent.mkdir(parents=True)
    kept.write_text("first\n")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "it entered")
    assert pushes(server, "delivery", f"HEAD:{LEDGER}")[0]
    if text is None:
        (clone / file).unlink()
    else:
        (clone / file).write_text(text)
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "more")
    before = git(server, "for-each-ref")
    taken, said = pushes(server, "delivery", f"HEAD:{LEDGER}")
    assert taken == (not says), said
    assert says in said
    assert (git(server, "for-each-ref") == before) == (not taken)


def test_a_renamed_file_is_one_that_goes(server: Path) -> None:
    """What was signed about one change does not become another's."""
    clone = server.parent / "clone"
    kept = clone / "entered"
    kept.write_text("first\n")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "--message", "it entered")
    assert pushes(server, "delivery", f"HEAD:{LEDGER}")[0]
    git(clone, "mv", "entered", "elsewhere")
    git(clone, "commit", "--quiet", "--message", "moved")
    taken, said = pushes(server, "delivery", f"HEAD:{LEDGER}")
    assert not taken
    assert "takes something out of entered" in said
