"""Zip archives, such as `.npz`, that have lost none of their members.

The checksums of a zip archive cover its members, not the directory at its end. One
flipped bit there can make an entry swallow those that follow: they are gone, and what
is left reads well.
"""

import os
import struct
import zipfile

# End of the central directory: signature, two disk numbers, the entries on this disk
# and in all, size and offset of the directory, length of a comment.
_END = struct.Struct("<4s4H2LH")
_MANY = 0xFFFF  # or more: their number is elsewhere


def check_members(path: str | os.PathLike) -> None:
    """Refuses an archive that lists more or fewer members than its end says.

    Args:
        path: of a zip archive.

    Raises:
        ValueError: if the numbers differ, or two members have one name.
        zipfile.BadZipFile, OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        names = zipfile.ZipFile(file).namelist()
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - _END.size - _MANY, 0))
        tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) - place < _END.size:
        raise ValueError("its directory has no end")
    said = _END.unpack_from(tail, place)[4]
    if said != _MANY and said != len(names):
        raise ValueError(f"it lists {len(names)} members, but its end says {said}")
    if len(set(names)) < len(names):
        raise ValueError("two of its members have one name")
