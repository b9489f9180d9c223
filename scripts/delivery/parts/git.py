"""The git command: no prompts, no hooks, every call bounded; passwords never in arguments.

A password comes from a file of git's credential store, from DELIVERY_GIT_TOKEN, or from git's own helpers.
"""

import os
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from delivery.errors import BadInput, DeliveryError, PlatformError
from delivery.parts import direct, tar
from delivery.site import GitServer

SECONDS = 60
_OVERTAKEN = 5  # times that a ref may move between its name and its fetch
SILENT = 20  # seconds without a byte, after which git gives an HTTP server up
TOKEN = "DELIVERY_GIT_TOKEN"  # noqa: S105 - the variable's name


class GitFailed(PlatformError):
    """A git command that should have worked did not."""


class ServerUnreachable(PlatformError):
    """The Git server did not answer, or refused the credentials."""


class ServerSilent(ServerUnreachable):
    """The Git server was reached and then said nothing more."""


class PushRejected(DeliveryError):
    """Somebody else's commit is there already; ours was not taken. Nothing changed on the server."""

    exit_code = 3


# Variables that git sets for hooks and that would point our commands at somebody else's repository.
_FOREIGN = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)
_UNREACHABLE = (
    "could not resolve host",
    "connection refused",
    "failed to connect",
    "unable to access",
    "the remote end hung up",
    "authentication failed",
    "could not read username",
    "early eof",
    "does not appear to be a git repository",
)
_COMMIT_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_SILENT_HINT = "does the site's Git server answer? git ls-remote shows it"
_RACE = (
    *("non-fast-forward", "fetch first", "cannot lock ref", "failed to update ref", "incorrect old value"),
    *("already exists", "cannot be moved"),  # of a tag
)
_SIGNATURE = re.compile(rb"^-----BEGIN (?:PGP|SSH) SIGNATURE-----$", re.MULTILINE)


