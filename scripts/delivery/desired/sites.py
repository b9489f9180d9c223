"""pipeline.yaml with the remote site of a team. Every other byte stays as it was, comments too."""

import re
from collections.abc import Sequence
from io import StringIO

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from delivery.errors import BadInput
from delivery.pipeline import FILE

# The example that stands in the template until a team has a site of its own.
_EXAMPLE = re.compile(r"^# A team's own \(`delivery adopt` writes it.*\n(?:#.*\n?)*", re.MULTILINE)
_BLOCK = """
  - name: {name} # the team's own: `--site {name}` or DELIVERY_SITE={name} chooses it
    git: {{ url: {git} }} # login: git's own helpers, or DELIVERY_GIT_TOKEN
    image: {{ name: {image} }} # login: docker's own configuration and helpers; ca: for an authority of your own
    # Nobody but you knows the rest. Until it is said here, the verbs that need it name what is missing.
    # environments: # a context of the kubeconfig, or in_cluster: true; url: where users, and the suites, reach it
{environments}\
    # signers: # a KMS, env://VARIABLE, or a file; the public half in the checkout
{signers}"""


def with_site(
    text: str, name: str, git: str, image: str, environments: Sequence[str], signers: Sequence[str]
) -> str:
    """The text with a site `name` that lives in this Git and image repository.

    One that is there gets the two addresses and keeps the rest. A new one comes after the others: the first is the
    default, and stays the one that `make demo` makes on any machine; a team's cluster is touched only by whoever names
    it, as its CI does. What cannot be derived stands there as a comment, for `environments` and `signers`. BadInput
    when a local site has that name, or when the file is written in a way that cannot be changed in place.
    """
    sites = _value(YAML(pure=True).compose(StringIO(text)), "sites")
    if not isinstance(sites, SequenceNode) or sites.flow_style or not sites.value:
        raise _by_hand()
    for site in sites.value:
        if _text(_value(site, "name")) == name:
            return _changed(text, site, name, git, image)
    host = image.rpartition("/")[2]
    block = _BLOCK.format(
        name=name,
        git=git,
        image=image,
        environments="".join(
            f"    #   {one}: {{ context: {name}-{one}, url: https://{one}.{host}.example }}\n"
            for one in environments
        ),
        signers="".join(f"    #   {one}: {{ {_signer(host, one)} }}\n" for one in signers),
    )
    if sites.start_mark.column != 2:
        block = re.sub("(?m)^  ", " " * sites.start_mark.column, block)
    line = _last_line(sites) + 1
    lines = text.splitlines(keepends=True)
    # What stands there as a comment, further in than the dashes, is still the last site's.
    inner = re.compile(rf" {{{sites.start_mark.column + 1},}}#")
    while line < len(lines) and inner.match(lines[line]):
        line += 1
    before, after = "".join(lines[:line]), "".join(lines[line:])
    if not before.endswith("\n"):
        before += "\n"
    return before + block + _EXAMPLE.sub("", after)


def _signer(host: str, name: str) -> str:
    said = f'key: "awskms:///alias/{host}-{name}", public: keys/{name}.pub'
    if not name.startswith("gate-"):
        return said
    variable = f"{name.upper().replace('-', '_')}_KEY"
    return f'{said}, commits: {{ key: "env://{variable}", public: keys/{name}.asc }}'


def _changed(text: str, site: Node, name: str, git: str, image: str) -> str:
    if _value(site, "local") is not None:
        raise BadInput(
            f"site {name} is made on this machine: it cannot be the team's too",
            "choose another name: --site-name",
        )
    edits = []
    for node, wanted in ((_value(site, "git", "url"), git), (_value(site, "image", "name"), image)):
        if not isinstance(node, ScalarNode) or node.style in ("|", ">"):
            raise _by_hand()
        if node.value != wanted:
            edits.append((node.start_mark.index, node.end_mark.index, wanted))
    for start, end, wanted in sorted(edits, reverse=True):
        text = text[:start] + wanted + text[end:]
    return text


def _value(node: Node | None, *path: str) -> Node | None:
    for key in path:
        pairs = node.value if isinstance(node, MappingNode) else []
        node = next((value for name, value in pairs if name.value == key), None)
    return node


def _text(node: Node | None) -> str:
    return node.value if isinstance(node, ScalarNode) else ""


def _last_line(node: Node) -> int:
    """The line that a node's last word stands on; a block's own end lies behind the comments that follow it."""
    if isinstance(node, MappingNode) and node.value and not node.flow_style:
        return _last_line(node.value[-1][1])
    if isinstance(node, SequenceNode) and node.value and not node.flow_style:
        return _last_line(node.value[-1])
    return int(node.end_mark.line)


def _by_hand() -> BadInput:
    return BadInput(
        f"the sites of {FILE} cannot be changed in place",
        "write them as a list of mappings, without anchors or tags, or add yours by hand",
    )
