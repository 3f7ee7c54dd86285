"""The grid: one network and a fixed frame, which its classes share out differently."""

from collections.abc import Sequence

import numpy as np

from experiments.grid import Point
from experiments.seeded import Claim, seed_rows, shipped_point, train_seeds

TOTAL = "1500 steps"
EVALUATIONS = 5
TIMES = tuple(f"{20 * k} %" for k in range(1, EVALUATIONS + 1))  # of the run
EARLY, END = TIMES[2], TIMES[-1]  # the training error is zero at both
SIZES = {"train_per_class": 100, "test_per_class": 200}
SMALL = {"batch_size": 100, **{f"data.{name}": size for name, size in SIZES.items()}}
SIMPLEX, PAIRS = 9, 5  # dimensions of a frame of ten vectors
TITLES = {SIMPLEX: "a simplex in 9 dimensions", PAIRS: "opposite pairs in 5 dimensions"}
OWN, ALIGNED, OPPOSED = "as built", "aligned", "opposed"
TURNED = {f"rotated {k}": {"rotation": k} for k in (1, 2)}
# Name -> options of the head. Of a simplex, every permutation is a rotation.
PERMUTED = {f"permuted {k}": {"permutation": k} for k in (1, 2)}
# Of the first 1000 permutations those whose neighbours are the most and the least
# similar classes, by `alignments`.
CHOSEN = {ALIGNED: {"permutation": 691}, OPPOSED: {"permutation": 858}}
FRAMES = {
    SIMPLEX: {OWN: {}, **PERMUTED, **TURNED},
    PAIRS: {OWN: {}, **PERMUTED, **TURNED, **CHOSEN},
}
# Column -> metric.
METRICS = {
    "balanced_accuracy": "eval/test/balanced_accuracy",
    "margin_smallest": "eval/train/margin_smallest",
    "margin_low": "eval/train/margin_low",
    "margin_mean": "eval/train/margin_mean",
    "margin_bound": "eval/train/margin_bound",
    "nc1": "eval/train/nc1_balanced",
}


def points(*, smoke: bool = False) -> list[Point]:
    """Every run."""
    found = []
    for dim, frames in FRAMES.items():
        for name, options in frames.items():
            changes = {
                "head.name": "etf",
                "head.scale": 10.0,
                "head.seed": 0,
                **{f"head.{key}": value for key, value in options.items()},
                "model.widths": (8, 8, dim) if smoke else (32, 32, dim),
                **({} if smoke else SMALL),
            }
            key, arg = {"dim": dim, "frame": name}, "method=ce,imf=1"
            point = shipped_point(
                key, "mnist1d_lt", arg, changes, smoke=smoke, total=TOTAL
            )
            point.config.evaluators = {
                name: {} for name in ("classification", "margins", "collapse")
            }
            found.append(point)
    return found


def measure(point: Point) -> list[dict[str, str]]:
    """The rows of a run: one for each seed and time."""
    trained = train_seeds(point.config, evaluations=EVALUATIONS)
    curves = {
        column: trained.curve(name, EVALUATIONS) for column, name in METRICS.items()
    }
    rows = []
    for k, time in enumerate(TIMES):
        own = point._replace(key={**point.key, "at": time})
        rows += seed_rows(own, trained, {name: x[k] for name, x in curves.items()})
    return rows


def alignments(seeds: Sequence[int] = range(1, 1001)) -> np.ndarray:
    """How well permutations put similar classes side by side.

    Returns:
        [S], of each seed the correlation of inner products of the vectors with the
        cosines of the classes' mean spectra (around the mean of all), over pairs of
        classes.
    """
    import jax
    import jax.numpy as jnp

    from ltjax.classifiers import class_frame, permute_frame
    from ltjax.data.mnist1d import open_mnist1d

    data = open_mnist1d("train", **SIZES)
    signals = data.reader(np.arange(len(data.labels)))[..., 0]
    spectra = np.abs(np.fft.rfft(signals))  # wherever in the signal a digit is
    means = np.stack([spectra[data.labels == k].mean(0) for k in range(10)])
    means -= means.mean(0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    pairs = np.triu_indices(10, 1)
    similar = (means @ means.T)[pairs]
    vectors = class_frame(0, PAIRS, 10)
    permuted = jax.vmap(lambda seed: permute_frame(seed, vectors)[0])
    frames = np.asarray(permuted(jnp.asarray(seeds)))
    products = np.einsum("nda,ndb->nab", frames, frames)[:, *pairs]
    return np.array([np.corrcoef(one, similar)[0, 1] for one in products])


def _of(dim: int, frame: str, time: str) -> dict[str, str]:
    return {"dim": str(dim), "frame": frame, "at": time}


CLAIMS = [
    *(
        Claim(
            f"{what} at the end than after 60 %",
            title,
            _of(dim, OWN, END),
            _of(dim, OWN, EARLY),
            metric,
        )
        for dim, title in TITLES.items()
        for what, metric in (
            ("larger margins", "margin_low"),
            ("a higher accuracy", "balanced_accuracy"),
        )
    ),
    *(
        Claim(
            f"similar classes {better} above {worse}",
            TITLES[PAIRS],
            _of(PAIRS, better, END),
            _of(PAIRS, worse, END),
            "balanced_accuracy",
        )
        for better, worse in ((ALIGNED, OPPOSED), (ALIGNED, OWN))
    ),
]