@dataclass(frozen=True)
class Repository:
    """A repository on disk, and the server that it fetches from and pushes to."""

    path: Path
    server: GitServer | None = None

    def run(self, *arguments: str, seconds: float = SECONDS) -> str:
        """What the command prints, without its last newline; typed errors when it fails."""
        return self.raw(*arguments, seconds=seconds).decode("utf-8", "replace").rstrip("\n")

    def raw(self, *arguments: str, seconds: float = SECONDS, reads: bytes = b"") -> bytes:
        """The same, byte for byte; `reads` is what the command finds at its standard input."""
        return _git(["-C", str(self.path), *_login(self.server), *arguments], seconds, reads)

    def ok(self, *arguments: str) -> bool:
        """Whether a question asked of git (merge-base --is-ancestor, diff --quiet) is answered with yes."""
        try:
            self.raw(*arguments)
        except GitFailed:
            return False
        return True

    def contains(self, commit: str, branch: str) -> bool:
        """Whether a commit is a branch's head or came before it."""
        return bool(commit) and self.ok("merge-base", "--is-ancestor", commit, branch)

    def has(self, commit: str) -> bool:
        """Whether a commit is in here."""
        return self.ok("cat-file", "-e", f"{commit}^{{commit}}")

    def commit(self, name: str) -> str:
        """The full id of the commit that a name stands for; BadInput when there is none."""
        try:
            return self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except GitFailed:
            raise BadInput(
                f"there is no commit {name!r} in {self.path}", "git log shows those there are"
            ) from None

    def show(self, commit: str, path: str) -> bytes | None:
        """A file as it is in a commit, or None when it is not in there."""
        try:
            return self.raw("show", f"{commit}:{path}")
        except GitFailed:
            if self.run("ls-tree", commit, "--", path):
                raise
            return None

    def last_change(self, commit: str, path: str) -> str:
        """The newest commit, seen from this one, that changed a folder; empty when none did."""
        return self.run("log", "-1", "--format=%H", commit, "--", path)

    def archive(self, tree: str) -> bytes:
        """A tree (`commit` or `commit:folder`) as a tar file: exactly what is committed."""
        return self.raw("archive", "--format=tar", tree)

    def export(self, commit: str, path: str, to: Path) -> Path:
        """Write a folder of a commit below `to`, and say where it is now; BadInput when a link leads out of it."""
        data = self.raw("archive", "--format=tar", commit, "--", path)
        try:
            tar.unpack(data, to)
        except ValueError as error:
            raise BadInput(
                f"{path} of commit {commit[:12]} has a link that leads out of it: {error}",
                "commit the file itself instead of the link",
            ) from None
        return to / path

    def commit_signed(
        self, message: str, author: tuple[str, str], sign: Callable[[bytes], str] | None = None, at: int = 0
    ) -> str:
        """Commit what is staged on top of HEAD, also when nothing is; the new commit, which HEAD's branch is at now.

        `author` is a name and an e-mail; `sign` makes an armored signature of the commit without it, as `git commit -S`
        would (gitformat-signature: it stands in the header `gpgsig`, its lines after the first begin with a space).
        """
        made = self.commit_on(self.commit("HEAD"), message, author, sign, at=at)
        self.run("update-ref", "HEAD", made)
        return made

    def sealed(
        self, commit: str, message: str, author: tuple[str, str], sign: Callable[[bytes], str] | None, at: int
    ) -> str:
        """A signed commit on top of another that changes nothing; no branch moves. `at` in seconds since 1970."""
        tree = self.run("rev-parse", f"{commit}^{{tree}}")
        return self.commit_on(commit, message, author, sign, tree, at)

    def tag(
        self,
        name: str,
        commit: str,
        message: str,
        author: tuple[str, str],
        sign: Callable[[bytes], str] | None,
        at: int,
    ) -> str:
        """Store an annotated tag of a commit, signed as `git tag -s` would; its id. No ref names it yet."""
        called, email = author
        text = f"object {commit}\ntype commit\ntag {name}\ntagger {called} <{email}> {at} +0000\n\n{message}"
        return self._store("tag", text + (sign(text.encode()) if sign else ""))

    def commit_on(
        self,
        parent: str,
        message: str,
        author: tuple[str, str],
        sign: Callable[[bytes], str] | None = None,
        tree: str = "",
        at: int = 0,
    ) -> str:
        """The same on top of any commit, or of none where `parent` is empty; no branch moves.

        Where they are given, it has another tree than what is staged, and another time than now.
        """
        name, email = author
        now = f"{at or int(time.time())} +0000"
        head = f"tree {tree or self.run('write-tree')}\n" + (f"parent {parent}\n" if parent else "")
        head += f"author {name} <{email}> {now}\ncommitter {name} <{email}> {now}\n"
        signature = ""
        if sign is not None:
            armored = sign(f"{head}\n{message}".encode()).rstrip("\n")
            signature = "gpgsig " + armored.replace("\n", "\n ") + "\n"
        return self._store("commit", f"{head}{signature}\n{message}")

    def merge_of(self, tree: str, parents: Iterable[str], message: str, author: tuple[str, str]) -> str:
        """A commit of a tree on top of these parents, signed by nobody; no branch moves."""
        name, email = author
        who = ("-c", f"user.name={name}", "-c", f"user.email={email}")
        above = [word for one in parents for word in ("-p", one)]
        return self.run(*who, "commit-tree", tree, *above, "-m", message)

    def _store(self, kind: str, text: str) -> str:
        with tempfile.NamedTemporaryFile(prefix=f"delivery-{kind}-") as file:
            file.write(text.encode())
            file.flush()
            return self.run("hash-object", "-t", kind, "-w", file.name)

    def objects(self, names: Iterable[str]) -> list[tuple[str, bytes] | None]:
        """Objects by any name that git knows (an id, `commit:path`), read by one process, in the order of the names.

        Each is its kind and its content; None stands for one that is not in here.
        """
        if not (wanted := list(names)):
            return []
        said = self.raw("cat-file", "--batch", reads="".join(f"{one}\n" for one in wanted).encode())
        found: list[tuple[str, bytes] | None] = []
        at = 0
        for _ in wanted:
            end = said.index(b"\n", at)
            line, at = said[at:end], end + 1
            if line.endswith((b" missing", b" ambiguous")):
                found.append(None)
                continue
            _, kind, size = line.decode().rsplit(" ", 2)
            found.append((kind, said[at : at + int(size)]))
            at += int(size) + 1
        return found

    def commits(self, ids: Iterable[str]) -> dict[str, bytes]:
        """Commits as they are stored, by their full ids, read by one process; GitFailed when one is not in here."""
        return self._stored("commit", ids)

    def tags(self, *names: str) -> dict[str, tuple[str, bytes]]:
        """The annotated tags that are in here, all or those of these names: the id of each, and how it is stored."""
        refs = [f"refs/tags/{one}" for one in names] or ["refs/tags"]
        said = self.run("for-each-ref", "--format=%(objecttype) %(objectname) %(refname:lstrip=2)", *refs)
        found = [line.split(" ", 2) for line in said.splitlines()]
        ids = {name: one for kind, one, name in found if kind == "tag"}
        stored = self._stored("tag", ids.values())
        return {name: (one, stored[one]) for name, one in ids.items()}

    def tag_names(self) -> list[str]:
        """The names of all tags that are in here, annotated or not."""
        return self.run("for-each-ref", "--format=%(refname:lstrip=2)", "refs/tags").splitlines()

    def id_of(self, ref: str) -> str:
        """The id of what a ref names, be it a commit or a tag; empty when it is not in here."""
        try:
            return self.run("rev-parse", "--verify", "--quiet", "--end-of-options", ref)
        except GitFailed:
            return ""

    def _stored(self, expected: str, ids: Iterable[str]) -> dict[str, bytes]:
        wanted = list(dict.fromkeys(ids))
        found: dict[str, bytes] = {}
        for name, one in zip(wanted, self.objects(wanted), strict=True):
            if one is None or one[0] != expected:
                raise GitFailed(
                    f"git cat-file: {name} is no {expected} in here", "run it by hand to see more"
                )
            found[name] = one[1]
        return found

    def committed(self, ids: Iterable[str]) -> dict[str, datetime]:
        """When these commits were made, by their full ids; what is no id, or not in here, is left out."""
        wanted = [one for one in dict.fromkeys(ids) if _COMMIT_ID.fullmatch(one)]
        if not wanted:
            return {}
        asked = ("log", "--no-walk=unsorted", "--ignore-missing", "--format=%H %cI", "--stdin")
        said = self.raw(*asked, reads="".join(f"{one}\n" for one in wanted).encode()).decode()
        lines = (line.partition(" ") for line in said.splitlines())
        return {commit: made for commit, _, told in lines if (made := moment(told))}

    def fetch(self, ref: str, *, shallow: bool = False) -> str:
        """Bring a ref's commits here without touching any ref of this repository; its commit id.

        `shallow` brings the newest commit alone, whatever led to it.
        """
        server, depth = self._server(), ["--depth=1"] if shallow else []
        for _ in range(_OVERTAKEN):
            commit = server_ref(server, ref)
            if commit is None:
                raise PlatformError(
                    f"{server.url} has no {ref}", "is it the right repository? see the site's git.url"
                )
            if not self.has(commit):
                fetch = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", *depth)
                self._retrying(*fetch, server.url, ref)
            # Where it moved on after it was named, a shallow fetch brought the newer commit alone.
            if self.has(commit):
                return commit
        raise GitFailed(f"{ref} of {server.url} moves faster than it can be read", "run it again")

    def update(self, branch: str) -> str:
        """Bring a branch of the server here, the tags, and what begins with `release`; the branch's newest commit.

        HEAD is at it afterwards, and in a repository with files so are they.
        """
        refs = [f"+refs/heads/{one}:refs/remotes/origin/{one}" for one in (branch, "release*")]
        self._retrying(
            *("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", self._server().url),
            *(*refs, "+refs/tags/*:refs/tags/*"),
        )
        newest = self.commit(f"refs/remotes/origin/{branch}")
        self.run("update-ref", "HEAD", newest)
        if self.run("rev-parse", "--is-bare-repository") == "false":
            self.raw("reset", "--hard", "--quiet", newest)
        return newest

    def push(self, commit: str, branch: str) -> None:
        """Move a branch of the server forward, never by force: PushRejected when it moved meanwhile."""
        self.push_all({f"refs/heads/{branch}": commit})

    def push_all(self, wanted: Mapping[str, str]) -> None:
        """Move branches forward and make tags, all of them or none, never by force: ref -> id.

        PushRejected when one of them moved meanwhile, or was made.
        """
        server, refs = self._server(), [f"{one}:{ref}" for ref, one in wanted.items()]
        together = ["--atomic"] if len(refs) > 1 else []
        try:
            self.raw("push", "--quiet", "--no-verify", *together, server.url, *refs)
        except (
            GitFailed,
            ServerUnreachable,
        ) as error:  # of several refs, git says that the server hung up, too
            if any(sign in error.message.lower() for sign in _RACE):
                names = " or ".join(ref.split("/", 2)[2] for ref in wanted)
                raise PushRejected(
                    f"{names} of {server.url} moved while we pushed", "run the same command again"
                ) from None
            raise

    def _server(self) -> GitServer:
        assert self.server is not None  # noqa: S101 - a repository that was made without one is only read
        return self.server

    def _retrying(self, *arguments: str) -> None:
        for attempt in _attempts():
            with attempt:
                self.raw(*arguments)


