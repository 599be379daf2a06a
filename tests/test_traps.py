"""The traps of the literature, one a test: the naive way goes wrong by a measured amount, and byrote's does not.

Methods 6.3 and 8.2 are the sections of the collected methods that name them; each test says its source. The naive way
is written in the test. Data are drawn by fixed seeds and copy nothing unless the test says so.
"""

from dataclasses import replace
from itertools import combinations
from math import inf, sqrt

import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.spatial.distance import cdist

from byrote import plan
from byrote.domain import Match, Prompt
from byrote.kernels import cliques, exact, matching, ranges, rates, roc, search, stats
from byrote.kernels.components import components
from byrote.stages import certify, generate, match

ALPHA, TAU = 0.05, 0.15


def groups(side, statistics, copies=1):
    """Make groups of one side from their statistics."""
    return [_group(side, f"{side} {copies} {k}", float(t), copies) for k, t in enumerate(statistics)]


def _group(side, name, t, copies=1):
    found = Match(0, 0, 0, name, 0, name, name, side, t, t, None, None, False, 1.0, 0, 0)
    return certify.Tested(name, name, side, copies, "asked", None if t == inf else found)


def certified(statistics, controls):
    """Return which pictures the shipped rule certifies, in the order of `statistics`."""
    rows = [*groups("picture", statistics), *groups("control", controls)]
    found = {f.group for f in certify.certify(rows, fdr=ALPHA, closest=TAU).findings if f.certified}
    return np.array([f"picture 1 {k}" in found for k in range(len(statistics))])


def significantly_more(rejections, trials, level=ALPHA):
    """Tell whether so many rejections refute, at 1 %, that a test holds its level."""
    return scipy_stats.binomtest(int(rejections), int(trials), level, alternative="greater").pvalue < 0.01


# Membership scores (methods 6.3)


def closest_point(members, others, target):
    """Read the TPR where the FPR is closest to the target, as SecMI, GSA and others do: argmin |fpr - target|."""
    cuts = np.unique(np.concatenate([members, others]))[::-1]
    fpr, tpr = ((side[:, None] >= cuts).mean(0) for side in (others, members))
    at = np.abs(fpr - target).argmin()
    return tpr[at], fpr[at]


def test_the_closest_point_of_a_roc_curve_exceeds_the_target_and_the_loosest_within_it_does_not():
    """Methods 6.3. The closest to 1 % is 2 of 160 negatives, 1.25 %, and 1 of 60, 1.7 %; byrote takes 1, and none."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        members, others = rng.normal(1, 1, 160), rng.normal(0, 1, 160)
        assert closest_point(members, others, 0.01)[1] == 2 / 160 > 0.01
        assert roc.tpr_at_fpr(members, others, 0.01).fpr == 1 / 160
        assert closest_point(members, others[:60], 0.01)[1] == 1 / 60 > 0.01
        assert roc.tpr_at_fpr(members, others[:60], 0.01) is None


def test_ties_take_the_closest_point_far_beyond_the_target_and_are_left_uncalled():
    """Methods 6.3, with scores of a few levels only: 3 % of the others share the best one."""
    members, others = np.repeat([3.0, 1.0], [60, 40]), np.repeat([3.0, 1.0], [3, 97])
    assert closest_point(members, others, 0.02) == (0.6, 0.03)
    point = roc.tpr_at_fpr(members, others, 0.02)
    assert (point.tpr, point.fpr) == (0, 0)


def test_the_best_of_twenty_scores_beats_chance_where_it_was_chosen_and_not_on_pictures_kept_apart():
    """Methods 6.3: SecMI keeps the best epoch, PIA the best timestep, by the set reported on. All here is noise."""
    rng, naive, ours, realised = np.random.default_rng(2), 0, 0, []
    for _ in range(200):
        members, others = rng.normal(size=(20, 400)), rng.normal(size=(20, 400))
        points = [roc.tpr_at_fpr(m[:200], o[:200], ALPHA) for m, o in zip(members, others, strict=True)]
        best = int(np.argmax([point.hits for point in points]))
        naive += points[best].tpr_low > ALPHA
        kept = roc.frozen(points[best].threshold, members[best, 200:], others[best, 200:])
        ours += rates.difference(kept.hits, kept.members, kept.false_alarms, kept.others)[0] > 0
        realised.append(kept.fpr)
    assert naive / 200 > 0.9
    assert not significantly_more(ours, 200)
    assert np.mean(realised) > ALPHA + 0.01  # the best looks best for a threshold that is too loose, and this shows it


def test_features_scaled_by_the_audited_pictures_depend_on_their_company_and_those_scaled_by_the_reference_do_not():
    """Methods 6.3: GSA scales target features by target statistics. An owner's pictures, all of them members."""
    rng = np.random.default_rng(3)
    others, fresh, mine = rng.normal(0, 1, 2000), rng.normal(0, 1, 500), rng.normal(2, 1, 500)

    def naive(values):
        return (values - np.median(values)) / np.subtract(*np.quantile(values, [0.75, 0.25]))

    tuned = roc.tpr_at_fpr(naive(mine), naive(others), ALPHA).threshold
    assert roc.frozen(tuned, naive(mine), naive(fresh)).tpr < 0.1
    scaled = [roc.robust_scale(values, others) for values in (mine, others, fresh)]
    kept = roc.frozen(roc.tpr_at_fpr(*scaled[:2], ALPHA).threshold, scaled[0], scaled[2])
    assert kept.tpr > 0.55
    assert kept.fpr_low < ALPHA < kept.fpr_high
    assert roc.robust_scale(mine[:1], others) == scaled[0][:1]
    assert abs(naive(mine)[0] - naive(np.concatenate([mine, fresh]))[0]) > 0.3


