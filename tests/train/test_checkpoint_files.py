"""What is read of checkpoints without the run: parameters, whatever else was saved."""

import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ltjax.train.checkpoint import Checkpoints
from ltjax.train.checkpoint_files import has_checkpoints, restore_params, save_tree

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"  # see `failing_reads`
)


def state_of(step):
    """What a run saves, in small; every array tells the step."""
    return {
        "params": {"head": {"kernel": jnp.arange(600.0).reshape(2, 300) + step}},
        "model_state": {"batch_stats": {"mean": jnp.full((2, 3), float(step))}},
        "rng": jax.vmap(jax.random.key)(jnp.arange(2)),
        "step": jnp.full((2,), step, jnp.int32),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A workdir with the checkpoints 10 and 20; copied before it is damaged."""
    workdir = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(workdir)
    for step in (10, 20):
        checkpoints.save(step, state_of(step), {})
    checkpoints.close()
    return workdir


@pytest.fixture
def copied(saved, tmp_path, failing_reads):
    return shutil.copytree(saved, tmp_path / "run")


def test_parameters_are_read_without_a_template(saved, assert_same):
    params, model_state, step = restore_params(saved)
    assert step == 20
    assert isinstance(params["head"]["kernel"], np.ndarray)
    assert_same(params, state_of(20)["params"])
    assert_same(model_state, state_of(20)["model_state"])


def test_they_come_from_the_newest_readable_checkpoint(copied, caplog, assert_same):
    for path in (copied / "checkpoints" / "20" / "state" / "d").iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        params, _, step = restore_params(copied)
    assert step == 10
    assert_same(params, state_of(10)["params"])
    assert "checkpoint 20 is damaged" in caplog.text


def test_parameters_of_no_run(tmp_path, copied):
    assert not has_checkpoints(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="holds no checkpoints"):
        restore_params(tmp_path / "nothing")
    for step in (10, 20):
        (copied / "checkpoints" / str(step) / "state" / "_METADATA").unlink()
    with pytest.raises(FileNotFoundError, match="holds no readable checkpoint"):
        restore_params(copied)
    assert has_checkpoints(copied)  # what is left was a run


def test_a_tree_is_a_folder_that_orbax_reads(tmp_path, assert_same):
    import orbax.checkpoint as ocp

    tree = {"head": {"kernel": np.arange(6.0).reshape(2, 3)}}
    save_tree(tmp_path / "tree", tree)
    with ocp.StandardCheckpointer() as checkpointer:
        assert_same(checkpointer.restore((tmp_path / "tree").resolve()), tree)
