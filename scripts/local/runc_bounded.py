"""runc for hosts whose kernel withholds CAP_SYS_RESOURCE, where `docker run --privileged` fails.

The daemon calls this in runc's place: it takes that one capability out of what a container asks for,
and hands everything else to runc unchanged. It runs without site-packages, so it imports nothing of ours.
"""

import json
import os
import sys

WITHHELD = "CAP_SYS_RESOURCE"


def option(arguments: list[str], *names: str) -> str | None:
    """The value of a flag, as `--flag value` or `--flag=value`."""
    for index, argument in enumerate(arguments):
        for name in names:
            if argument == name:
                return arguments[index + 1]
            if argument.startswith(name + "="):
                return argument.partition("=")[2]
    return None


def strip(file: str, *keys: str) -> None:
    """Take the capability out of every set of the process that is described in the file."""
    with open(file, encoding="utf-8") as stream:
        document = json.load(stream)
    process = document
    for key in keys:
        process = process.get(key, {})
    capabilities = process.get("capabilities") or {}
    for name, values in capabilities.items():
        capabilities[name] = [value for value in values or [] if value != WITHHELD]
    with open(file, "w", encoding="utf-8") as stream:
        json.dump(document, stream)


def main(arguments: list[str]) -> None:
    """Strip the container's or the exec's capabilities, then become runc (its path is the first argument)."""
    runc, arguments = arguments[0], arguments[1:]
    if "create" in arguments or "run" in arguments:
        strip(os.path.join(option(arguments, "--bundle", "-b") or ".", "config.json"), "process")
    elif "exec" in arguments and (file := option(arguments, "--process", "-p")):
        strip(file)
    os.execv(runc, ["runc", *arguments])  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