def test_five_hundred_negatives_say_little_of_one_percent_and_nothing_of_a_tenth():
    """Methods 6.3: 5 of 500 is .33 to 2.3 %; .1 % takes 10,000. The naive threshold lets .2 % through, unsaid."""
    rng, truth = np.random.default_rng(4), []
    for _ in range(300):
        others = rng.normal(size=500)
        truth.append(scipy_stats.norm.sf(others.max()))
        assert closest_point(others, others, 0.001)[1] in {0, 1 / 500}
    assert np.mean(truth) > 0.0015
    assert roc.tpr_at_fpr(others, others, 0.001) is None
    point = roc.tpr_at_fpr(others, others, 0.01)
    assert (round(point.fpr_low, 4), round(point.fpr_high, 3)) == (0.0033, 0.023)
    assert point.coarse
    assert roc.others_needed(0.001) == 10_000
    some, enough = (roc.tpr_at_fpr(np.ones(1), np.arange(float(n)), 0.001) for n in (9_999, 10_000))
    assert [some.coarse, enough.coarse] == [True, False]
    assert enough.fpr_high < 0.002


def test_the_root_of_a_p_norm_moves_no_rank_but_p_does_and_thresholds_carry_neither():
    """Methods 6.3: PIA and SimA sum fourth powers without a root, CDI takes p = 5. Naive: even steps of the score."""
    rng = np.random.default_rng(5)
    inside, outside = (np.abs(rng.standard_t(3, (1000, 64))) * scale for scale in (0.93, 1.0))

    def powers(p):
        return tuple(-(side**p).sum(1) for side in (inside, outside))

    def roots(p):
        return tuple(-((side**p).sum(1) ** (1 / p)) for side in (inside, outside))

    def by_steps(members, others):
        cuts = np.linspace(min(members.min(), others.min()), max(members.max(), others.max()), 100)[::-1]
        return np.trapezoid((members[:, None] >= cuts).mean(0), (others[:, None] >= cuts).mean(0))

    assert abs(by_steps(*powers(4)) - by_steps(*roots(4))) > 0.02
    assert roc.auc(*powers(4)) == roc.auc(*roots(4))
    before, after = roc.tpr_at_fpr(*powers(4), 0.01), roc.tpr_at_fpr(*roots(4), 0.01)
    assert (before.hits, before.false_alarms) == (after.hits, after.false_alarms)
    assert roc.auc(*powers(1)).low > roc.auc(*powers(4)).high
    assert roc.frozen(before.threshold, *roots(4)).fpr == 1  # what was tuned on powers calls every root


