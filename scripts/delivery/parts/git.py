"""The git command: no prompts, no hooks, every call bounded; passwords never in arguments.

A password comes from a file of git's credential store, from DELIVERY_GIT_TOKEN, or from git's own helpers.
"""

import os
import shlex
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from delivery.errors import BadInput, DeliveryError, PlatformError
from delivery.parts import direct
from delivery.site import GitServer

SECONDS = 60
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
_SILENT_HINT = "does the site's Git server answer? git ls-remote shows it"
_RACE = ("non-fast-forward", "fetch first", "cannot lock ref", "failed to update ref", "incorrect old value")


@dataclass(frozen=True)
class Repository:
    """A repository on disk, and the server that it fetches from and pushes to."""

    path: Path
    server: GitServer | None = None

    def run(self, *arguments: str, seconds: float = SECONDS) -> str:
        """What the command prints, without its last newline; typed errors when it fails."""
        return self.raw(*arguments, seconds=seconds).decode("utf-8", "replace").rstrip("\n")

    def raw(self, *arguments: str, seconds: float = SECONDS) -> bytes:
        """The same, byte for byte."""
        return _git(["-C", str(self.path), *_login(self.server), *arguments], seconds)

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
        """Write a folder of a commit below `to`, and say where it is now."""
        data = self.raw("archive", "--format=tar", commit, "--", path)
        with tarfile.open(fileobj=BytesIO(data)) as archive:
            archive.extractall(to, filter="data")
        return to / path

    def commit_signed(
        self, message: str, author: tuple[str, str], sign: Callable[[bytes], str] | None = None
    ) -> str:
        """Commit what is staged on top of HEAD, also when nothing is; the new commit, which HEAD's branch is at now.

        `author` is a name and an e-mail; `sign` makes an armored signature of the commit without it, as `git commit -S`
        would (gitformat-signature: it stands in the header `gpgsig`, its lines after the first begin with a space).
        """
        made = self.commit_on(self.commit("HEAD"), message, author, sign)
        self.run("update-ref", "HEAD", made)
        return made

    def commit_on(
        self,
        parent: str,
        message: str,
        author: tuple[str, str],
        sign: Callable[[bytes], str] | None = None,
    ) -> str:
        """The same on top of any commit, or of none where `parent` is empty; no branch moves."""
        name, email = author
        now = f"{int(time.time())} +0000"
        head = f"tree {self.run('write-tree')}\n" + (f"parent {parent}\n" if parent else "")
        head += f"author {name} <{email}> {now}\ncommitter {name} <{email}> {now}\n"
        signature = ""
        if sign is not None:
            armored = sign(f"{head}\n{message}".encode()).rstrip("\n")
            signature = "gpgsig " + armored.replace("\n", "\n ") + "\n"
        with tempfile.NamedTemporaryFile(prefix="delivery-commit-") as file:
            file.write(f"{head}{signature}\n{message}".encode())
            file.flush()
            return self.run("hash-object", "-t", "commit", "-w", file.name)

    def signature(self, commit: str) -> tuple[bytes, str]:
        """What the signature of a commit is about, and the armored signature; empty when it has none."""
        text = self.raw("cat-file", "commit", commit)
        head, _, message = text.partition(b"\n\n")
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

    def fetch(self, ref: str) -> str:
        """Bring a ref's commits here without touching any ref of this repository; its commit id."""
        server = self._server()
        commit = server_ref(server, ref)
        if commit is None:
            raise PlatformError(
                f"{server.url} has no {ref}", "is it the right repository? see the site's git.url"
            )
        if not self.has(commit):
            self._retrying("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", server.url, ref)
        return commit

    def push(self, commit: str, branch: str) -> None:
        """Move a branch of the server forward, never by force: PushRejected when it moved meanwhile."""
        server = self._server()
        try:
            self.raw("push", "--quiet", "--no-verify", server.url, f"{commit}:refs/heads/{branch}")
        except GitFailed as error:
            if any(sign in error.message.lower() for sign in _RACE):
                raise PushRejected(
                    f"{branch} of {server.url} moved while we pushed", "run the same command again"
                ) from None
            raise

    def _server(self) -> GitServer:
        assert self.server is not None  # noqa: S101 - a repository that was made without one is only read
        return self.server

    def _retrying(self, *arguments: str) -> None:
        for attempt in _attempts():
            with attempt:
                self.raw(*arguments)


def server_ref(server: GitServer, ref: str) -> str | None:
    """The commit that a ref of the server points to (a tag: what it tags), or None when it is not there."""
    names = [ref, f"{ref}^{{}}"] if ref.startswith("refs/tags/") else [ref]
    for attempt in _attempts():
        with attempt:
            said = _git([*_login(server), "ls-remote", server.url, *names], SECONDS).decode()
    found = {name: commit for commit, _, name in (line.partition("\t") for line in said.splitlines())}
    return found.get(f"{ref}^{{}}") or found.get(ref)


@contextmanager
def clone(server: GitServer, branch: str, *, bare: bool = False) -> Iterator[Repository]:
    """A fresh clone of one branch of the server in a temporary folder, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="delivery-git-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "clone"
        command = ["clone", "--quiet", "--no-tags", "--single-branch", *(["--bare"] if bare else [])]
        for attempt in _attempts():
            with attempt:
                shutil.rmtree(path, ignore_errors=True)  # what an attempt that was killed left
                _git([*_login(server), *command, "--branch", branch, "--", server.url, str(path)], SECONDS)
        yield Repository(path, server)


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


def _git(arguments: list[str], seconds: float) -> bytes:
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
            stdin=subprocess.DEVNULL,
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
