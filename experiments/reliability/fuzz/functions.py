"""Public functions: a result that keeps the docstring's word, or a refusal that helps.

A valid call has to return the documented shape and dtype, finite unless the docstring
says otherwise, and has to obey one of three laws: the result is that of the same call
in float64; examples in another order have their results in that order; `where` is the
same as leaving the rows out. A call with something wrong in it has to name an argument
in a ValueError or TypeError, or to return the documented shape and dtype.
"""

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from experiments.reliability.fuzz import damage
from experiments.reliability.fuzz.arguments import POOL, Sizes, length, valid_call
from experiments.reliability.fuzz.contracts import Contract, contracts
from experiments.reliability.fuzz.outcomes import (
    ANSWERED,
    REFUSED,
    Unexplained,
    explained,
)

LAWS = ("precision", "order", "where")
# Results that depend on the order of the examples by design, or on random draws whose
# number depends on the shapes.
ORDERED = {
    "classifiers.crossfit_folds",
    "classifiers.holdout_indices",
    "classifiers.probe_rows",
    "classifiers.stable_expert_weights",
    "pseudo_labels.held_out_half",
    "pseudo_labels.keep_best_of_class",
    "pseudo_labels.small_loss",
    "pseudo_labels.write_confidences",
    "pseudo_labels.read_confidences",
    "resampling.adasyn_amounts",  # equal remainders
}
# Iterations and draws that another precision ends elsewhere.
ROUGH = {
    "classifiers.grassmannian_frame",
    "classifiers.fresh_linear_head",
    "classifiers.logistic_probe",
    "classifiers.stable_expert_weights",
    "classifiers.svm_probe",
    "losses.sample_priors",
    "resampling.mixup",
    "resampling.smoothed_bootstrap",
}


class Call(NamedTuple):
    """An example.

    Attributes:
        name: of the function, as in `contracts`.
        sizes: of its arrays.
        seed: of their numbers.
        forms: argument -> another representation of the same numbers.
        wrong: (argument, damage, place), or None.
        law: of `LAWS`, for a valid call.
    """

    name: str
    sizes: Sizes
    seed: int
    forms: dict[str, str]
    wrong: tuple[str, str, int] | None
    law: str


@st.composite
def calls(draw: Any, module: str) -> Call:
    """Calls of the functions of a module; three of four with something wrong."""
    names = [name for name in contracts() if name.startswith(f"{module}.")]
    contract = contracts()[draw(st.sampled_from(names))]
    wrong, forms = None, {}
    damage_it = draw(st.integers(0, 3)) > 0
    # The plain size has most of the laws to obey, and costs no compilation.
    sizes = (
        POOL[0]
        if not damage_it and draw(st.booleans())
        else draw(st.sampled_from(POOL))
    )
    seed = draw(st.integers(0, 7))
    given = sorted(valid_call(contract, sizes, seed))
    if given and draw(st.booleans()):
        forms[draw(st.sampled_from(given))] = draw(st.sampled_from(damage.FORMS))
    if given and damage_it:
        name = draw(st.sampled_from(given))
        kinds = damage.damages(valid_call(contract, sizes, seed)[name])
        if kinds:
            wrong = name, draw(st.sampled_from(kinds)), draw(st.integers(0, 20))
    return Call(contract.name, sizes, seed, forms, wrong, draw(st.sampled_from(LAWS)))


def every_argument() -> Iterator[Call]:
    """Each argument of each function, wrong in each way but by a single entry."""
    for contract in contracts().values():
        for argument, value in valid_call(contract, POOL[0], 0).items():
            for kind in damage.damages(value):
                if kind not in damage.ENTRIES:
                    wrong = argument, kind, 0
                    yield Call(contract.name, POOL[0], 0, {}, wrong, LAWS[0])