def test_a_threshold_from_elsewhere_is_quoted_with_the_rate_that_it_realises():
    """Methods 6.2 and 6.3: GSA's frozen thresholds had FPRs of .07 to .51, CLiD's some from shadow models failed."""
    rng = np.random.default_rng(6)
    tuned = roc.tpr_at_fpr(rng.normal(2, 1, 5000), rng.normal(0, 1, 5000), 0.01)
    kept = roc.frozen(tuned.threshold, rng.normal(2.8, 1, 5000), rng.normal(0.8, 1, 5000))
    truth = scipy_stats.norm.sf(tuned.threshold - 0.8)
    assert truth > 0.045  # and not the 1 % that the naive way goes on quoting
    assert kept.fpr_low < truth < kept.fpr_high
    assert kept.fpr_low > 4 * tuned.fpr


def test_an_auc_of_members_against_pictures_of_another_kind_is_found_out_without_the_model():
    """Methods 6.2, CopyMark: COCO against LAION. The score is a property of the picture, and knows no model."""
    rng, found = np.random.default_rng(7), []
    for shift in (0.0, 1.0):
        features = np.concatenate([rng.normal(0, 1, (200, 4)), rng.normal(shift, 1, (200, 4))])
        sides = np.arange(400) < 200, np.zeros(400, np.int64)
        blind = matching.separation(features, *sides, seed=0, draws=99)
        found.append((roc.auc(-features[:200, 0], -features[200:, 0]).auc > 0.7, blind.p_value <= ALPHA))
    assert found == [(False, False), (True, True)]


# The missing null (methods 8.2, Majhi and Bagchi 2026, arXiv:2610.00251)


def z_test(within, picture, strata):
    """Weigh two shares as `permutation_p` does, but by the normal approximation and with all strata in one pool."""
    m, n, share = picture.sum(), (~picture).sum(), within.mean()
    spread = sqrt(share * (1 - share) * (1 / m + 1 / n))
    return float(scipy_stats.norm.sf((within[picture].mean() - within[~picture].mean()) / spread)) if spread else 1.0


def test_relabelling_is_exact_however_few_come_near_and_the_normal_approximation_is_not():
    """Methods 8.2: with a random split, relabelling is an exact test. Here every relabelling there is is the truth."""
    within, strata = np.arange(12) % 4 == 0, np.repeat([0, 1], [7, 5])
    found, naive = [], []
    for at in combinations(range(7), 2):
        for too in combinations(range(7, 12), 2):
            picture = np.isin(np.arange(12), [*at, *too])
            found.append((int((within & picture).sum()), exact.permutation_p(within, picture, strata)))
            naive.append(z_test(within, picture, strata))
    counts, p = (np.array(column) for column in zip(*found, strict=True))
    assert p == pytest.approx([(counts >= count).mean() for count in counts])
    assert all((p <= level + 1e-12).mean() <= level + 1e-12 for level in p)
    assert max((np.array(naive) <= level).mean() - level for level in naive) > 0.1


def test_pictures_that_are_copied_much_and_come_near_for_that_accuse_nobody_within_strata():
    """Methods 8.2 with evidence.md: what has many copies is near more often on both sides; pooled, that is memory."""
    rng = np.random.default_rng(8)
    picture, strata = (
        np.repeat([True, True, False, False], [60, 60, 270, 30]),
        np.repeat([1, 9, 1, 9], [60, 60, 270, 30]),
    )
    shares, naive, ours = np.where(strata == 9, 0.3, 0.02), 0, 0
    for _ in range(200):
        within = rng.random(420) < shares
        naive += z_test(within, picture, strata) <= ALPHA
        ours += exact.permutation_p(within, picture, strata) <= ALPHA
    assert naive / 200 > 0.9
    assert not significantly_more(ours, 200)


