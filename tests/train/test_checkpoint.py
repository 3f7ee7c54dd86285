"""Checkpoints: what is kept, and what happens when a file of one is damaged."""

import contextlib
import itertools
import json
import logging
import pathlib
import resource
import shutil
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from ltjax.train.checkpoint import (
    CheckpointMismatch,
    Checkpoints,
    SaveFailed,
)
from ltjax.train.checkpoint_files import has_checkpoints, restore_params
from ltjax.train.integrity import DamagedCheckpoint

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"  # see `failing_reads`
)


def state_of(step: int) -> dict:
    """A train state in small: every leaf tells the step."""
    kernel = jnp.arange(600, dtype=jnp.float32).reshape(2, 300) + step
    return {
        "params": {"head": {"kernel": kernel}},
        "model_state": {"batch_stats": {"mean": jnp.full((2, 3), float(step))}},
        "opt_state": (None, {"trace": kernel * 2}),
        "rng": jax.vmap(jax.random.key)(jnp.arange(2) + step),
        "step": jnp.full((2,), step, jnp.int32),
    }


def shardings_of(tree):
    return jax.tree.map(lambda _: SingleDeviceSharding(jax.devices()[0]), tree)


def save_all(workdir, steps, *, best=None, **policies):
    checkpoints = Checkpoints(workdir, **policies)
    for step in steps:
        score = None if best is None else best[step]
        assert checkpoints.save(step, state_of(step), {"step": step}, best=score)
    checkpoints.close()
    return folders(workdir)


def folders(workdir):
    names = [path.name for path in (pathlib.Path(workdir) / "checkpoints").iterdir()]
    return sorted(int(name) for name in names if name.isdigit())


def restore(workdir, template=None):
    template = state_of(0) if template is None else template
    checkpoints = Checkpoints(workdir)
    try:
        return checkpoints.restore(template, shardings_of(template))
    finally:
        checkpoints.close()


def equal(a, b) -> bool:
    raw = lambda x: jax.random.key_data(x) if is_key(x) else x
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(raw(x), raw(y)) for x, y in pairs)


