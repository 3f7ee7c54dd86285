"""A loaded network: what it says of inputs is what the run's evaluation says."""

import json

import jax
import numpy as np
import pytest

import ltjax
from ltjax._seal import sealed, unsealed
from ltjax.serving import Predictor


def softmax(logits):
    logits = np.asarray(logits, np.float64)
    found = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return found / found.sum(axis=-1, keepdims=True)


def test_logits_are_those_of_the_runs_evaluation(digits, predictor, images):
    np.testing.assert_allclose(
        predictor.logits(images), digits.logits, rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(
        predictor(images), softmax(digits.logits), rtol=1e-5, atol=1e-6
    )


def test_a_run_predicts_from_raw_inputs_what_its_evaluation_sees(digits):
    np.testing.assert_allclose(digits.predicted, digits.logits, rtol=1e-5, atol=1e-5)


def test_what_a_predictor_says_of_itself(digits, predictor):
    assert predictor.class_names == ("=1+1", "one", "two", "three")
    assert predictor.class_counts.tolist() == [80, 40, 20, 10]
    assert predictor.input_shape == (8, 8, 3)
    assert predictor.input_dtype == np.uint8
    assert predictor.output_shape == (4,)
    assert repr(predictor) == (
        "Predictor('LA', step 60, 4 classes, inputs [N, 8, 8, 3] uint8)"
    )


def test_paths_are_read_as_the_training_images_were(digits, predictor, images):
    paths = [digits.test / "one" / f"image{n}.png" for n in range(3)]
    np.testing.assert_array_equal(predictor.inputs(paths), images[40:43])
    np.testing.assert_array_equal(predictor.inputs(str(paths[0])), images[40:41])


def test_an_image_of_another_size_is_resized(digits, predictor, images, tmp_path):
    import PIL.Image

    path = tmp_path / "large.png"
    large = PIL.Image.fromarray(images[0]).resize((24, 16), PIL.Image.Resampling.BOX)
    large.save(path)
    # The shorter side 16 becomes 8, the longer 12, of which 8 in the middle are kept.
    expected = large.resize((12, 8), PIL.Image.Resampling.BILINEAR).crop((2, 0, 10, 8))
    np.testing.assert_array_equal(predictor.inputs(path), np.asarray(expected)[None])


def test_few_shapes_are_compiled_and_the_last_batch_is_padded(digits, images):
    predictor = ltjax.load(digits.workdir, batch_size=64)
    whole = predictor.logits(images)  # 64 + 64 + 32 rows
    assert predictor._compiled._cache_size() == 1
    np.testing.assert_allclose(whole, digits.logits, rtol=1e-5, atol=1e-5)
    for count in (5, 6, 7, 8):
        np.testing.assert_allclose(
            predictor.logits(images[:count]), whole[:count], rtol=1e-5, atol=1e-5
        )
    predictor.probabilities(images[:8], prior="train")
    assert predictor._compiled._cache_size() == 2
    assert predictor(images[:0]).shape == (0, 4)


def test_every_checkpoint_can_be_loaded(digits, images, fresh, tiny):
    early = ltjax.load(digits.workdir, checkpoint=30)
    assert early.step == 30
    assert np.abs(early.logits(images) - digits.logits).max() > 0.1
    workdir = fresh(tiny(), judged=(0.2, 0.6, 0.4))
    steps = {c: ltjax.load(workdir, checkpoint=c).step for c in ("last", "best", 0)}
    assert steps == {"last": 2, "best": 1, 0: 0}


def test_replicas_are_networks_of_their_own(fresh, tiny):
    workdir = fresh(tiny({"replicas.seeds": (0, 1)}))
    alone = fresh(tiny({"seed": 1}), "alone")
    inputs = np.random.default_rng(0).normal(size=(3, 40, 1))
    first, second = (ltjax.load(workdir, replica=r).logits(inputs) for r in (0, 1))
    assert np.abs(first - second).max() > 0.1
    expected = ltjax.load(alone).logits(inputs)
    np.testing.assert_allclose(second, expected, rtol=1e-5, atol=1e-5)


def test_a_prior_moves_the_logits_by_its_ratio_to_the_trained_one(
    digits, predictor, images
):
    # Logit adjustment with tau = 1 trains for uniform classes.
    np.testing.assert_allclose(predictor.trained_prior, np.full(4, 0.25), rtol=1e-6)
    train = np.array([80, 40, 20, 10]) / 150
    named = dict(zip(predictor.class_names, [8, 4, 2, 1], strict=True))
    for prior in ("train", train, train * 7, named):
        found = predictor(images, prior=prior)
        expected = softmax(digits.logits + np.log(train))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        predictor(images, prior="uniform"), predictor(images), atol=1e-6
    )
    never = predictor(images, prior=[0, 1, 1, 1])
    assert (never[:, 0] == 0).all() and np.isfinite(never).all()