def test_unmatched_controls_make_discoveries_of_what_a_covariate_does_and_matched_ones_do_not():
    """Methods 8.2: against random images 596 false discoveries. Here flat pictures are nearer to anything.

    Matching holds its level where controls reach; where they run out, the most alike are less flat than the picture,
    and p is too small.
    """
    rng = np.random.default_rng(9)
    x, y = rng.normal(-1, 1, (600, 1)), rng.normal(0, 1, (4000, 1))
    t, null = x[:, 0] + rng.normal(0, 0.3, 600), y[:, 0] + rng.normal(0, 0.3, 4000)
    naive = stats.conformal_p(t, null)
    ours = matching.matched_p(t, null, matching.nearest_controls(x, y, 99))
    reached = x[:, 0] >= np.quantile(y, 0.01)
    assert (naive <= ALPHA).mean() > 0.2
    assert (naive[reached] <= ALPHA).mean() > 0.1
    assert (stats.benjamini_hochberg(naive) <= ALPHA).sum() > 5
    assert not significantly_more((ours[reached] <= ALPHA).sum(), reached.sum())
    assert (ours[~reached] <= ALPHA).mean() > 0.1
    assert (stats.benjamini_hochberg(ours) <= ALPHA).sum() == 0


def test_redrawing_generations_gives_a_null_several_times_too_narrow_and_ranking_among_pictures_does_not():
    """Methods 8.2: three times there. A picture's own level spreads, and no resampling of its samples shows that."""
    rng, generations = np.random.default_rng(10), 16
    level = rng.normal(0.5, 0.06, 1200)
    distances = level[:, None] + rng.normal(0, 0.06, (1200, generations))
    t, null = distances[:200].mean(1), distances[200:].mean(1)
    redrawn = [np.mean(row[rng.integers(0, generations, (100, generations))], 1).std() for row in distances[200:300]]
    assert null.std() / np.mean(redrawn) > 3
    naive = scipy_stats.norm.cdf((t - null.mean()) / np.mean(redrawn))
    assert (naive <= ALPHA).mean() > 0.25
    assert not significantly_more((stats.conformal_p(t, null) <= ALPHA).sum(), 200)


def test_samples_redrawn_one_by_one_promise_a_rate_that_prompts_redrawn_whole_do_not():
    """Methods 8.3: a copy comes back for the prompt that has it, so prompts are the sampling unit."""
    rng, naive, ours = np.random.default_rng(11), 0, 0
    for seed in range(150):
        copies = rng.binomial(16, rng.beta(0.3, 0.9, 100))
        share = copies.mean() / 16
        reach = 1.96 * sqrt(share * (1 - share) / 1600)
        low, high = rates.cluster_bootstrap(copies, 16, seed=seed, draws=300)
        naive += share - reach <= 0.25 <= share + reach
        ours += low <= 0.25 <= high
    assert naive / 150 < 0.7
    assert ours / 150 > 0.88


def rms(a, b):
    return cdist(a, b) / sqrt(a.shape[1])


def pulled(rng, pictures):
    """Draw samples that training moved towards pictures, none of them to be a copy."""
    samples = rng.normal(size=pictures.shape)
    return samples + 0.35 * (pictures[rms(samples, pictures).argmin(1)] - samples)


def narrow(rng, pictures):
    """Draw samples of less variety than the pictures, by a generator that never saw one."""
    return 0.6 * rng.normal(size=pictures.shape)


def copying(rng, pictures):
    """Draw samples of which one in twenty is a copy."""
    samples = rng.normal(size=pictures.shape)
    samples[:15] = pictures[:15] + rng.normal(0, 0.02, (15, pictures.shape[1]))
    return samples


def preference(samples, pictures, controls):
    """Ask whether more samples have a picture than a control for their neighbour."""
    nearer = rms(samples, pictures).min(1) < rms(samples, controls).min(1)
    return scipy_stats.binomtest(int(nearer.sum()), len(nearer), 0.5, alternative="greater").pvalue


def c_t(samples, pictures, controls):
    """Ask whether samples are nearer to pictures than controls are: Meehan et al. 2020, in one cell."""
    distances = rms(samples, pictures).min(1), rms(controls, pictures).min(1)
    return scipy_stats.mannwhitneyu(*distances, alternative="less").pvalue


def count(samples, pictures, controls):
    """Ask whether more pictures than controls are within tau of a sample, as the report does."""
    t, null = rms(pictures, samples).min(1), rms(controls, samples).min(1)
    return certify.at_all([*groups("picture", t), *groups("control", null)], TAU).p_value


