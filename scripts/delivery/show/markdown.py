"""What a forge shows on its pages: the proof, and what is said of a proposal, as Markdown."""

import html
import re
from typing import Any

LIMIT = 60_000  # characters; a comment on GitHub holds 65,536
_REASONS, _REASON = 20, 600  # of one list, and the characters of one line
_BESIDE = "It was read from the pods, not from Git: see `delivery verify --help`."
# What Markdown, HTML or a forge's mentions would make something of; names and messages come from pods and commits.
_TICKS = re.compile(r"`+")
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)  # some also turn the reading around
_MARKUP = re.compile(r"([\\`*_{}\[\]()<>#+\-!|~@&])")


def proofs(document: dict[str, Any]) -> str:
    """One `delivery/proof/v2` document as a table, and every reason below it."""
    lines = [
        f"### {document['verdict']} on {text(document['site'])}",
        "",
        "| environment | build | digest | commit | verdict |",
        "|---|---|---|---|---|",
    ]
    for one in document["environments"]:
        wanted = one["desired"] or {"build": "?", "digest": "?", "commit": "?"}
        cells = (
            one["environment"],
            wanted["build"],
            wanted["digest"][:19],
            wanted["commit"][:12],
            one["verdict"],
        )
        lines.append(f"| {' | '.join(map(text, cells))} |")
    reasons = [
        f"- {text(one['environment'])}: {text(reason)}"
        for one in document["environments"]
        for reason in (*one["mismatches"], *one["unknowns"])
    ]
    return "\n".join([*lines, "", *(reasons or [_BESIDE])])


def checked(document: dict[str, Any]) -> str:
    """One `delivery/check/v1` document: a table, every reason, the rendered differences folded below; bounded."""
    head = _checked(document)
    whole = [
        (f"{one['environment']}: {title}", one[key])
        for one in document["environments"]
        for title, key in (("what changes there", "diff"), ("what was not tested before it", "untested"))
        if one[key]
    ]
    left = LIMIT - len(head)
    for at, (title, said) in enumerate(whole):
        block = _folded(title, said, left // (len(whole) - at))
        head += block
        left -= len(block)
    return head


def _checked(document: dict[str, Any]) -> str:
    lines = [
        f"### {document['verdict']}: {text(document['commit'][:12])} into {text(document['branch'])}",
        "",
        "| environment | digest before | digest after | build | the gate |",
        "|---|---|---|---|---|",
    ]
    for one in document["environments"]:
        says = "may enter" if one["allowed"] else "no"
        cells = (one["environment"], one["before"][:19], one["after"][:19], one["build"] or "?")
        lines.append(f"| {' | '.join(map(text, cells))} | {says if one['asked'] else 'is not asked'} |")
    if not document["environments"]:
        lines.append("| none | | | | is not asked |")
    said = [*document["refusals"]]
    for one in document["environments"]:
        name = one["environment"]
        if not one["asked"]:
            said.append(f"{name}: nothing is asked for; its next promotion would bring this.")
            continue
        said += [f"{name}: {reason}" for reason in one["reasons"]]
        said.append(f"{name}: digest before {one['before']}, after {one['after']}.")
        if one["evidence"]:
            said.append(f"{name}: evidence {', '.join(f'sha256:{hash_}' for hash_ in one['evidence'])}.")
        if one["by_review"]:
            said.append(f"{name}: its approval is the review of this proposal.")
    if document["follows"]:
        said.append(f"{document['follows']} follows {document['branch']}: it takes this with the merge.")
    if document["rules"]:
        said.append(f"Rules change, and are judged by those before: {', '.join(document['rules'])}.")
    said += [f"Weaker: {reason}" for reason in document["weaker"]]
    listed = [f"- {text(line[:_REASON])}" for line in said[:_REASONS]]
    if len(said) > _REASONS:
        listed.append(f"- {len(said) - _REASONS} more lines are cut: `delivery check` shows them.")
    return "\n".join([*lines, "", *listed, ""])


def _folded(title: str, said: str, room: int) -> str:
    """A difference in a fence that nothing in it can close, cut to `room` characters in all, and that is said."""
    lines = [_CONTROL.sub("\ufffd", line) for line in said.split("\n")]
    fence = "`" * max(3, 1 + max((len(run) for run in _TICKS.findall(said)), default=0))
    before = f"\n<details><summary>{html.escape(title)}</summary>\n\n{fence}diff\n"
    after = f"\n{fence}\n{{}}\n</details>\n"
    cut = "\n{} of {} lines are cut: `delivery check` shows them.\n"
    room -= len(before) + len(after) + len(cut) + 12
    kept, length = 0, 0
    while kept < len(lines) and length + len(lines[kept]) + 1 <= room:
        length += len(lines[kept]) + 1
        kept += 1
    told = cut.format(len(lines) - kept, len(lines)) if kept < len(lines) else ""
    return before + "\n".join(lines[:kept]) + after.format(told)


def text(said: str) -> str:
    """Words as Markdown that shows them as they are, on one line."""
    return _MARKUP.sub(r"\\\1", " ".join(said.split()))
