"""Two modalities of a digit: an image of its glyph, and its MNIST-1D signal.

Neither is enough by itself where some examples have an unreadable image or signal.
Noise and these shares say how strong each of them is.
"""

import numpy as np

from ltjax._checks import check_choice, check_range
from ltjax.data.loading import array_source
from ltjax.data.mnist1d import open_mnist1d
from ltjax.data.scenes import glyph
from ltjax.data.source import Source

MODALITIES = ("image", "signal")


def multimodal_digits(
    split: str = "train",
    *,
    train_per_class: int = 500,
    test_per_class: int = 100,
    size: int = 28,
    noise: float = 0.3,
    absent_image: float = 0.0,
    absent_signal: float = 0.0,
    absent: str = "noise",
    seed: int = 42,
) -> Source:
    """Images and signals of the same digits.

    An image has the 5 x 7 dots of its digit, enlarged, somewhere, on normal noise. The
    signal is another drawing of the digit, as `open_mnist1d` makes them. No example
    lacks both.

    Args:
        split: "train" or "test", both exactly balanced.
        train_per_class: examples per class of the training split.
        test_per_class: examples per class of the test split.
        size: height and width of the images, at least 8.
        noise: deviation of the pixels' noise.
        absent_image: share of examples whose image shows no digit.
        absent_signal: share of the other examples whose signal is of no digit.
        absent: "noise" or "zeros", what is there in its place.
        seed: of signals and images; with `split` it makes independent sets.

    Returns:
        `Source` of {"image": float32 [size, size, 1], "signal": float32 [40, 1]}.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> digits = multimodal_digits(train_per_class=2, test_per_class=1, size=8)
        >>> digits.shape
        {'image': (8, 8, 1), 'signal': (40, 1)}
    """
    name = "multimodal_digits"
    check_range(name, "size", size, low=8)
    check_range(name, "noise", noise, low=0)
    check_range(name, "absent_image", absent_image, low=0, high=1)
    check_range(name, "absent_signal", absent_signal, low=0, high=1)
    check_choice(name, "absent", absent, ("noise", "zeros"))
    stored = open_mnist1d(
        split,
        train_per_class=train_per_class,
        test_per_class=test_per_class,
        seed=seed,
    )
    labels = stored.labels
    generator = np.random.Generator(
        np.random.Philox(key=[seed, ("train", "test").index(split)])
    )
    images = noise * generator.standard_normal((len(labels), size, size, 1))
    signals = stored.reader(np.arange(len(labels)))
    blind = generator.random(len(labels)) < absent_image
    deaf = ~blind & (generator.random(len(labels)) < absent_signal)
    for image, label in zip(images[..., 0], labels, strict=True):
        _draw(image, int(label), generator)
    nothing = noise * generator.standard_normal(images.shape)
    silence = generator.standard_normal(signals.shape)
    if absent == "zeros":
        nothing, silence = np.zeros_like(images), np.zeros_like(signals)
    images[blind], signals[deaf] = nothing[blind], silence[deaf]
    return array_source(
        {"image": images, "signal": signals},
        labels,
        num_classes=stored.num_classes,
        name=name,
        split=split,
        class_names=stored.class_names,
    )


def _draw(image: np.ndarray, digit: int, generator: np.random.Generator) -> None:
    """Adds the dots of a digit somewhere, in a brightness of their own."""
    scale = max(image.shape[0] // 10, 1)
    dots = np.kron(glyph(digit), np.ones((scale, scale)))
    top, left = (
        generator.integers(0, image.shape[k] - dots.shape[k] + 1) for k in (0, 1)
    )
    window = (slice(top, top + dots.shape[0]), slice(left, left + dots.shape[1]))
    image[window] += generator.uniform(0.7, 1.3) * dots