def moment(told: str) -> datetime | None:
    """A commit's time as git's %aI and %cI tell it; None where it is none: a commit can claim any number."""
    try:
        return datetime.fromisoformat(told)
    except ValueError:
        return None


def signature_of(commit: bytes) -> tuple[bytes, str]:
    """What the signature of a commit, as it is stored, is about, and the armored signature; empty when it has none."""
    head, _, message = commit.partition(b"\n\n")
    kept: list[bytes] = []
    signature: list[bytes] = []
    inside = False
    for line in head.split(b"\n"):
        inside = line.startswith(b"gpgsig ") or (inside and line.startswith(b" "))
        if inside:
            signature.append(line.removeprefix(b"gpgsig ").removeprefix(b" "))
        else:
            kept.append(line)
    return b"\n".join(kept) + b"\n\n" + message, b"\n".join(signature).decode("ascii", "replace")


def tag_signature_of(tag: bytes) -> tuple[bytes, str]:
    """What the signature of an annotated tag, as it is stored, is about, and the armored signature, empty if none."""
    begins = _SIGNATURE.search(tag)
    if begins is None:
        return tag, ""
    return tag[: begins.start()], tag[begins.start() :].decode("ascii", "replace")


def server_ref(server: GitServer, ref: str) -> str | None:
    """The commit that a ref of the server points to (a tag: what it tags), or None when it is not there."""
    names = [ref, f"{ref}^{{}}"] if ref.startswith("refs/tags/") else [ref]
    for attempt in _attempts():
        with attempt:
            said = _git([*_login(server), "ls-remote", server.url, *names], SECONDS).decode()
    found = {name: commit for commit, _, name in (line.partition("\t") for line in said.splitlines())}
    return found.get(f"{ref}^{{}}") or found.get(ref)


