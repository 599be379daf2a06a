import numpy as np
import pytest

from byrote.descriptors import Descriptor
from byrote.descriptors.thumbnail import Thumbnail


def drawn(seed, height=64, width=64):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_a_thumbnail_is_a_descriptor_that_names_itself():
    assert isinstance(Thumbnail(), Descriptor)
    assert (Thumbnail().name, Thumbnail().dimensions) == ("thumbnail32-v1", 3072)
    assert (Thumbnail(8).name, Thumbnail(8).dimensions) == ("thumbnail8-v1", 192)


def test_an_image_of_64_gives_the_mean_of_two_by_two_rounded_half_up():
    images = [drawn(seed) for seed in range(5)]
    vectors = Thumbnail().describe(images)
    assert vectors.dtype == np.uint8
    for image, vector in zip(images, vectors, strict=True):
        wide = image.astype(int)
        sums = wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]
        np.testing.assert_array_equal(vector, ((sums + 2) // 4).ravel())


def test_a_vector_depends_on_its_own_image_only():
    images = [drawn(1), drawn(2, 40, 100), drawn(3, 7, 5), drawn(4, 32, 32)]
    together = Thumbnail().describe(images)
    for number, image in enumerate(images):
        np.testing.assert_array_equal(Thumbnail().describe([image])[0], together[number])


def test_a_wide_picture_meets_the_sample_of_its_central_square():
    wide = drawn(5, 64, 100)
    both = Thumbnail().describe([wide, wide[:, 18:82]])
    np.testing.assert_array_equal(both[0], both[1])


def test_no_images_give_no_rows():
    assert Thumbnail().describe([]).shape == (0, 3072)


def test_a_side_below_one_is_a_mistake_of_the_programmer():
    with pytest.raises(ValueError, match="0"):
        Thumbnail(0)
