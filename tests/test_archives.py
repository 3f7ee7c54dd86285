"""Archives whose directory has lost members; its entries are 46 bytes and a name."""

import struct

import numpy as np
import pytest

from ltjax._archives import check_members


@pytest.fixture
def archive(tmp_path):
    """A .npz file of three arrays, and the place of its directory."""
    path = tmp_path / "three.npz"
    np.savez(path, a=np.zeros(2), b=np.ones(3), c=np.arange(4))
    return path, path.read_bytes().index(b"PK\1\2")


def test_a_whole_archive_is_fine(archive):
    check_members(archive[0])


def test_an_entry_that_swallows_the_next_is_noticed(archive):
    path, place = archive
    damaged = bytearray(path.read_bytes())
    # The comment of the first entry is as long as the second one ("b.npy").
    struct.pack_into("<H", damaged, place + 32, 46 + len("b.npy"))
    path.write_bytes(damaged)
    with np.load(path) as arrays:
        assert arrays.files == ["a", "c"]  # numpy sees nothing wrong
    with pytest.raises(ValueError, match="lists 2 members, but its end says 3"):
        check_members(path)


def test_no_flipped_bit_loses_a_member(archive):
    path, place = archive
    whole = path.read_bytes()
    for bit in range(8 * place, 8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        try:
            check_members(path)
            with np.load(path) as arrays:
                found = {name: arrays[name].tolist() for name in arrays.files}
        except Exception:  # zipfile raises almost anything
            continue
        assert found == {"a": [0, 0], "b": [1, 1, 1], "c": [0, 1, 2, 3]}, bit