@pytest.mark.parametrize(("draw", "deceived"), [(pulled, preference), (pulled, c_t), (narrow, c_t)])
def test_a_statistic_of_the_whole_distribution_takes_influence_for_copying_and_a_count_within_tau_does_not(
    draw, deceived
):
    """Methods 8.2 and 9: of 24 generators that copy nothing C_T flagged 10, the preference 7, the count none."""
    rng, naive, ours, able = np.random.default_rng(12), 0, 0, 0
    for _ in range(30):
        pictures, controls = rng.normal(size=(2, 300, 8))
        naive += deceived(draw(rng, pictures), pictures, controls) <= ALPHA
        ours += count(draw(rng, pictures), pictures, controls) <= ALPHA
        able += count(copying(rng, pictures), pictures, controls) <= ALPHA
    assert naive / 30 > 0.8
    assert not significantly_more(ours, 30)
    assert able == 30


def test_a_mitigation_that_halves_the_copies_leaves_every_finding_and_the_paired_count_says_so():
    """Methods 8.2: what halves memorisation left a third, a sixth or none of the certified pictures."""
    rng = np.random.default_rng(13)
    null = rng.uniform(0.3, 0.6, (1200, 16)).min(1)

    def audit(share):
        hit = (rng.random((100, 16)) < share) & (np.arange(100) < 60)[:, None]
        distances = np.where(hit, rng.uniform(0.02, 0.08, hit.shape), rng.uniform(0.3, 0.6, hit.shape))
        return hit.mean(1)[:60], certified(distances.min(1), null)

    (often, before), (half, after), (_, gone) = audit(0.9), audit(0.45), audit(0.0)
    assert 0.4 < half.mean() / often.mean() < 0.6
    assert scipy_stats.ttest_rel(often, half).pvalue < 1e-20  # "halves memorisation, p < 1e-20"
    low, high = rates.paired_difference(int((after & ~before).sum()), int((before & ~after).sum()), 100)
    assert before.sum() == 60
    assert after.sum() >= 58
    assert -0.1 < low < 0 < high < 0.1
    assert rates.mcnemar(int((before & ~after).sum()), int((after & ~before).sum())) > ALPHA
    low, high = rates.paired_difference(int((gone & ~before).sum()), int((before & ~gone).sum()), 100)
    assert high < -0.4


def test_more_samples_for_pictures_than_for_controls_are_taken_for_memory_and_two_a_side_suffice():
    """Methods 8.2: two generations an image suffice; evidence.md: the same number of samples on both sides."""
    rng = np.random.default_rng(14)
    level = rng.normal(0.45, 0.04, 2400)

    def statistic(of, samples):
        return (level[of, None] + rng.normal(0, 0.04, (len(level[of]), samples))).min(1)

    pictures, controls = slice(0, 400), slice(400, None)
    naive = stats.conformal_p(statistic(pictures, 16), statistic(controls, 2))
    ours = stats.conformal_p(statistic(pictures, 2), statistic(controls, 2))
    assert (naive <= ALPHA).mean() > 0.15
    assert not significantly_more((ours <= ALPHA).sum(), 400)
    copied = rng.random((60, 2)) < 0.8
    t = np.where(copied, 0.05, 0.45).min(1)
    assert (certified(np.concatenate([t, statistic(pictures, 2)[60:100]]), statistic(controls, 2))[:60]).mean() > 0.9


def test_the_chain_asks_for_as_many_samples_of_a_picture_as_of_a_control(tmp_path):
    """The part of the last trap that no statistic sees: copies and side change nothing in what is asked for."""
    (tmp_path / "audit.toml").write_text(
        'format = 1\n[model]\nuri = "parrot:parrot.toml"\n[corpus]\npath = "p"\n[generate]\nseeds = 7\n'
    )
    (tmp_path / "parrot.toml").write_text("width = 8\nheight = 8\n")
    asked = [
        Prompt(0, "a", "a", "picture", "top", 900, "caption", "x"),
        Prompt(1, "b", "b", "control", "control", 1, "caption", "y"),
    ]
    read = plan.load(tmp_path / "audit.toml")
    parts = generate.parts(asked, generate.seeds_of(asked, read, generate.model_of(read)))
    assert [len(part.payload) for part in parts] == [2]
    assert sum(part.items for part in parts) == 2 * 7


