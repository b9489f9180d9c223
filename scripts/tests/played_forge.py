"""A forge, played: one HTTP server that answers as GitHub, GitLab or Gitea documents its API, over a real Git server.

Only what `delivery` asks is there, and of each answer the fields that the forge documents and that are read or could be
mistaken for those. What a person does on a forge's pages (approve, push, merge) are functions of it.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from delivery.site import Forge

if TYPE_CHECKING:
    from scripts.tests.world import World

REPOSITORY = "team/manual-app"
TOKEN = "the-token-of-the-forge"
_BASES = {"github": "/api/v3", "gitea": "/api/v1", "gitlab": "/api/v4"}
Object = dict[str, Any]


@dataclass
class Said:
    """One review: each forge has its own word for it."""

    login: str
    word: str  # approve, refuse, comment
    commit: str
    at: datetime
    dismissed: bool = False


@dataclass
class Pull:
    """One pull request as the forge keeps it."""

    number: int
    title: str
    body: str
    branch: str
    base: str
    head: str
    author: str
    repository: str = REPOSITORY
    state: str = "open"
    merged: str = ""
    labels: list[str] = field(default_factory=list)
    reviews: list[Said] = field(default_factory=list)
    versions: list[tuple[str, datetime]] = field(default_factory=list)


class PlayedForge:
    """Its pull requests; tests reach in to break things."""

    def __init__(self, kind: str, world: World) -> None:
        self.kind, self.world = kind, world
        self.url = ""
        self.pulls: list[Pull] = []
        self.labels: list[str] = ["bug"]
        self.asked: list[tuple[str, str]] = []  # method and path, in order
        self.says: tuple[int, str] | None = None  # instead of any answer: status and body
        self.says_to = ""  # … to requests of this method alone
        self.silent = threading.Event()  # set: it accepts a request, and answers nothing
        self.author = "ci-bot"  # whose token it is
        self._now = datetime.now(UTC) - timedelta(hours=1)

    @property
    def where(self) -> Forge:
        """As a site names it."""
        return Forge.model_validate({"kind": self.kind, "url": self.url, "repository": REPOSITORY})

    # What people do.

    def approve(self, login: str, commit: str = "", word: str = "approve") -> None:
        """Somebody reviews the newest pull request."""
        pull = self.pulls[-1]
        pull.reviews.append(Said(login, word, commit or self._head(pull), self.later()))

    def push(self, path: str, text: str) -> str:
        """Somebody adds a commit to its branch."""
        pull = self.pulls[-1]
        clone = self.world.clone(f"clone-{len(self.asked)}-{time.monotonic_ns()}")
        self.world.git(clone, "checkout", "--quiet", pull.branch)
        commit = self.world.commit(clone, path, text, "one more")
        self.world.git(clone, "push", "--quiet", "origin", pull.branch)
        pull.versions.append((commit, self.later()))
        return commit

    def merge(self, how: str = "--no-ff", then: dict[str, str] | None = None, by: str = "") -> str:
        """Somebody merges it; `then` are files that are written within the merge, as an evil one does."""
        pull = self.pulls[-1]
        pull.head = self._head(pull)
        clone = self.world.clone(f"clone-{time.monotonic_ns()}")
        git = self.world.git
        git(clone, "merge", "--quiet", how, "--no-commit", f"origin/{pull.branch}")
        for path, text in (then or {}).items():
            (clone / path).write_text(text)
        git(clone, "add", "--all")
        who = ("-c", f"user.name={by}", "-c", f"user.email={by}@example.test") if by else ()
        git(clone, *who, "commit", "--quiet", "--message", f"Merge pull request #{pull.number}")
        git(clone, "push", "--quiet", "origin", "main")
        pull.state, pull.merged = "merged", git(clone, "rev-parse", "HEAD")
        # What a forge keeps of a branch that was squashed and deleted.
        ref = (
            f"refs/merge-requests/{pull.number}/head"
            if self.kind == "gitlab"
            else f"refs/pull/{pull.number}/head"
        )
        git(self.world.server, "update-ref", ref, pull.head)
        git(self.world.server, "branch", "--quiet", "-D", pull.branch)
        return pull.merged

    def later(self) -> datetime:
        """A minute later than anything that was said before."""
        self._now += timedelta(minutes=1)
        return self._now

    # What it answers.

    def answer(self, method: str, path: str, query: dict[str, str], data: Any) -> tuple[int, Any]:
        """Status and document."""
        root = (
            f"/projects/{quote(REPOSITORY, safe='')}/" if self.kind == "gitlab" else f"/repos/{REPOSITORY}/"
        )
        if not path.startswith(_BASES[self.kind] + root):
            return 404, {"message": "Not Found"}
        words = path.removeprefix(_BASES[self.kind] + root).split("/")
        try:
            if self.kind == "gitlab":
                return self._gitlab(method, words, query, data)
            return self._pulls(method, words, query, data)
        except LookupError:
            return 404, {"message": "Not Found"}

    def _pulls(self, method: str, words: list[str], query: dict[str, str], data: Any) -> tuple[int, Any]:
        gitea = self.kind == "gitea"
        match method, words:
            case "GET", ["pulls"]:
                found = [one for one in self.pulls if one.state == query.get("state", "open")]
                if head := query.get("head"):
                    assert not gitea, "Gitea has no such filter"
                    found = [
                        one for one in found if f"{one.repository.partition('/')[0]}:{one.branch}" == head
                    ]
                return 200, self._page([self._pull(one) for one in found], query)
            case "POST", ["pulls"]:
                if any(one.branch == data["head"] and one.state == "open" for one in self.pulls):
                    told = {"message": f"A pull request already exists for team:{data['head']}."}
                    return (409 if gitea else 422), {"message": "Validation Failed", "errors": [told]}
                made = self._open(data["title"], data["body"], data["head"], data["base"])
                return 201, self._pull(made)
            case "PATCH", ["pulls", number]:
                pull = self._of(number)
                pull.title, pull.body = data["title"], data["body"]
                return (201 if gitea else 200), self._pull(pull)
            case "GET", ["pulls", number, "reviews"]:
                return 200, self._page([self._review(one) for one in self._of(number).reviews], query)
            case "POST", ["issues", number, "labels"]:
                named = [self.labels[one - 1] for one in data["labels"]] if gitea else data["labels"]
                self._label(self._of(number), named)
                return 200, [{"name": one} for one in self._of(number).labels]
            case "GET", ["labels"] if gitea:
                listed = [{"id": at, "name": one} for at, one in enumerate(self.labels, start=1)]
                return 200, self._page(listed, query)
            case "POST", ["labels"] if gitea:
                self.labels.append(data["name"])
                return 201, {"id": len(self.labels), "name": data["name"], "color": data["color"]}
            case "GET", ["commits", sha, "pulls"] if not gitea:
                return 200, self._page(
                    [self._pull(one) for one in self.pulls if self._brought(one, sha)], query
                )
            case "GET", ["commits", sha, "pull"] if gitea:
                return 200, self._pull(
                    next(one for one in [*self.pulls, None] if one is None or one.merged == sha)
                )
        raise LookupError

    def _gitlab(self, method: str, words: list[str], query: dict[str, str], data: Any) -> tuple[int, Any]:
        match method, words:
            case "GET", ["merge_requests"]:
                states = {"opened": "open", "merged": "merged", "closed": "closed"}
                found = [
                    one
                    for one in self.pulls
                    if one.state == states[query["state"]]
                    and (one.branch, one.base) == (query["source_branch"], query["target_branch"])
                ]
                return 200, self._page([self._request(one) for one in found], query)
            case "POST", ["merge_requests"]:
                if any(one.branch == data["source_branch"] and one.state == "open" for one in self.pulls):
                    return 409, {
                        "message": ["Another open merge request already exists for this source branch"]
                    }
                made = self._open(
                    data["title"], data["description"], data["source_branch"], data["target_branch"]
                )
                return 201, self._request(made)
            case "PUT", ["merge_requests", number]:
                pull = self._of(number)
                pull.title, pull.body = data.get("title", pull.title), data.get("description", pull.body)
                self._label(pull, [one for one in data.get("add_labels", "").split(",") if one])
                return 200, self._request(pull)
            case "GET", ["merge_requests", number, "approvals"]:
                # Who takes an approval back, or whose is reset, is not in the list any more.
                standing = {one.login: one for one in self._of(number).reviews if one.word != "comment"}
                given = [
                    {
                        "user": {"id": 1, "username": one.login, "state": "active"},
                        "approved_at": stamp(one.at),
                    }
                    for one in standing.values()
                    if one.word == "approve" and not one.dismissed
                ]
                return 200, {"iid": int(number), "approved": bool(given), "approved_by": given}
            case "GET", ["merge_requests", number, "versions"]:
                listed = [
                    {"id": at, "head_commit_sha": sha, "created_at": stamp(since), "state": "collected"}
                    for at, (sha, since) in enumerate(self._of(number).versions)
                ]
                return 200, self._page(listed[::-1], query)
            case "GET", ["repository", "commits", sha, "merge_requests"]:
                return 200, self._page(
                    [self._request(one) for one in self.pulls if self._brought(one, sha)], query
                )
        raise LookupError

    def _open(self, title: str, body: str, branch: str, base: str) -> Pull:
        head = self.world.git(self.world.server, "rev-parse", branch)
        made = Pull(len(self.pulls) + 1, title, body, branch, base, head, self.author)
        made.versions.append((head, self.later()))
        self.pulls.append(made)
        return made

    def _pull(self, one: Pull | None) -> Object:
        if one is None:
            raise LookupError
        closed = "closed" if one.state == "merged" else one.state
        merged_at = stamp(self.later()) if one.merged else None
        made = {
            "number": one.number,
            "state": closed,
            "title": one.title,
            "body": one.body,
            "user": {"login": one.author, "id": 1},
            "html_url": f"{self.url}/{REPOSITORY}/pull/{one.number}",
            "head": {"ref": one.branch, "sha": self._head(one), "repo": {"full_name": one.repository}},
            "base": {"ref": one.base, "sha": "0" * 40, "repo": {"full_name": REPOSITORY}},
            "merged_at": merged_at,
            # GitHub names a trial merge here while it is open.
            "merge_commit_sha": one.merged or ("f" * 40 if self.kind == "github" else None),
        }
        return made | ({"merged": bool(one.merged)} if self.kind == "gitea" else {})

    def _request(self, one: Pull) -> Object:
        states = {"open": "opened"}
        return {
            "iid": one.number,
            "state": states.get(one.state, one.state),
            "title": one.title,
            "author": {"username": one.author, "id": 1},
            "web_url": f"{self.url}/{REPOSITORY}/-/merge_requests/{one.number}",
            "source_branch": one.branch,
            "target_branch": one.base,
            "source_project_id": 7 if one.repository == REPOSITORY else 8,
            "target_project_id": 7,
            "sha": self._head(one),
            "merge_commit_sha": one.merged or None,
            "squash_commit_sha": None,
            "labels": one.labels,
        }

    def _review(self, one: Said) -> Object:
        gitea = self.kind == "gitea"
        words = {
            "approve": "APPROVED",
            "refuse": "REQUEST_CHANGES" if gitea else "CHANGES_REQUESTED",
            "comment": "COMMENT" if gitea else "COMMENTED",
        }
        state = "DISMISSED" if one.dismissed and not gitea else words[one.word]
        made = {
            "user": {"login": one.login, "id": 2},
            "state": state,
            "commit_id": one.commit,
            "submitted_at": stamp(one.at),
        }
        return made | ({"dismissed": one.dismissed, "stale": False, "official": True} if gitea else {})

    def _label(self, pull: Pull, names: list[str]) -> None:
        pull.labels += [one for one in names if one not in pull.labels]

    def _of(self, number: str) -> Pull:
        return self.pulls[int(number) - 1]

    def _head(self, one: Pull) -> str:
        if one.state != "open":
            return one.head
        return self.world.git(self.world.server, "rev-parse", one.branch)

    def _brought(self, one: Pull, sha: str) -> bool:
        return sha in (one.merged, self._head(one))

    def _page(self, listed: list[Object], query: dict[str, str]) -> list[Object]:
        size = int(query["limit" if self.kind == "gitea" else "per_page"])
        start = (int(query["page"]) - 1) * size
        return listed[start : start + size]


def stamp(at: datetime) -> str:
    """A time as forges write it."""
    return f"{at:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"


@contextmanager
def serving(kind: str, world: World) -> Iterator[PlayedForge]:
    """A forge of this kind, which answers until the end."""
    forge = PlayedForge(kind, world)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            data = json.loads(self.rfile.read(length)) if length else None
            forge.asked.append((self.command, unquote(parts.path)))
            if forge.silent.is_set():
                time.sleep(1)
                self.close_connection = True
                return
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                status, said = 401, json.dumps({"message": "Bad credentials"})
            elif forge.says and forge.says_to in ("", self.command):
                status, said = forge.says
            else:
                status, document = forge.answer(self.command, parts.path, dict(parse_qsl(parts.query)), data)
                said = json.dumps(document)
            body = said.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = _answer

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    forge.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield forge
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
