"""Every way we could think of to ask the Git server for a push without its password."""

import base64
import itertools
import json
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from delivery import pipeline

SCRIPT = Path(__file__).with_name("raw_push.py").read_text(encoding="utf-8")
Request = tuple[str, str, list[str]]

_NAME = pipeline.load(Path(__file__).resolve().parents[1]).chart.release
_PACK = f"/{_NAME}.git/git-receive-pack"
_TARGETS = (
    _PACK,
    # Letters, dashes, dots and slashes, percent-encoded.
    f"/{_NAME}.git/git-receive%2Dpack",
    f"/{_NAME}.git/git%2dreceive%2dpack",
    f"/{_NAME}.git/%67it-receive-pac%6B",
    f"/{_NAME}%2Egit/git-receive-pack",
    f"/{_NAME}.git%2Fgit-receive-pack",
    f"/{_NAME}.git/git%252Dreceive-pack",
    f"/{_NAME}.git/git-receive-pack%0A",
    f"/{_NAME}.git/git-receive-pack%00",
    f"/{_NAME}.git/git-upload-pack%00/git-receive-pack",
    f"/{_NAME}.git/git-upload-pack%0A/git-receive-pack",
    # Slashes and dots that a server takes away.
    f"//{_NAME}.git//git-receive-pack",
    f"/./{_NAME}.git/./git-receive-pack",
    f"/other/../{_NAME}.git/git-receive-pack",
    f"/{_NAME}.git/git-upload-pack/../git-receive-pack",
    f"/{_NAME}.git/git-upload-pack/%2e%2e/git-receive-pack",
    f"/{_NAME}.git/info/refs/../../git-receive-pack",
    f"/{_NAME}.git/git-receive-pack/",
    f"/{_NAME}.git/git-receive-pack;git-upload-pack",
    f"http://git.local/{_NAME}.git/git-receive-pack",
    # Words that the gateway itself uses, and other cases.
    f"/push/{_NAME}.git/git-receive-pack",
    f"/push/{_NAME}.git/info/refs",
    f"/read/{_NAME}.git/git-receive-pack",
    f"/{_NAME.title()}.git/Git-Receive-Pack",
    f"/{_NAME}/git-receive-pack",
    # A query that says one thing and a body that does another.
    f"{_PACK}?service=git-upload-pack",
    f"{_PACK}?git-upload-pack",
    f"/{_NAME}.git/git-upload-pack",
    f"/{_NAME}.git/git-upload-pack?service=git-receive-pack",
    f"/{_NAME}.git/info/refs?service=git-receive-pack",
    f"/{_NAME}.git/HEAD/git-receive-pack",
    f"/{_NAME}.git/objects/git-receive-pack",
)
_QUERIES = (
    "service=git-receive-pack",
    "service=git-receive%2Dpack",
    "service=%67it-receive-pack",
    "%73ervice=git-receive-pack",
    "service=git-upload-pack&service=git-receive-pack",
    "service=git-receive-pack&service=git-upload-pack",
    "x&service=git-receive-pack",
    "&service=git-receive-pack",
    "service=git-receive-pack#",
    "service=git-receive-pack%00",
)


def basic(user: str, scheme: str = "Basic") -> list[str]:
    """The header of a login, `user:password`."""
    return [f"Authorization: {scheme} {base64.b64encode(user.encode()).decode()}"]


_USERS: tuple[list[str], ...] = (
    [],
    basic("bogus:bogus"),
    basic(":"),
    basic("delivery:"),
    basic("delivery"),
    basic("delivery:wrong", "basic"),
    ["Authorization: Basic ====="],
    ["Authorization: Bearer delivery"],
    [
        "Remote-User: delivery",
        "X-Remote-User: delivery",
        "REMOTE_USER: delivery",
        "X-Forwarded-User: delivery",
    ],
)
_PROTOCOLS: tuple[list[str], ...] = ([], ["Git-Protocol: version=1"], ["Git-Protocol: version=2"])
_CONTENT = ["Content-Type: application/x-git-receive-pack-request", "X-HTTP-Method-Override: POST"]


def requests() -> Iterator[Request]:
    """All of them; each is refused, or does something harmless."""
    for user, protocol in itertools.product(_USERS, _PROTOCOLS):
        for target in _TARGETS:
            yield "POST", target, [*_CONTENT, *user, *protocol]
        for query in _QUERIES:
            yield "GET", f"/{_NAME}.git/info/refs?{query}", [*user, *protocol]


def body(repository: Path, parent: str, branch: str) -> bytes:
    """What a client sends to push a new commit on top of `parent` as a branch that is not there yet."""
    who = ("-c", "user.name=Intruder", "-c", "user.email=intruder@example.org")
    tree = _git(repository, "rev-parse", f"{parent}^{{tree}}").decode().strip()
    made = _git(repository, *who, "commit-tree", "-p", parent, "-m", branch, tree)
    line = f"{'0' * 40} {made.decode().strip()} refs/heads/{branch}\0 report-status".encode()
    # The server has the tree and all that came before: only the commit itself is sent.
    pack = _git(repository, "pack-objects", "--stdout", "-q", input=made)
    return f"{len(line) + 4:04x}".encode() + line + b"0000" + pack


def question(host: str, port: int, content: bytes, asked: Iterable[Request]) -> str:
    """What raw_push.py reads."""
    encoded = base64.b64encode(content).decode()
    return json.dumps({"host": host, "port": port, "body": encoded, "requests": list(asked)})


def _git(repository: Path, *arguments: str, input: bytes = b"") -> bytes:
    return subprocess.run(
        ["git", "-C", repository, *arguments], input=input, capture_output=True, check=True, timeout=60
    ).stdout