@contextmanager
def clone(
    server: GitServer, branch: str, *, bare: bool = False, paths: Iterable[str] = ()
) -> Iterator[Repository]:
    """A fresh clone of one branch of the server in a temporary folder, gone afterwards; `update` says what is in it.

    With `paths` only the folders of the top in which those are, and the files beside them, are there as files.
    """
    with tempfile.TemporaryDirectory(prefix="delivery-git-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "clone"
        kind = ["--bare"] if bare else []
        _git(["init", "--quiet", "--template=", *kind, f"--initial-branch={branch}", str(path)], SECONDS)
        repository = Repository(path, server)
        inside = path if bare else path / ".git"
        if server.checkout:
            _borrow(server.checkout / ".git", inside)
        if tops := sorted({one.partition("/")[0] for one in paths}):
            patterns = ["/*", "!/*/", *(f"/{one}/" for one in tops)]
            (inside / "info").mkdir(exist_ok=True)
            (inside / "info" / "sparse-checkout").write_text("\n".join(patterns), encoding="utf-8")
            repository.run("config", "core.sparseCheckout", "true")
        repository.update(branch)
        yield repository


def _borrow(lender: Path, borrower: Path) -> None:
    """Let a repository read the objects of another one: only what both lack is fetched.

    Not those of one that is no whole repository itself: a shallow or a partial one, or a worktree.
    """
    objects = lender / "objects"
    if objects.is_dir() and not (lender / "shallow").exists() and not any(objects.glob("pack/*.promisor")):
        alternates = borrower / "objects" / "info" / "alternates"
        alternates.parent.mkdir(exist_ok=True)
        alternates.write_text(f"{objects.resolve()}\n", encoding="utf-8")


def checkout(path: Path) -> Repository:
    """The repository around a folder; BadInput when it is not in one."""
    try:
        return Repository(Path(Repository(path).run("rev-parse", "--show-toplevel")))
    except GitFailed:
        raise BadInput(f"{path} is not a git repository", "clone the repository with git") from None


def _attempts() -> Retrying:
    return Retrying(
        retry=retry_if_exception(_passes),
        stop=stop_after_attempt(3),
        wait=wait_exponential(multiplier=0.2, max=1),
        reraise=True,
    )


def _passes(error: BaseException) -> bool:
    return isinstance(error, ServerUnreachable) and not isinstance(error, ServerSilent)


def _login(server: GitServer | None) -> list[str]:
    """How git finds the password of a server: the options that say so, never the password itself."""
    if server is None:
        return ["-c", "credential.helper="]
    if server.credentials:
        # Read only: git's own store helper would erase the file's entry after a refused login.
        get = f"git credential-store --file={shlex.quote(str(server.credentials))} get"
    elif os.environ.get(TOKEN):
        # Every forge takes a token as the password, whoever the user is called; GitLab and GitHub document this name.
        get = f"printf 'username=oauth2\\npassword=%s\\n' \"${TOKEN}\""
    else:
        return []  # git's own configuration knows
    helper = f'!f() {{ if test "$1" = get; then {get}; fi; }}; f'
    return ["-c", "credential.helper=", "-c", f"credential.helper={helper}"]


def _git(arguments: list[str], seconds: float, reads: bytes = b"") -> bytes:
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "", "SSH_ASKPASS": "", "LC_ALL": "C"}
    environment |= direct.environment() | {"GIT_OPTIONAL_LOCKS": "0"}
    environment.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")  # it would ask at the terminal
    plain = ["-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false", "-c", "core.quotePath=false"]
    plain += [
        "-c",
        "commit.gpgSign=false",
        "-c",
        "push.gpgSign=false",
        "-c",
        "gc.auto=0",
        "-c",
        "advice.detachedHead=false",
        "-c",
        "http.lowSpeedLimit=1",
        "-c",
        f"http.lowSpeedTime={SILENT}",
    ]
    command = ["git", *plain, *arguments]
    verb = next((word for word in arguments if word in _VERBS), "git")
    try:
        done = subprocess.run(
            command,
            env=environment,
            input=reads,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
    except FileNotFoundError:
        raise PlatformError(
            "git is not installed", "install it (Debian: apt-get install git; macOS: xcode-select --install)"
        ) from None
    except subprocess.TimeoutExpired:
        raise ServerSilent(f"git {verb} did not finish within {seconds:.0f} s", _SILENT_HINT) from None
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace")
        if "operation too slow" in text.lower():
            raise ServerSilent(f"the Git server said nothing for {SILENT} s (git {verb})", _SILENT_HINT)
        kind = ServerUnreachable if any(sign in text.lower() for sign in _UNREACHABLE) else GitFailed
        raise kind(
            f"git {verb}: {_reason(text) or f'exit {done.returncode}'}",
            f"does the site's Git server answer, and take the login (git's helpers, or {TOKEN})?"
            if kind is ServerUnreachable
            else "run it by hand to see more",
        )
    return done.stdout


_VERBS = {
    *(
        "add",
        "archive",
        "cat-file",
        "clone",
        "commit",
        "diff",
        "fetch",
        "log",
        "ls-remote",
        "ls-tree",
        "merge-base",
        "merge-tree",
        "commit-tree",
    ),
    *("push", "rebase", "reset", "rev-parse", "show", "status", "rev-list", "config", "init", "tag"),
}


def _reason(text: str) -> str:
    """The lines of git's answer that say why, on one line."""
    lines = [
        line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("hint:", "To "))
    ]
    why = [line for line in lines if line.startswith(("fatal:", "error:", "!", "remote:"))] or lines
    return "; ".join(dict.fromkeys(why))[:400]