def check(call: Call) -> str:
    """What became of a call.

    Raises:
        Unexplained: if it broke a law.
    """
    contract = contracts()[call.name]
    given = valid_call(contract, call.sizes, call.seed)
    for name, form in call.forms.items():
        given[name] = damage.represented(given[name], form)
    if call.wrong:
        name, kind, place = call.wrong
        given[name] = damage.damaged(
            valid_call(contract, call.sizes, call.seed)[name], kind, place
        )
    result, error = _outcome(contract, given)
    if error is not None:
        why = explained(error, _words(contract), (ValueError, TypeError))
        if why:
            raise Unexplained(f"{call}: {why}") from error
        return REFUSED
    _check_shape(contract, call, result)
    if call.wrong is None:
        _check_law(contract, call, given, result)
    else:
        _check_no_class(contract, call, given, result)
    return ANSWERED


_WIDE = {name: damage.ENTRIES[name] for name in ("2^31 - 1", "2^31", "2^32 + 1")}
# Axes whose length the arguments decide by themselves.
_SIZED = {"...", "B", "N", "n", "K", "L", "D", "E"}
# What messages call an argument beside its name.
_CALLED = {
    "labels": {"label", "row", "example"},
    "class_counts": {"class"},
    "counts": {"confusion matrix"},
}


def _words(contract: Contract) -> set[str]:
    """What a message may call the arguments."""
    names = set(contract.arguments)
    return names.union(*(_CALLED[name] for name in names & set(_CALLED)))