def is_key(x) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A workdir with the checkpoints 10 and 20; copied before it is damaged."""
    workdir = tmp_path_factory.mktemp("saved")
    save_all(workdir, [10, 20])
    return workdir


@pytest.fixture
def copied(saved, tmp_path, failing_reads):
    return shutil.copytree(saved, tmp_path / "run")


def test_restores_the_newest_with_its_keys_and_info(saved):
    found = restore(saved)
    assert found.step == 20
    assert found.info == {"step": 20}
    assert equal(found.state, state_of(20))
    assert is_key(found.state["rng"])
    assert found.state["opt_state"][0] is None


def test_an_empty_workdir_has_nothing_to_restore(tmp_path):
    assert restore(tmp_path) is None
    assert not has_checkpoints(tmp_path)


def test_a_saved_step_is_not_saved_again(copied):
    checkpoints = Checkpoints(copied)
    assert checkpoints.save(20, state_of(7), {}) is False
    checkpoints.close()
    assert equal(restore(copied).state, state_of(20))


# What a step folder cannot do without; names under d are content hashes.
ESSENTIAL = [
    "info/metadata",
    "state/_METADATA",
    "state/manifest.ocdbt",
    "state/d/*",
]


def lose(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def zero(path):
    path.write_bytes(b"\0" * path.stat().st_size)


def flip(path, *, where=0.5):
    """One bit of the byte at that share of the file."""
    content = bytearray(path.read_bytes())
    content[int(where * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def zero_block(path):
    content = bytearray(path.read_bytes())
    third = len(content) // 3
    content[third : 2 * third] = bytes(third)
    path.write_bytes(content)


# Every file and every damage once; the other pairs are slow.
DAMAGES = [lose, truncate, empty, flip]
ONCE = list(zip(ESSENTIAL, DAMAGES, strict=True))


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        pytest.param(*pair, marks=() if pair in ONCE else pytest.mark.slow)
        for pair in itertools.product(ESSENTIAL, DAMAGES)
    ],
)
def test_a_damaged_checkpoint_is_set_aside_for_the_previous_one(
    copied, caplog, kind, damage
):
    for path in list((copied / "checkpoints" / "20").glob(kind)):
        damage(path)
    with caplog.at_level(logging.WARNING):
        found = restore(copied)
    assert found.step == 10
    assert equal(found.state, state_of(10))
    assert "checkpoint 20 is damaged" in caplog.text
    assert "using the previous one" in caplog.text
    assert (copied / "checkpoints" / "20.damaged").is_dir()
    assert folders(copied) == [10]


@pytest.mark.parametrize(
    "damage",
    [
        *(lose, flip),
        *(
            pytest.param(other, marks=pytest.mark.slow)
            for other in (truncate, empty, zero, zero_block)
        ),
    ],
)
def test_no_single_damaged_file_restores_wrong_values(
    saved, tmp_path, failing_reads, damage
):
    newest = saved / "checkpoints" / "20"
    files = [p.relative_to(newest) for p in newest.rglob("*") if p.is_file()]
    assert len(files) > 5
    for i, name in enumerate(files):
        run = shutil.copytree(saved, tmp_path / str(i))
        damage(run / "checkpoints" / "20" / name)
        found = restore(run)
        assert equal(found.state, state_of(found.step)), name


# Files that Orbax writes after the checksums; they hold times, but nothing of the run.
UNCHECKED = {"_CHECKPOINT_METADATA", "commit_success.txt", "checksums.json"}


def test_every_file_that_holds_anything_has_a_checksum(saved):
    newest = saved / "checkpoints" / "20"
    files = {p.relative_to(newest).as_posix() for p in newest.rglob("*") if p.is_file()}
    sums = json.loads((newest / "checksums.json").read_text())
    assert set(sums["files"]) == files - UNCHECKED
    assert set(sums["leaves"]) == {
        "params.head.kernel",
        "model_state.batch_stats.mean",
        "opt_state.1.trace",
        "rng",
        "step",
    }


def data_file(workdir, step=20):
    """The file that holds the arrays."""
    folder = workdir / "checkpoints" / str(step) / "state"
    return max((p for p in folder.rglob("d/*")), key=lambda p: p.stat().st_size)


@pytest.mark.parametrize(
    "where",
    [0.1, *(pytest.param(share, marks=pytest.mark.slow) for share in (0.5, 0.9))],
)
def test_a_flipped_bit_is_noticed_by_whoever_reads(copied, caplog, where):
    flip(data_file(copied), where=where)
    with caplog.at_level(logging.WARNING):
        reader = Checkpoints(copied, read_only=True)
        found = reader.restore(state_of(0), shardings_of(state_of(0)))
        with pytest.raises(DamagedCheckpoint, match=r"20 is damaged \(state/.*d/\w+: "):
            reader.restore(state_of(0), shardings_of(state_of(0)), step=20)
        assert next(reader.infos()) == ({"step": 10}, 10)
        reader.close()
        params, _, step = restore_params(copied)
    assert found.step == step == 10
    assert equal(params, state_of(10)["params"])
    assert folders(copied) == [10, 20]
    assert "its checksum is" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        *("{", '{"files": 3}'),
        *(
            pytest.param(other, marks=pytest.mark.slow)
            for other in ("", "[]", '{"files": {}}')
        ),
    ],
)
def test_unreadable_checksums_are_damage(copied, content):
    (copied / "checkpoints" / "20" / "checksums.json").write_text(content)
    assert restore(copied).step == 10


def test_an_array_that_is_not_the_one_that_was_saved_is_damage(copied, caplog):
    """Whatever happened to it on its way to a file whose checksum is right."""
    path = copied / "checkpoints" / "20" / "checksums.json"
    sums = json.loads(path.read_text())
    sums["leaves"]["params.head.kernel"] = "00000000"
    path.write_text(json.dumps(sums))
    assert restore_params(copied)[2] == 10
    with caplog.at_level(logging.WARNING):
        assert restore(copied).step == 10
    assert "damaged (params.head.kernel: its checksum is" in caplog.text


def test_a_checkpoint_without_checksums_is_accepted_with_a_line(copied, caplog):
    for step in (10, 20):
        (copied / "checkpoints" / str(step) / "checksums.json").unlink()
    with caplog.at_level(logging.INFO, "ltjax"):
        assert equal(restore(copied).state, state_of(20))
    said = [r.message for r in caplog.records if r.name.startswith("ltjax")]
    assert said == ["checkpoint 20 has no checksums: an older version saved it"]
    truncate(data_file(copied))  # still noticed if it cannot be read at all
    assert restore(copied).step == 10


def test_the_same_step_may_be_damaged_again_and_again(copied):
    for name in ("20.damaged", "20.damaged-2", "20.damaged-3"):
        flip(data_file(copied))
        assert restore(copied).step == 10
        assert (copied / "checkpoints" / name).is_dir()
        save_all(copied, [20])
    assert restore(copied).step == 20
    shutil.rmtree(copied / "checkpoints" / "10")
    flip(data_file(copied))
    assert restore(copied) is None
    assert has_checkpoints(copied)


def test_what_is_not_damage_raises_and_leaves_the_checkpoint(copied, monkeypatch):
    checkpoints = Checkpoints(copied)

    def restore(*args, **kwargs):
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(checkpoints._manager, "restore", restore)
    with pytest.raises(RuntimeError, match="out of memory"):
        checkpoints.restore(state_of(0), shardings_of(state_of(0)))
    checkpoints.close()
    assert folders(copied) == [10, 20]


def test_checksums_hold_on_another_number_of_devices(tmp_path):
    mesh = jax.make_mesh((8,), ("data",))
    rows, columns, everywhere = (
        NamedSharding(mesh, PartitionSpec(*spec))
        for spec in (("data",), (None, "data"), ())
    )
    table = jnp.arange(16 * 5, dtype=jnp.float32).reshape(16, 5)
    state = {
        "table": jax.device_put(table, rows),
        "columns": jax.device_put(table.T, columns),
        "kernel": jax.device_put(table, everywhere),
    }
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, {})
    checkpoints.close()
    sums = json.loads((tmp_path / "checkpoints" / "1" / "checksums.json").read_text())
    assert sums["leaves"]["table"] == sums["leaves"]["kernel"]
    found = restore(tmp_path, {k: jnp.asarray(np.asarray(x)) for k, x in state.items()})
    assert found.step == 1
    assert np.array_equal(found.state["columns"], table.T)


def test_the_state_may_be_donated_as_soon_as_saving_has_begun(tmp_path):
    change = jax.jit(lambda state: jax.tree.map(jnp.negative, state), donate_argnums=0)
    state = {"kernel": jnp.arange(1 << 20, dtype=jnp.float32)}
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, {})
    state = change(change(change(state)))
    checkpoints.close()
    template = {"kernel": jax.ShapeDtypeStruct((1 << 20,), jnp.float32)}
    found = restore(tmp_path, template)
    assert np.array_equal(found.state["kernel"], np.arange(1 << 20))
    assert np.array_equal(state["kernel"], -np.arange(1 << 20))


@contextlib.contextmanager
def no_file_larger_than(size):
    """What a full disk does to a write, without filling one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def threads() -> set[str]:
    """What keeps a process from ending; idle workers of pools do not."""
    names = {thread.name for thread in threading.enumerate() if not thread.daemon}
    return {name for name in names if not name.startswith(("asyncio", "metadata_st"))}


