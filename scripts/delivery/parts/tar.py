"""Files as a tar archive in memory: how Docker takes what is put into a container, and Git gives what is committed."""

import importlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def pack(files: Mapping[str, bytes], mode: int = 0o644, group: int = 0) -> bytes:
    """Path in the archive -> content, as an uncompressed archive; `group` is the id of the group that owns them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.gid = len(content), mode, group
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def unpack(data: bytes, to: Path) -> None:
    """Write the files of an archive below a folder; ValueError when one of them, or a link, leads out of it."""
    # Python 3.11.4 was the first to refuse what leads out.
    reader: Any = tarfile if hasattr(tarfile, "data_filter") else importlib.import_module("backports.tarfile")
    try:
        with reader.open(fileobj=io.BytesIO(data)) as archive:
            archive.extractall(to, filter="data")
    except reader.FilterError as error:
        raise ValueError(str(error)) from None