def _outcome(contract: Contract, given: dict[str, Any]) -> tuple[Any, Exception | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = contract.function(**given)
            return jax.block_until_ready(result), None
        except Exception as error:
            return None, error


def _check_shape(contract: Contract, call: Call, result: Any) -> None:
    """The documented shape and dtype, whatever was asked."""
    if contract.axes is None:
        return
    got, axes = np.shape(result), contract.axes
    if call.wrong is None and "or" not in contract.returns.split(".")[0].split():
        known = [axis for axis in axes if axis != "..."]
        wanted = tuple(length(axis, call.sizes) for axis in known)
        got = got[len(got) - len(wanted) :] if "..." in axes else got
        if set(axes) <= _SIZED and got != wanted:
            raise Unexplained(f"{call}: shape {got}, documented {axes} = {wanted}")
    dtype = getattr(result, "dtype", None)
    if contract.dtype and dtype is not None and dtype != contract.dtype:
        # float64 in, float64 out is promised once for all of the losses.
        if not (contract.dtype == "float32" and dtype == np.float64):
            raise Unexplained(f"{call}: dtype {dtype}, documented {contract.dtype}")


def _leaves(result: Any) -> list[np.ndarray]:
    found = []
    for leaf in jax.tree.leaves(result):
        if isinstance(leaf, (jax.Array, np.ndarray, np.generic, float, int)):
            if not jnp.issubdtype(jnp.asarray(leaf).dtype, jax.dtypes.prng_key):
                found.append(np.asarray(leaf))
    return found


def _close(call: Call, ours: Any, theirs: Any, what: str, *, exact: float) -> None:
    for x, y in zip(_leaves(ours), _leaves(theirs), strict=True):
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        if x.shape != y.shape or not np.allclose(
            x, y, rtol=exact, atol=exact, equal_nan=True
        ):
            raise Unexplained(f"{call}: {what}: {x.tolist()} and {y.tolist()}")


def _check_law(contract: Contract, call: Call, given: dict, result: Any) -> None:
    if contract.finite and contract.axes is not None and call.sizes == POOL[0]:
        for leaf in _leaves(result):
            if leaf.dtype.kind == "f" and not np.all(np.isfinite(leaf)):
                raise Unexplained(f"{call}: not finite: {leaf.tolist()}")
    if call.sizes != POOL[0] or any(form in damage.NARROW for form in _used(call)):
        return
    if call.law == "precision" and contract.name not in ROUGH:
        wide = _outcome_x64(contract, given)
        if wide is not None:
            _close(call, result, wide, "in float64", exact=2e-3)
    elif call.law == "order" and contract.name not in ORDERED:
        _check_order(contract, call, given, result)
    elif call.law == "where" and "where" in given and contract.row:
        _check_where(contract, call, given, result)


def _used(call: Call) -> set[str]:
    return set(call.forms.values())


def _outcome_x64(contract: Contract, given: dict[str, Any]) -> Any:
    """The same call in float64, or None if it cannot be made."""

    def widened(leaf: Any) -> Any:
        if isinstance(leaf, (np.ndarray, jax.Array)):
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                return np.asarray(leaf).astype(np.float64)
        return leaf

    with jax.enable_x64(True):
        return _outcome(contract, jax.tree.map(widened, given))[0]


def _takes_rows(contract: Contract, given: dict[str, Any], rows: np.ndarray) -> dict:
    """The arguments with the examples at `rows` only, in that order."""
    taken = dict(given)
    for name, value in given.items():
        axes = contract.arguments[name].axes or ()
        if isinstance(value, (list, jax.Array)) and axes:
            value = np.asarray(value)
        for axis, letter in enumerate(axes):
            if letter == contract.row and np.ndim(value) > axis:
                value = np.take(value, rows, axis=axis)
        if not axes and "of the shape of scores" in contract.arguments[name].text:
            value = np.take(np.asarray(value), rows, axis=0)
        taken[name] = value
    return taken


def _movable(contract: Contract, given: dict[str, Any]) -> bool:
    """Whether it is known what becomes of the result when examples move."""
    if contract.row is None or contract.axes is None:
        return False
    undocumented = [
        name
        for name in given
        if contract.arguments[name].axes is None
        and not damage.is_number(given[name])
        and "shape of scores" not in contract.arguments[name].text
    ]
    others = {"M", "draws", "bins"} - {contract.row}
    return not undocumented and not others & set(contract.axes)


def _check_order(contract: Contract, call: Call, given: dict, result: Any) -> None:
    if not _movable(contract, given):
        return
    order = np.random.default_rng(call.seed).permutation(call.sizes.n)
    moved, error = _outcome(contract, _takes_rows(contract, given, order))
    if error is not None:
        raise Unexplained(f"{call}: refused in another order: {error}")
    expected = np.asarray(result)
    if contract.axes and contract.axes[0] == contract.row:
        expected = expected[order]
    _close(call, moved, expected, "in another order", exact=2e-3)


def _check_where(contract: Contract, call: Call, given: dict, result: Any) -> None:
    if not _movable(contract, given) or contract.arguments["where"].axes != (
        contract.row,
    ):
        return
    rows = np.sort(np.random.default_rng(call.seed).permutation(call.sizes.n)[:4])
    mask = np.zeros(call.sizes.n, bool)
    mask[rows] = True
    masked, error = _outcome(contract, given | {"where": mask})
    fewer, refused = _outcome(
        contract,
        {k: v for k, v in _takes_rows(contract, given, rows).items() if k != "where"},
    )
    if error is not None or refused is not None:
        if error is not None and refused is not None:
            return
        raise Unexplained(f"{call}: where: {error}, without the rows: {refused}")
    kept = np.asarray(masked)
    if contract.axes and contract.axes[0] == contract.row:
        kept = kept[rows]
    _close(call, kept, fewer, "where, and without the rows", exact=2e-3)


def _check_no_class(contract: Contract, call: Call, given: dict, result: Any) -> None:
    """A label beyond the classes is K, which is none; a loss makes it NaN."""
    name, kind, _ = call.wrong or ("", "", 0)
    argument = contract.arguments[name]
    if "class ind" not in argument.words or kind not in _WIDE:
        return
    labels = np.asarray(given[name])
    near = np.where(labels >= _WIDE[kind], call.sizes.k, labels)
    same, error = _outcome(contract, given | {name: near})
    if error is not None:
        raise Unexplained(f"{call}: answered, but K is refused: {error}")
    _close(call, result, same, "as another label", exact=0)
    said = "label outside [0, K)" in contract.returns and "where" not in given
    if (
        said
        and np.shape(result) == labels.shape
        and not np.all(np.isnan(np.asarray(result)[near == call.sizes.k]))
    ):
        raise Unexplained(f"{call}: a label out of range: {np.asarray(result)}")