def large_state():
    noise = np.random.default_rng(0).normal(size=100_000)
    return {**state_of(30), "params": {"head": {"kernel": jnp.asarray(noise)}}}


@pytest.mark.parametrize("notices", ["close", "check", "save"])
def test_a_save_without_space_fails_at_once_and_costs_nothing(copied, notices):
    checkpoints, before, start = Checkpoints(copied), threads(), time.monotonic()
    message = "checkpoint 30 cannot be saved: File too large; the last complete one is"
    with no_file_larger_than(100_000):
        checkpoints.check()
        assert checkpoints.save(30, large_state(), {"step": 30})
        with pytest.raises(SaveFailed, match=f"{message} 20"):
            if notices == "save":
                checkpoints.save(40, state_of(40), {})
            while notices == "check":
                checkpoints.check()
                time.sleep(0.01)
            checkpoints.close()
        checkpoints.close()  # what was said is not said again
    assert time.monotonic() - start < 30
    assert threads() <= before
    assert equal(restore(copied).state, state_of(20))
    save_all(copied, [30])
    assert restore(copied).step == 30


def test_a_checksum_that_cannot_be_written_is_a_failed_save(copied, monkeypatch):
    def write(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ltjax.train.integrity.write_checksums", write)
    checkpoints = Checkpoints(copied)
    checkpoints.save(30, state_of(30), {})
    with pytest.raises(SaveFailed, match="No space left on device"):
        checkpoints.close()
    assert folders(copied) == [10, 20]


def test_a_folder_that_cannot_be_made_fails_at_once(copied):
    """Orbax's threads would wait for it for 20 minutes."""
    checkpoints, before = Checkpoints(copied), threads()
    folder = (copied / "checkpoints").rename(copied / "elsewhere")
    (copied / "checkpoints").touch()
    with pytest.raises(SaveFailed, match="checkpoint 30 cannot be saved"):
        checkpoints.save(30, state_of(30), {})
        checkpoints.check()
    checkpoints.close()
    assert threads() <= before
    (copied / "checkpoints").unlink()
    folder.rename(copied / "checkpoints")
    assert restore(copied).step == 20


def test_a_lost_folder_and_a_half_written_one_do_no_harm(copied):
    newest = copied / "checkpoints" / "20"
    partial = copied / "checkpoints" / "30.orbax-checkpoint-tmp"
    shutil.copytree(newest, partial)
    (partial / "_CHECKPOINT_METADATA").unlink()
    shutil.rmtree(newest)
    assert restore(copied).step == 10
    save_all(copied, [30])  # what was half written is swept by then, in the background
    assert not partial.exists()
    assert restore(copied).step == 30


def test_nothing_readable_is_no_checkpoint(copied, caplog):
    for step in (10, 20):
        empty(copied / "checkpoints" / str(step) / "state" / "manifest.ocdbt")
    with caplog.at_level(logging.WARNING):
        assert restore(copied) is None
    assert "checkpoint 20 is damaged" in caplog.text
    assert "checkpoint 10 is damaged" in caplog.text
    assert has_checkpoints(copied)  # what is left was a run: its config still holds


def test_training_goes_on_after_a_damaged_checkpoint_was_set_aside(copied):
    empty(copied / "checkpoints" / "20" / "state" / "manifest.ocdbt")
    checkpoints = Checkpoints(copied)
    assert checkpoints.restore(state_of(0), shardings_of(state_of(0))).step == 10
    assert checkpoints.save(20, state_of(20), {"step": 20})
    checkpoints.close()
    assert restore(copied).step == 20


def foreign(**changes):
    return {**state_of(0), **changes}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (foreign(extra=jnp.zeros(3)), "extra is missing"),
        (
            {k: v for k, v in state_of(0).items() if k != "step"},
            "step is not expected",
        ),
        (
            foreign(params={"head": {"kernel": jnp.zeros((2, 299))}}),
            r"params.head.kernel is float32\[2, 300\], expected float32\[2, 299\]",
        ),
        (
            foreign(params={"head": {"kernel": jnp.zeros((2, 300), jnp.bfloat16)}}),
            r"params.head.kernel is float32\[2, 300\], expected bfloat16\[2, 300\]",
        ),
        (foreign(step=jnp.zeros((2,))), r"step is int32\[2\], expected float32\[2\]"),
        (foreign(step=jnp.zeros((3,), jnp.int32)), r"expected int32\[3\]"),
    ],
    ids=["missing", "extra", "shape", "precision", "kind", "replicas"],
)
def test_a_foreign_checkpoint_is_refused_and_kept(copied, template, message):
    with pytest.raises(CheckpointMismatch, match=message):
        restore(copied, template)
    assert folders(copied) == [10, 20]


