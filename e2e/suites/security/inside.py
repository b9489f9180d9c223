"""What can only be seen inside a running container of the app; prints JSON, never a secret's value.

Standard library only: it is read by the container's own python3.
"""

import errno
import json
import os
import subprocess
import sys

# Asked of each python3 of the image: its packages, and what in it could install others.
PACKAGES = """
import importlib.metadata, importlib.util, json
print(json.dumps({
    "python": {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()},
    "installers": [
        name for name in ("pip", "setuptools", "ensurepip", "wheel") if importlib.util.find_spec(name)
    ],
}))
"""


def status():
    """The first process as the kernel sees it."""
    with open("/proc/1/status") as lines:
        return {key: value.split() for key, _, value in (line.partition(":") for line in lines)}


def writing(folder):
    """How an attempt to make a file there ends: its error's name, or "written"."""
    file = os.path.join(folder, ".gate-probe")
    try:
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    os.unlink(file)
    return "written"


def environment(process):
    """The environment and the arguments of a process, byte for byte."""
    with open(f"/proc/{process}/environ", "rb") as file:
        variables = file.read().split(b"\0")
    with open(f"/proc/{process}/cmdline", "rb") as file:
        return variables, file.read()


def secrets():
    """The values of all mounted secrets, by file."""
    found = {}
    for folder, _, names in os.walk("/run/secrets"):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.basename(folder).startswith(".."):
                with open(path, "rb") as file:
                    found[path] = file.read().strip()
    return found


def leaks():
    """Where a mounted secret's value also stands: names only."""
    found = []
    for path, value in secrets().items():
        for process in filter(str.isdigit, os.listdir("/proc")):
            try:
                variables, arguments = environment(process)
            except OSError:
                continue  # ended meanwhile
            found += [
                f"process {process}: {one.partition(b'=')[0].decode(errors='replace')} has {path}"
                for one in variables
                if value and value in one
            ]
            if value and value in arguments:
                found.append(f"process {process}: its arguments have {path}")
    return found


def text(path):
    """A file's text; empty when there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def debian():
    """The installed Debian packages and their versions."""
    found = {}
    for paragraph in text("/var/lib/dpkg/status").split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " "
        )
        if fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields["Version"]
    return found


def packages(*interpreters):
    """What each python3 can import, by what it says itself."""
    asked = {path: [path, "-B", "-c", PACKAGES] for path in interpreters}
    return {path: json.loads(subprocess.check_output(command)) for path, command in asked.items()}


def main():
    """Print it all."""
    # The virtual environment's, and the one below it that it was made with.
    pythons = packages(sys.executable, os.path.realpath(sys.executable))
    release = dict(line.split("=", 1) for line in text("/etc/os-release").splitlines() if "=" in line)
    facts = {
        "status": status(),
        "root": next(line.split()[3] for line in text("/proc/mounts").splitlines() if line.split()[1] == "/"),
        "writing": {
            place: writing(place) for place in ("/", "/app", "/venv", "/etc", "/usr/bin", "/var/lib")
        },
        "tokens": [
            line.split()[1]
            for line in text("/proc/mounts").splitlines()
            if "kubernetes.io/serviceaccount" in line.split()[1]
        ],
        "secrets": sorted(secrets()),
        "leaks": leaks(),
        "codename": release.get("VERSION_CODENAME", ""),
        "debian": debian(),
        "python": {name: version for one in pythons.values() for name, version in one["python"].items()},
        "installers": {path: one["installers"] for path, one in pythons.items()},
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