# Unequal numbers, and rules without a null (methods 8.1, 1.5, 9, and the two common mistakes)


def test_unique_counts_grow_with_the_samples_and_the_curve_is_read_at_equal_numbers():
    """Methods 8.1, after SIDE: E[unique] = sum of 1 - (1 - p)^N, so counts compare at equal N only."""
    rng = np.random.default_rng(15)
    few, many = (rng.binomial(n, rng.beta(0.2, 3, 2000)) for n in (16, 128))
    naive = rates.difference(int((many > 0).sum()), 2000, int((few > 0).sum()), 2000)
    assert naive[0] > 0.1  # "the second model memorises more": both are the same
    at = np.array([16], np.int64)
    assert rates.discovered(many, 128, at) == pytest.approx(rates.discovered(few, 16, at), abs=0.03)


def thumbnails(rng, n):
    """Draw unrelated pictures of 192 values whose RMS distances are about those of photographs."""
    return rng.normal(128, 60, (n, 192)).clip(0, 255).astype(np.uint8)


def shaken(rng, picture, n):
    """Draw near-duplicates of a picture: two levels of noise."""
    return (picture + rng.normal(0, 2, (n, len(picture)))).clip(0, 255).astype(np.uint8)


def nearest_groups(sample, pictures):
    """Return distances of a sample to one member of each group of near-duplicates, nearest first, as byrote groups."""
    labels = components(len(pictures), ranges.within(pictures, 0.05))
    _, members = np.unique(labels, return_index=True)
    found, _ = search.Nearest(pictures[members]).search(sample[None], len(members))
    return np.sqrt(found / sample.size) / 255


def test_fifty_duplicates_hide_a_copy_from_the_adaptive_ratio_and_groups_bring_it_back():
    """Methods 1.5, pitfall a: the neighbours in the denominator are the picture's own copies. At most 1 is a copy."""
    rng = np.random.default_rng(16)
    pictures = thumbnails(rng, 200)
    pictures = np.concatenate([pictures, shaken(rng, pictures[0].astype(float), 60)])
    sample = shaken(rng, pictures[0].astype(float), 1)[0]
    apart = np.sort(rms(pictures.astype(float), sample[None].astype(float))[:, 0])
    assert apart[0] / (0.5 * apart[:50].mean()) > 1
    distances = nearest_groups(sample, pictures)
    assert match._Nearest(np.arange(distances.size)[None], distances).ratios(0.5, 50)[0, 0] < 0.1


def test_one_duplicate_hides_a_copy_from_the_ratio_of_first_and_second_neighbour_and_t_has_no_second():
    """Methods 9: d1 / d2 < 1/3 is blind to duplicated pictures, the very ones that are memorised."""
    rng = np.random.default_rng(17)
    pictures = thumbnails(rng, 200)
    sample = shaken(rng, pictures[0].astype(float), 1)[0]

    def naive(pool):
        first, second = np.sort(rms(pool.astype(float), sample[None].astype(float))[:, 0])[:2]
        return first / second < 1 / 3

    doubled = np.concatenate([pictures, shaken(rng, pictures[0].astype(float), 1)])
    assert [naive(pictures), naive(doubled)] == [True, False]
    alone, grouped = (nearest_groups(sample, pool)[0] for pool in (pictures, doubled))
    assert grouped[0] / grouped[1] < 1 / 3
    assert (alone[0], alone.size) == (grouped[0], grouped.size)
    null = rms(thumbnails(rng, 20).astype(float), sample[None].astype(float))[:, 0] / 255
    assert certified(grouped[:1], null).all()


def test_near_duplicates_of_the_population_pass_for_extractions_and_controls_take_them_back():
    """Methods 1.5, pitfall b: 1.29 % of CIFAR-10 test pictures satisfy the rule. Samples here are real ones too."""
    rng, naive, ours, accused = np.random.default_rng(18), [], 0, 0
    scenes = rng.normal(0, 1, (15_000, 12))
    for _ in range(30):
        at = rng.integers(0, 15_000, 1000)
        pictures, controls, samples = np.split(scenes[at] + rng.normal(0, 0.02, (1000, 12)), [400, 800])
        apart = np.sort(rms(samples, pictures), 1)
        naive.append((apart[:, 0] <= 0.5 * apart[:, :50].mean(1)).sum())
        t, null = rms(pictures, samples).min(1), rms(controls, samples).min(1)
        ours += count(samples, pictures, controls) <= ALPHA
        accused += bool(certified(t, null).any())
    assert np.mean(naive) > 4  # each "extracted", from a generator that saw nothing
    assert not significantly_more(ours, 30)
    assert not significantly_more(accused, 30)


