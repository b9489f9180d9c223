"""The local registry past its door, as whoever owns its container: what no login may do, and a journey undoes."""

import base64
import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from local import services
from local.cluster import Cluster

# In the gateway, which alone reaches the registry: with what git brings there.
_ASK = """
use HTTP::Tiny; use JSON::PP; use MIME::Base64;
local $/; my $a = decode_json(<STDIN>);
my $r = HTTP::Tiny->new->request($a->{method}, "http://registry:5000/v2/$a->{path}",
                                 {headers => $a->{headers}, content => decode_base64($a->{content})});
print encode_json({status => $r->{status} + 0, headers => $r->{headers}, content => encode_base64($r->{content}, "")});
"""


@dataclass(frozen=True)
class Answer:
    """What the registry said."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def as_owner(cluster: Cluster, method: str, path: str, content: bytes = b"", **headers: str) -> Answer:
    """One request below /v2/, past logins and guard."""
    asked = {
        "method": method,
        "path": path,
        "headers": {name.replace("_", "-"): value for name, value in headers.items()},
        "content": base64.b64encode(content).decode(),
    }
    command = ["docker", "exec", "-i", f"{cluster.name}-gateway", "perl", "-e", _ASK]
    done = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=True
    )
    said = json.loads(done.stdout)
    return Answer(said["status"], said["headers"], base64.b64decode(said["content"]))


def let_write(cluster: Cluster, may: Iterable[tuple[str, str]]) -> None:
    """Let logins write repositories that `up` gave to nobody, until the next `up`."""
    gateway = f"{cluster.name}-gateway"
    for command, told in (
        (["sh", "-c", "cat >> /etc/nginx/writers.conf"], services.writers(may)),
        (["nginx", "-s", "reload"], None),
    ):
        subprocess.run(
            ["docker", "exec", "-i", gateway, *command],
            input=told,
            text=True,
            check=True,
            timeout=60,
            capture_output=True,
        )