def test_a_post_hoc_adjustment_is_taken_back_before_another_prior(fresh, tiny):
    workdir = fresh(tiny({"method.posthoc_tau": 1.5}))
    predictor = ltjax.load(workdir)
    inputs = np.random.default_rng(0).normal(size=(6, 40, 1))
    log_prior = np.log(predictor.class_counts / predictor.class_counts.sum())
    own = predictor.logits(inputs) + 1.5 * log_prior
    found = predictor(inputs, prior="train")  # which cross-entropy trains for
    np.testing.assert_allclose(found, softmax(own), rtol=1e-4, atol=1e-6)
    found = predictor(inputs, prior="uniform")
    np.testing.assert_allclose(found, softmax(own - log_prior), rtol=1e-4, atol=1e-6)


def test_averaged_parameters_predict_where_the_run_says_so(fresh, tiny):
    workdir = fresh(tiny({"ema_decay": 0.9, "evaluate_ema": True}))
    predictor = ltjax.load(workdir)
    inputs = np.zeros((2, 40, 1), np.float32)
    before = predictor.logits(inputs)
    changed = jax.tree.map(lambda x: 2 * x, predictor._state.params)
    predictor._state = predictor._state.replace(params=changed)
    np.testing.assert_array_equal(predictor.logits(inputs), before)


def test_several_labels_have_probabilities_of_their_own(fresh, shipped):
    (stage,) = shipped("multilabel_scenes.py:method=sigmoids,smoke")
    predictor = ltjax.load(fresh(stage.config))
    assert predictor.multi_label
    shape = (3, *predictor.input_shape)
    inputs = np.random.default_rng(0).uniform(size=shape).astype(np.float32)
    logits = predictor.logits(inputs).astype(np.float64)
    np.testing.assert_allclose(
        predictor(inputs), 1 / (1 + np.exp(-logits)), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(ValueError, match="prior is 'train', but .* multi-label"):
        predictor(inputs, prior="train")


def test_experts_predict_by_their_mean_and_their_prior_is_asked_for(fresh, shipped):
    (stage,) = shipped("experts_lt.py:method=sade,smoke")
    predictor = ltjax.load(fresh(stage.config))
    inputs = np.random.default_rng(0).normal(size=(3, 40, 1))
    plain = predictor(inputs)
    np.testing.assert_allclose(plain.sum(axis=1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="does not tell which prior .*trained_prior"):
        predictor(inputs, prior="train")
    same = predictor.probabilities(inputs, prior="train", trained_prior="train")
    np.testing.assert_allclose(same, plain, atol=1e-6)


def test_the_last_of_several_stages_predicts(fresh, shipped):
    first, second = shipped("selfsup_lt.py:method=simclr,smoke")
    folder = fresh(first.config, f"stages/{first.folder}").parent
    with pytest.raises(
        ValueError, match="method 'simclr', which predicts .*projection"
    ):
        ltjax.load(folder)
    fresh(second.config, f"stages/{second.folder}")
    predictor = ltjax.load(folder)
    assert isinstance(predictor, Predictor)
    assert predictor.logits(np.zeros((1, 40, 1))).shape == (1, 10)


def test_a_class_for_every_pixel(fresh, shipped):
    (stage,) = shipped("segmentation_scenes.py:method=ce,smoke")
    predictor = ltjax.load(fresh(stage.config))
    shape = predictor.input_shape
    found = predictor(np.zeros((2, *shape), np.float32))
    assert found.shape == (2, *predictor.output_shape) == (2, *shape[:2], 6)
    np.testing.assert_allclose(found.sum(axis=-1), 1, rtol=1e-5)


def test_a_run_of_an_older_version_says_what_is_missing(fresh, tiny):
    workdir = fresh(tiny())
    facts = unsealed((workdir / "run.json").read_text())
    del facts["inputs"]
    (workdir / "run.json").write_text(json.dumps(sealed(facts)))
    with pytest.raises(ValueError, match="run.json lacks 'inputs', .*ltjax train"):
        ltjax.load(workdir)
