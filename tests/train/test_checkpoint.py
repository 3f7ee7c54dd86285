"""Checkpoints: what is kept, and what happens when a file of one is damaged."""

import logging
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from ltjax.train.checkpoint import (
    CheckpointMismatch,
    Checkpoints,
    has_checkpoints,
    restore_params,
)

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


@pytest.mark.parametrize("damage", [lose, truncate, empty, zero])
@pytest.mark.parametrize("kind", ESSENTIAL)
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


@pytest.mark.parametrize("damage", [lose, truncate, empty, zero])
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


def test_parameters_alone_are_read_without_a_template(saved):
    params, model_state, step = restore_params(saved)
    assert step == 20
    assert isinstance(params["head"]["kernel"], np.ndarray)
    assert equal(params, state_of(20)["params"])
    assert equal(model_state, state_of(20)["model_state"])


def test_parameters_come_from_the_newest_readable_checkpoint(copied, caplog):
    for path in (copied / "checkpoints" / "20" / "state" / "d").iterdir():
        truncate(path)
    with caplog.at_level(logging.WARNING):
        params, _, step = restore_params(copied)
    assert step == 10
    assert equal(params, state_of(10)["params"])
    assert "checkpoint 20 is damaged" in caplog.text


def test_parameters_of_no_run(tmp_path, copied):
    with pytest.raises(FileNotFoundError, match="holds no checkpoints"):
        restore_params(tmp_path / "nothing")
    for step in (10, 20):
        lose(copied / "checkpoints" / str(step) / "state" / "_METADATA")
    with pytest.raises(FileNotFoundError, match="holds no readable checkpoint"):
        restore_params(copied)


def test_reading_only_leaves_a_damaged_checkpoint_in_place(copied, caplog):
    empty(copied / "checkpoints" / "20" / "state" / "manifest.ocdbt")
    checkpoints = Checkpoints(copied, read_only=True)
    with caplog.at_level(logging.WARNING):
        found = checkpoints.restore(state_of(0), shardings_of(state_of(0)))
    checkpoints.close()
    assert found.step == 10
    assert folders(copied) == [10, 20]
