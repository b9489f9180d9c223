"""Files as a tar archive in memory: how Docker takes what is put into a container."""

import io
import tarfile
from collections.abc import Mapping


def pack(files: Mapping[str, bytes], mode: int = 0o644, group: int = 0) -> bytes:
    """Path in the archive -> content, as an uncompressed archive; `group` is the id of the group that owns them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.gid = len(content), mode, group
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()
