"""The report as a page: the pipeline as a picture, what was measured, and the proof, on one sheet.

It needs no network to be read, and its own Content-Security-Policy lets nothing in: only its own style, and of a
page that is served live (show/serve.py) its own script.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from delivery import files
from delivery.show import charts

# A verdict is told by word and shape, and by colour only besides.
_GLYPHS = {"PROVEN": "✓", "PASSED": "✓", "MISMATCH": "✕", "FAILED": "✕", "UNKNOWN": "?", "WARNED": "?"}


@dataclass(frozen=True)
class Passage:
    """Whether a gate would let something in, in a word."""

    said: str
    glyph: str
    kind: str


def html(document: Mapping[str, Any]) -> str:
    """The page of one `delivery/report/v2` document, for a file."""
    return _page(document, script="")


def live(document: Mapping[str, Any]) -> str:
    """The same page, which asks the server that it came from for news."""
    return _page(document, script=_asset("page.js"))


def policy(document_is_live: bool) -> str:
    """What the page may load: by the hash of its text its own style, of a live one its own script and its server."""
    rules = ["default-src 'none'", f"style-src {_hash(_asset('page.css'))}"]
    if document_is_live:
        rules += [f"script-src {_hash(_asset('page.js'))}", "connect-src 'self'", "img-src 'self'"]
    return "; ".join([*rules, "base-uri 'none'", "form-action 'none'"])


def report(document: Mapping[str, Any]) -> str:
    """The part of the page that says what the document says; the same for the same facts of the same minute."""
    environment = _templates()
    return environment.get_template("report.html").render(_view(document))


def title(document: Mapping[str, Any]) -> str:
    """What the window is called."""
    return f"{document['verdict']}: {document['site']}"


def moment(at: str) -> str:
    """A time for people, in UTC; what is no time is shown as it is."""
    try:
        return datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):  # an author's date can be any number
        return at


def write(document: Mapping[str, Any], file: Path) -> None:
    """Put the page into a file, whole or not at all."""
    files.write(file, html(document))


def _page(document: Mapping[str, Any], script: str) -> str:
    # Style and script are files of ours; everything else is escaped.
    shell = {
        "title": title(document),
        "policy": Markup(policy(bool(script))),  # noqa: S704
        "style": Markup(_asset("page.css")),  # noqa: S704
        "script": Markup(script),  # noqa: S704
    }
    return _templates().get_template("page.html").render(_view(document) | shell)


@cache
def _templates() -> Environment:
    loader = PackageLoader("delivery.show", "templates")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "ago": _ago,
        "duration": charts.duration,
        "glyph": lambda word: _GLYPHS.get(word, "·"),
        "moment": moment,
        "passage": _passage,
        "short": lambda text: text.removeprefix("sha256:")[:12],
    }
    return environment


@cache
def _asset(name: str) -> str:
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _view(document: Mapping[str, Any]) -> dict[str, Any]:
    names = [one["environment"] for one in document["environments"]]
    columns = [_column(document, one) for one in document["environments"]]
    return {**document, "columns": columns, "chart": charts.lead_times(document["lead_times"], names)}


def _column(document: Mapping[str, Any], one: Mapping[str, Any]) -> dict[str, Any]:
    """An environment, with all that the document says of it elsewhere."""

    def of(part: str) -> Any:
        return next((it for it in document[part] if it["environment"] == one["environment"]), None)

    tests, desired = of("tests"), one["desired"]
    newest = tests and tests["newest"]
    measured = [_measure(it) for it in newest["measurements"]] if newest else []
    change = of("changes")
    hashes = {
        "image": desired and desired["image"],
        "release's commit": desired and desired["commit"],
        "source commit": one["revision"],
        "Argo CD's commit": one["argocd"] and one["argocd"]["revision"],
        "evidence": newest and f"sha256:{newest['hash']}",
    }
    return {
        **one,
        "ready": sum(pod["ready"] for pod in _serving(one)),
        "tests": tests,
        "newest": newest,
        # A change that asked for something else is not since when this has run.
        "change": change if change and desired and change["after"] == desired["digest"] else None,
        "next": of("next"),
        "charted": [it for it in measured if it["chart"]],
        "numbers": [it for it in measured if not it["chart"]],
        "unread": newest["unread"] if newest else None,
        "hashes": {name: text for name, text in hashes.items() if text},
    }


def _serving(one: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The pods that the release's replicas are: those that run its image and are meant to answer."""
    image = one["desired"] and one["desired"]["image"]
    return [
        pod
        for pod in one["pods"] or ()
        if not (pod["job"] or pod["terminating"]) and any(c["image"] == image for c in pod["containers"])
    ]


def _measure(one: Mapping[str, Any]) -> dict[str, Any]:
    unit = "" if one["unit"] == "1" else f" {one['unit'].replace('1/', 'per ')}"
    limits = {"at most": one["at_most"], "at least": one["at_least"]}
    asked = [f"{name} {limit:g}{unit}" for name, limit in limits.items() if limit is not None]
    value = f"{one['statistic']} {one['value']:g}{unit}".strip()
    return {
        **one,
        "said": ", ".join([value, *asked]),
        "word": ("PASSED" if one["holds"] else "FAILED") if asked else "",
        "chart": charts.histogram(one),
    }


def _passage(following: Mapping[str, Any] | None) -> Passage:
    if following is None:
        return Passage("UNKNOWN", "?", "UNKNOWN")
    if not following["new"]:
        return Passage("nothing new", "=", "")
    return Passage("open", "✓", "opens") if following["allowed"] else Passage("closed", "✕", "shut")


def _ago(at: str, now: str) -> str:
    """How long before `now` it was, in brackets; nothing for what lies ahead of it."""
    try:
        seconds = (datetime.fromisoformat(now) - datetime.fromisoformat(at)).total_seconds()
    except ValueError:
        return ""
    return f" ({charts.duration(seconds)} ago)" if seconds >= 60 else " (just now)" if seconds >= 0 else ""
