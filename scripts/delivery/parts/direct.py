"""What a program needs in its environment to reach this machine itself, whatever proxy the host has set."""

import os


def environment() -> dict[str, str]:
    """NO_PROXY in both spellings: the host's, and this machine."""
    local = ",".join(filter(None, [os.environ.get("NO_PROXY", ""), "localhost", "127.0.0.1"]))
    return {"NO_PROXY": local, "no_proxy": local}
