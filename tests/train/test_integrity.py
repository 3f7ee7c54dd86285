"""Checksums of files and arrays, and whether numbers are finite."""

import zlib

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from ltjax.train import integrity


def test_it_is_the_published_crc_32(tmp_path):
    # The check value of CRC-32/ISO-HDLC (zip, Ethernet) in the catalogue of CRCs.
    text = b"123456789"
    (tmp_path / "file").write_bytes(text)
    assert integrity.file_checksum(tmp_path / "file") == "cbf43926"
    assert integrity.bytes_checksum(np.frombuffer(text, np.uint8)) == "cbf43926"


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24.0).reshape(2, 3, 4),
        np.asfortranarray(np.arange(24, dtype=np.int16).reshape(4, 6)),
        np.arange(24)[::3],
        np.array(True),
        np.zeros((0, 3), np.float32),
        np.arange(5).astype(ml_dtypes.bfloat16),
        np.array([1j, 2.0], np.complex64),
    ],
    ids=lambda x: f"{x.dtype}{x.shape}",
)
def test_arrays_of_any_kind_by_their_bytes_in_order(array):
    expected = f"{zlib.crc32(array.tobytes()):08x}"
    assert integrity.bytes_checksum(array) == expected
    assert integrity.leaf_checksums({"x": array}) == {"x": expected}


@pytest.mark.parametrize(
    "spec",
    [
        PartitionSpec(),
        PartitionSpec("a"),
        PartitionSpec("b", "a"),
        PartitionSpec(None, ("a", "b")),
    ],
    ids=str,
)
def test_one_checksum_whatever_the_sharding(spec):
    mesh = jax.make_mesh((4, 2), ("a", "b"))
    array = np.arange(8 * 16, dtype=np.float32).reshape(8, 16)
    placed = jax.device_put(array, NamedSharding(mesh, spec))
    found = integrity.leaf_checksums({"x": placed})
    assert found == {"x": integrity.bytes_checksum(array)}


def test_arrays_that_differ_are_named():
    sums = integrity.Checksums({}, integrity.leaf_checksums({"a": np.ones(3)}))
    assert integrity.damaged_leaves({"a": np.ones(3), "b": np.ones(2)}, sums) == []
    nearly = np.ones(3)
    nearly[1] = np.nextafter(1.0, 2.0)
    (line,) = integrity.damaged_leaves({"a": jnp.zeros(3), "b": nearly}, sums)
    assert line.startswith("a: its checksum is")
    assert len(integrity.damaged_leaves({"a": nearly}, sums)) == 1


def test_files_that_differ_are_named(tmp_path):
    (tmp_path / "d").mkdir()
    for name in ("same", "d/flipped", "d/lost", "late"):
        (tmp_path / name).write_bytes(name.encode() * 1000)
    assert integrity.read_checksums(tmp_path) is None
    integrity.write_checksums(tmp_path, {"w": "00ff00ff"}, skip=("late",))
    sums = integrity.read_checksums(tmp_path)
    assert sums is not None
    assert sums.leaves == {"w": "00ff00ff"}
    assert set(sums.files) == {"same", "d/flipped", "d/lost"}
    assert integrity.damaged_files(tmp_path, sums) == []
    (tmp_path / "late").write_bytes(b"")
    content = bytearray((tmp_path / "d/flipped").read_bytes())
    content[4321] ^= 0x40
    (tmp_path / "d/flipped").write_bytes(content)
    (tmp_path / "d/lost").unlink()
    flipped, lost = sorted(integrity.damaged_files(tmp_path, sums))
    assert flipped.startswith("d/flipped: its checksum is")
    assert lost == "d/lost: No such file or directory"


def test_a_file_of_more_than_one_block(tmp_path, monkeypatch):
    monkeypatch.setattr(integrity, "_BLOCK", 64)
    content = np.random.default_rng(0).bytes(1000)
    (tmp_path / "x").write_bytes(content)
    assert integrity.file_checksum(tmp_path / "x") == f"{zlib.crc32(content):08x}"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
def test_all_finite_sees_one_bad_number_in_any_leaf(bad, dtype):
    fine = {
        "params": {"w": jnp.ones((2, 3), dtype)},
        "opt": (None, [jnp.zeros((), dtype)]),
        "rng": jax.random.key(0),
        "step": jnp.int32(3),
        "empty": jnp.zeros((0,), dtype),
    }
    check = jax.jit(integrity.all_finite)
    assert bool(check(fine))
    w = fine["params"]["w"].at[1, 2].set(bad)
    assert not bool(check({**fine, "params": {"w": w}}))
    assert not bool(check({**fine, "opt": (None, [jnp.asarray(bad, dtype)])}))


def test_all_finite_of_each_replica_and_of_nothing():
    values = {"w": jnp.array([[1.0, 2.0], [jnp.nan, 1.0]]), "n": jnp.arange(2)}
    assert jax.vmap(integrity.all_finite)(values).tolist() == [True, False]
    assert bool(integrity.all_finite({"n": 3, "key": jax.random.key(1), "none": None}))


def test_checksums_nested_without_end_are_damaged(tmp_path):
    (tmp_path / integrity.CHECKSUMS).write_text("[" * 100_000)
    with pytest.raises(integrity.DamagedCheckpoint, match="checksums.json cannot be"):
        integrity.check_files(tmp_path, 3)
