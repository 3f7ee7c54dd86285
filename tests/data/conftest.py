"""Small prepared data sets and image folders, made by the tests themselves."""

import io
import warnings

import numpy as np
import PIL.Image
import pytest


def png(pixels: np.ndarray) -> bytes:
    """Lossless file content of uint8 [h, w, 3] or [h, w]."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def picture(number: int, height: int = 6, width: int = 6) -> np.ndarray:
    """A picture that tells its number and the place of each pixel."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = number
    pixels[..., 1] = np.arange(height)[:, None]
    pixels[..., 2] = np.arange(width)[None, :]
    return pixels


@pytest.fixture(scope="session")
def toy_dir(tmp_path_factory):
    """A TFDS folder with `ltjax_toy` (one size) and `ltjax_ragged` (many sizes).

    Images reach TFDS as encoded files, so TensorFlow is not needed to prepare them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_datasets as tfds

    from ltjax.data.prepare import prepare

    class LtjaxToy(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        SHAPE = (6, 6, 3)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(shape=self.SHAPE),
                        "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
                        "coarse": tfds.features.ClassLabel(num_classes=2),
                        "vector": tfds.features.Tensor(shape=(2,), dtype=np.float32),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._examples(12), "test": self._examples(3)}

        def _examples(self, count):
            for i in range(count):
                yield (
                    i,
                    {
                        "image": io.BytesIO(png(self._picture(i))),
                        "label": i % 3,
                        "coarse": i % 2,
                        "vector": np.array([i, -i], np.float32),
                    },
                )

        def _picture(self, i):
            return picture(i)

        def _generate_examples(self):
            raise NotImplementedError

    class LtjaxRagged(LtjaxToy):
        SHAPE = (None, None, 3)

        def _picture(self, i):
            return picture(i, height=8 + i, width=20 - i)

    folder = tmp_path_factory.mktemp("tfds")
    for name in ("tfds:ltjax_toy", "tfds:ltjax_ragged"):
        prepare(name, folder)
    return folder


@pytest.fixture
def image_folder(tmp_path):
    """Six pictures of growing size in two folders, with the list train.txt."""
    lines = []
    for i in range(6):
        path = tmp_path / "images" / f"class{i % 2}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(picture(i, height=8 + i, width=12)))
        lines.append(f"class{i % 2}/{i}.png {i % 2}")
    (tmp_path / "train.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def save_picture():
    """`save_picture(path, size=(6, 8), mode="RGB", **options) -> pixels`.

    Random ones, of which no two pictures of a test have the same; options are Pillow's.
    """
    rng = np.random.default_rng(0)

    def save(path, *, size=(6, 8), mode="RGB", **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        PIL.Image.fromarray(pixels).convert(mode).save(path, **options)
        return pixels

    return save


@pytest.fixture
def photos(tmp_path, save_picture):
    """Classes of 5, 4 and 1 images whose order by letters is another one.

    Beside them lie files that are no images.
    """
    root = tmp_path / "photos"
    for name, count in {"class 10": 4, "class 2": 5, "Ärger": 1}.items():
        for k in range(count):
            save_picture(root / name / f"{k}.png")
    (root / ".DS_Store").write_text("")
    (root / "class 2" / "notes.txt").write_text("")
    return root
