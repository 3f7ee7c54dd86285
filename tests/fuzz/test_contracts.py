"""What the docstrings say is understood, and a broken word is noticed."""

import numpy as np
import pytest

from experiments.reliability.fuzz import files, functions
from experiments.reliability.fuzz.arguments import POOL, unmakeable, valid_call
from experiments.reliability.fuzz.contracts import contracts, read_contract
from experiments.reliability.fuzz.functions import Call
from experiments.reliability.fuzz.outcomes import Unexplained
from ltjax import losses

PLAIN = POOL[0]


def test_every_public_function_can_be_called():
    known = contracts()
    assert len(known) > 250
    assert {n: unmakeable(c) for n, c in known.items() if unmakeable(c)} == {}


def test_a_docstring_as_it_is_read():
    contract = read_contract("losses", "logit_adjusted")
    assert contract.row == "B" and contract.axes == ("B",)
    assert contract.dtype == "float32" and not contract.finite
    axes = {name: one.axes for name, one in contract.arguments.items()}
    assert axes == {
        **{"logits": ("B", "K"), "labels": ("B",), "class_counts": ("K",)},
        **{"tau": None, "where": ("B",)},
    }
    given = valid_call(contract, PLAIN, 0)
    assert given["logits"].shape == (6, 3) and given["labels"].max() < 3
    assert contracts()["class_stats.prior"].axes == ("K",)
    distance = contracts()["losses.consistency"].arguments["distance"]
    assert distance.choices == ("cross_entropy", "squared_error")


def altered(monkeypatch, change):
    """The cross-entropy with another result, under its own contract."""
    honest = losses.softmax_cross_entropy
    contract = contracts()["losses.softmax_cross_entropy"]

    def function(logits, labels, *, where=None):
        return change(honest(logits, labels, where=where), logits, labels)

    monkeypatch.setattr(functions, "contracts", lambda: {contract.name: broken})
    broken = type(contract)(
        contract.name, function, contract.arguments, contract.returns, contract.axes
    )
    return contract.name


def raised(kind):
    def change(*given):
        raise kind("no such thing")

    return change


@pytest.mark.parametrize(
    ("law", "change", "told"),
    [
        ("order", lambda x, z, y: x[:-1], "shape"),
        ("order", lambda x, z, y: x.astype(np.float16), "dtype"),
        ("order", lambda x, z, y: x + np.arange(len(x)), "in another order"),
        ("precision", lambda x, z, y: x + (z.dtype == np.float64), "in float64"),
        ("order", raised(KeyError), "KeyError"),
        ("order", raised(ValueError), "not raised by ltjax"),
    ],
)
def test_a_broken_word_is_noticed(monkeypatch, law, change, told):
    name = altered(monkeypatch, change)
    seed = next(s for s in range(9) if len(valid_call(contracts()[name], PLAIN, s)) < 3)
    with pytest.raises(Unexplained, match=told):
        functions.check(Call(name, PLAIN, seed, {}, None, law))


def test_a_wide_label_that_counts_as_a_class_is_noticed(monkeypatch):
    name = altered(monkeypatch, lambda x, z, y: losses.focal(z, np.asarray(y) % 3))
    call = Call(name, PLAIN, 0, {}, ("labels", "2^32 + 1", 1), "order")
    with pytest.raises(Unexplained, match="label"):
        functions.check(call)


def test_a_reader_that_asks_for_too_much_is_noticed(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"whole")

    def read(path):
        if path.read_bytes() != b"whole":
            np.ones(1 << 29)  # 4 GiB

    kind = files.Kind("a.bin", file.write_bytes, read)
    assert files.read_damaged(kind, file, b"whole", b"whole") == "answered"
    with pytest.raises(Unexplained, match="MemoryError"):
        files.read_damaged(kind, file, b"half", b"whole")
    assert file.read_bytes() == b"whole"
