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


def scales_of(points, x, weights=None, scales=SCALES, radius=0.25):
    at = mixture(points, weights)
    return basins.critical_scale(
        lambda states, place, rows: at(scales[place])(states), x, scales, times=16, radius=radius
    )


def scanned(points, x, scales, radius):
    """Return the largest scale at which one picture holds itself, by trying all of them."""
    at, found = mixture(points), 0.0
    for scale in scales:
        state, away = x, []
        for _ in range(16):
            state = at(scale)(state)
            away.append(np.linalg.norm(state - x))
        if max(away) <= radius * np.linalg.norm(x):
            found = max(found, scale)
    return found


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
    assert scales_of(points, points, scales=SCALES[::-1]).tolist() == scales_of(points, points).tolist()


@pytest.mark.parametrize("count", [1, 2, 7, 24])
def test_bisecting_finds_what_trying_all_of_them_finds(points, count):
    scales = np.geomspace(0.2, 20, count).tolist()
    mixed = np.concatenate([points, points * np.float32(0.9), -points[:4]])
    wanted = [scanned(points, mixed[k : k + 1], scales, 0.25) for k in range(len(mixed))]
    assert scales_of(points, mixed, scales=scales).tolist() == wanted
    assert len({*wanted}) > 1 or count == 1


def test_what_does_not_hold_is_asked_no_more_and_every_call_names_its_rows(points):
    asked = np.zeros(len(points) + 1, np.int64)
    mixed = np.concatenate([points, -3 * points[:1]])
    at = mixture(points)

    def denoise(states, place, rows):
        assert len(states) == len(rows)
        asked[rows] += 1
        return at(SCALES[place])(states)

    basins.critical_scale(denoise, mixed, SCALES, times=16, radius=0.25)
    assert asked[-1] == 2, "one call at each scale that is tried"
    assert asked.max() <= 3 * 16


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
