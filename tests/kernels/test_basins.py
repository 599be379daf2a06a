import numpy as np
import pytest

from byrote.kernels import basins


def mixture(points, weights=None):
    """Return the exact denoiser of a mixture of points: the mean of what is behind a noisy state, at noise `scale`."""
    weights = np.ones(len(points)) if weights is None else np.asarray(weights)

    def at(scale):
        def denoise(states):
            flat, rows = states.reshape(len(states), -1), points.reshape(len(points), -1)
            away = ((flat[:, None] - rows[None]) ** 2).sum(2) / (2 * scale**2)
            share = weights * np.exp(-(away - away.min(1, keepdims=True)))
            return ((share / share.sum(1, keepdims=True)) @ rows).reshape(states.shape).astype(np.float32)

        return denoise

    return at


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(0, 1, (20, 1, 4, 4)).astype(np.float32)


SCALES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


def scales_of(points, x, weights=None, **more):
    at = mixture(points, weights)
    return basins.critical_scale(lambda states, place: at(SCALES[place])(states), x, SCALES, **more)


def test_a_point_that_the_model_knows_holds_up_to_about_its_distance_from_the_others(points):
    alone = points.copy()
    alone[0] *= 8
    far, near = scales_of(alone, alone[:2])
    assert far > near > 0


def test_a_point_that_was_seen_more_often_holds_at_more_noise(points):
    once = scales_of(points, points[:1])
    often = scales_of(points, points[:1], [1e12] + [1.0] * 19)
    assert often[0] > once[0]


def test_a_point_that_the_model_does_not_know_holds_at_none(points):
    strange = -3 * points[:1]
    assert scales_of(points, strange).tolist() == [0.0]


def test_the_largest_scale_that_holds_counts_in_any_order(points):
    at = mixture(points)
    turned = SCALES[::-1]
    found = basins.critical_scale(lambda states, place: at(turned[place])(states), points, turned)
    assert found.tolist() == scales_of(points, points).tolist()


def test_rows_do_not_know_of_each_other(points):
    together = scales_of(points, points)
    assert together.tolist() == [float(scales_of(points, points[k : k + 1])[0]) for k in range(len(points))]


def test_the_radius_is_a_share_of_the_norm(points):
    assert scales_of(points, points[:1], radius=100.0)[0] == max(SCALES)
    assert scales_of(points, -3 * points[:1], radius=0.0)[0] == 0


def test_the_gap_is_a_difference_of_logarithms_and_takes_none_for_the_least():
    found = basins.gap(np.array([3.0, 0.0]), np.array([0.3, 0.3]), 0.1)
    assert found == pytest.approx([np.log(10), np.log(1 / 3)])


def test_a_map_is_hot_where_the_change_is_and_has_the_size_of_the_picture():
    change = np.zeros((3, 2, 8, 8), np.float32)
    change[:, :, 6, 1] = 2.0
    found = basins.heat(change, 32, 32, window=0.0)
    assert found.shape == (32, 32)
    assert np.unravel_index(found.argmax(), found.shape)[0] // 4 in (6,)
    assert np.unravel_index(found.argmax(), found.shape)[1] // 4 in (1,)
    assert found.min() >= 0
    smooth = basins.heat(change, 8, 8, window=3 / 8)
    assert smooth[5:8, 0:3] == pytest.approx(np.full((3, 3), 4 / 9), rel=1e-6)
