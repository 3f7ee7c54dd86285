"""JSON with a checksum: every flipped bit is noticed, or changes nothing."""

import json
import zlib

import pytest

from ltjax._seal import BrokenSeal, sealed, unsealed

RECORD = {"step": 3, "loss": 0.1, "name": "gr\u00fcn", "groups": {"few": [1, None]}}


def test_the_checksum_is_the_crc_32_of_the_compact_text_with_sorted_keys():
    text = b'{"a":1,"b":[true,"x"]}'
    assert sealed({"b": [True, "x"], "a": 1})["crc32"] == f"{zlib.crc32(text):08x}"


def test_what_was_written_is_read_whatever_the_layout():
    for indent in (None, 4):
        assert unsealed(json.dumps(sealed(RECORD), indent=indent)) == RECORD
    assert unsealed(json.dumps(RECORD)) == RECORD  # written before there were seals
    tuples = {"pair": (1, 2.5), "nan": float("inf")}
    assert unsealed(json.dumps(sealed(tuples))) == {
        "pair": [1, 2.5],
        "nan": float("inf"),
    }


def test_no_flipped_bit_changes_a_value_silently():
    written = json.dumps(sealed(RECORD)).encode()
    noticed = 0
    for bit in range(8 * len(written)):
        damaged = bytearray(written)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = unsealed(damaged.decode(errors="replace"))
        except BrokenSeal:
            noticed += 1
        else:  # only the name of the checksum, or the case of a digit, was hit
            assert RECORD.items() <= found.items()
    assert noticed > 7.5 * len(written)


@pytest.mark.parametrize(
    "text, words",
    [
        ("{", "not JSON: "),
        ("[1]", "a JSON list, expected an object"),
        ('{"step": 4, "crc32": "00000000"}', "or was edited"),
    ],
)
def test_what_is_not_whole_says_why(text, words):
    with pytest.raises(BrokenSeal, match=words):
        unsealed(text)