def test_the_threshold_of_a_copy_joins_skies_that_the_threshold_of_an_edge_does_not():
    """Two common mistakes: .15 is delta of the success criterion, and the threshold of an edge was never published."""
    rng = np.random.default_rng(19)
    cells = np.kron(rng.normal(0, 0.08, (16, 16, 16, 3)), np.ones((1, 4, 4, 1)))
    skies = (255 * (np.array([0.45, 0.6, 0.8]) + cells)).clip(0, 255).astype(np.uint8)
    copies = (skies[:1] + rng.normal(0, 8, skies.shape)).clip(0, 255).astype(np.uint8)

    def clique(samples, within):
        return cliques.find(samples, None, tiles=4, within=within, least=10, seconds=0).found

    knobs = plan.CliquesPlan(), plan.CertifyPlan()
    assert clique(skies, knobs[1].closest)
    assert knobs[1].closest == 0.15
    assert [clique(skies, knobs[0].within), clique(copies, knobs[0].within)] == [False, True]


# What an audit may test (evidence.md)


def test_the_best_of_several_members_is_near_by_chance_and_a_group_with_two_is_refused():
    """Evidence.md: best-of-members takes p <= .01 to .04 and more. One member a group, drawn beforehand."""
    rng = np.random.default_rng(20)
    members, null = rng.uniform(0.1, 0.9, (2000, 4)), rng.uniform(0.1, 0.9, 2000)
    naive, ours = (stats.conformal_p(t, null) for t in (members.min(1), members[:, 0].copy()))
    assert (naive <= 0.01).mean() > 0.03
    assert not significantly_more((ours <= 0.01).sum(), 2000, 0.01)
    rows = [_group("picture", "one", 0.3), _group("picture", "one", 0.1), *groups("control", null)]
    with pytest.raises(ValueError, match="one member"):
        certify.certify(rows, fdr=ALPHA, closest=TAU)


def test_a_test_among_what_passed_the_filter_has_no_controls_left_and_one_among_all_asked_finds_the_copies():
    """Evidence.md: a good filter leaves no controls, and then p = 1. The filter is part of T, never of n."""
    copied, empty = [0.05] * 10, [inf] * 190
    passed, none = np.array(copied), np.zeros(0)
    assert (stats.conformal_p(passed, none) == 1).all()
    assert not certified(passed, none).any()
    ours = certified(copied + empty, [inf] * 400)
    assert (ours.sum(), ours[:10].all()) == (10, True)


def test_several_captions_for_a_picture_accuse_models_that_learnt_nothing_and_one_caption_each_does_not():
    """Evidence.md: nine captions against a control's one. Certified is what an audit would have printed."""
    rng, naive, ours = np.random.default_rng(21), 0, 0
    for _ in range(60):
        tries, null = rng.uniform(0, 1, (20, 9)), rng.uniform(0, 1, 600)
        naive += bool(certified(tries.min(1), null).any())
        ours += bool(certified(tries[:, 0].copy(), null).any())
    assert naive / 60 > 0.3
    assert not significantly_more(ours, 60)
    row = _group("picture", "one", 0.3)
    again = replace(row, best=replace(row.best, prompt=1, tiled=0.1))
    with pytest.raises(ValueError, match="one caption"):
        certify.certify([row, again, *groups("control", null)], fdr=ALPHA, closest=TAU)


def test_a_candidate_beyond_the_neighbours_of_the_ratio_has_one_too():
    distances = np.array([[0.1, 0.2, 0.3, 0.4]])
    found = match._Nearest(np.arange(4)[None], distances).ratios(0.5, 2)
    assert np.allclose(found, distances / (0.5 * np.array([[0.25, 0.2, 0.15, 0.15]])))
