import io

import numpy as np
import pytest
from PIL import Image

from ltjax.report import read_run, write_report
from ltjax.report.pictures import class_colors, picture_png, picture_sheet


def test_classes_have_colors_and_what_is_none_is_grey():
    colors = class_colors(21)
    assert len(np.unique(colors[:21], axis=0)) == 21
    assert (colors[21:] == 128).all()


def test_a_sheet_by_hand():
    numbers = np.array([[[0, 1]], [[255, 0]]], np.uint8)  # two pictures of 1 x 2
    colors = np.full((1, 1, 2, 3), 9, np.uint8)
    sheet = picture_sheet([colors, numbers], 2)
    # Gaps of four pixels between pictures and rows.
    assert sheet.shape == (1 + 4 + 1, 2 + 4 + 2, 3)
    table = class_colors(2)
    assert (sheet[0, :2] == 9).all() and (sheet[0, 2:] == 255).all()
    assert (sheet[5, [0, 1, 6, 7]] == table[[0, 1, 255, 0]]).all()
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        picture_sheet([np.zeros((2, 2), np.uint8)], 2)


def test_pictures_of_an_evaluator_reach_the_report(ce, tmp_path):
    file = ce / "evaluation" / "test_100.npz"
    kept = {
        "pictures/true": np.zeros((2, 3, 4, 5), np.uint8),
        "pictures/predicted": np.ones((2, 3, 4, 5), np.uint8),
    }
    np.savez(file, **np.load(file), **kept)
    png, names = picture_png(read_run(ce))
    assert names == ["true", "predicted"]
    assert Image.open(io.BytesIO(png)).size == (3 * 9 - 4, 2 * 8 - 4)
    paths = write_report(ce, tmp_path / "out")
    assert paths["pictures_ce.png"].read_bytes() == png
    page = paths["report.html"].read_text()
    assert "CE, from top to bottom: true, predicted." in page