def test_a_mismatch_names_a_few_leaves_and_counts_the_rest(copied):
    with pytest.raises(CheckpointMismatch, match=r"checkpoint 20 .* \(and \d+ more\)"):
        restore(copied, {"other": jnp.zeros(2)})


def test_the_latest_are_kept(tmp_path):
    assert save_all(tmp_path, [1, 2, 3, 4], keep_latest=2) == [3, 4]


def test_multiples_are_kept_for_good(tmp_path):
    steps = [2, 3, 4, 5, 6, 7, 8]
    assert save_all(tmp_path, steps, keep_latest=1, keep_every=3) == [3, 6, 8]


def test_the_best_is_kept(tmp_path):
    best = {1: 0.5, 2: 0.9, 3: 0.7, 4: None, 5: 0.6}
    assert save_all(tmp_path, best, keep_latest=1, best=best, keep_best=True) == [2, 5]


def test_reading_only_leaves_a_damaged_checkpoint_in_place(copied, caplog):
    empty(copied / "checkpoints" / "20" / "state" / "manifest.ocdbt")
    checkpoints = Checkpoints(copied, read_only=True)
    with caplog.at_level(logging.WARNING):
        found = checkpoints.restore(state_of(0), shardings_of(state_of(0)))
    checkpoints.close()
    assert found.step == 10
    assert folders(copied) == [10, 20]
