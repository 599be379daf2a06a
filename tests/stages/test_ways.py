"""Which rung brings a picture out, in how many samples, and what each rung brings at all."""

import numpy as np
import pytest

from byrote.domain import Match, Prompt
from byrote.stages.ways import Hits, Way, rung_rates, shares

SEEDS, TAU = 10, 0.15


def prompt(number, group, rung, side="picture", stratum="random"):
    return Prompt(number, group, group, side if group else "picture", stratum if group else "free", 1, rung, rung)


def match(number, index, group, t, side="picture"):
    return Match(number, index, 0, f"s{number}-{index}", 0, group, group, side, t, t, None, None, False, 1.0, 0, 0)


PROMPTS = [
    prompt(0, "a", "caption"),
    prompt(1, "b", "caption"),
    prompt(2, "c", "caption", "control", "control"),
    prompt(3, "a", "truncated"),
    prompt(4, "b", "truncated"),
    prompt(5, "c", "truncated", "control", "control"),
    prompt(6, "", "users"),
    prompt(7, "", "none"),
]


def made(prompts):
    return {each.number: SEEDS for each in prompts}


def hits(*matches):
    return Hits(matches, PROMPTS, TAU, made(PROMPTS))


def test_the_way_is_the_least_contrived_rung_that_comes_within_tau():
    found = hits(match(0, 0, "a", 0.01), match(0, 1, "a", 0.02), match(3, 4, "a", 0.1), match(7, 0, "a", 0.3))
    assert found.way("a") == Way("truncated", 1, SEEDS)


def test_a_sample_counts_once_for_a_group_and_only_within_tau():
    found = hits(match(0, 0, "a", 0.01), match(0, 0, "a", 0.05), match(0, 1, "a", 0.16))
    assert found.way("a") == Way("caption", 1, SEEDS)
    assert found.own("a", "caption") == [0]


def test_rungs_that_ask_for_nobody_count_all_their_samples():
    assert hits(match(6, 3, "a", 0.1), match(6, 4, "a", 0.1)).way("a") == Way("users", 1, 1), "prompts, not samples"
    assert hits(match(7, 3, "a", 0.1), match(7, 4, "a", 0.1)).way("a") == Way("none", 2, SEEDS)


def test_prompts_of_other_pictures_come_last_however_plain():
    found = hits(match(4, 0, "a", 0.1), match(0, 1, "a", 0.1))
    assert found.way("a") == Way("caption", 1, SEEDS)


def test_captions_and_samples_are_two_more_denominators():
    found = hits(match(0, 0, "a", 0.1), match(0, 1, "a", 0.1), match(1, 0, "a", 0.1), match(2, 5, "c", 0.1, "control"))
    captions, samples = shares(PROMPTS, found, SEEDS, 0)
    assert (captions.k, captions.n, captions.controls_k, captions.controls_n) == (2, 2, 1, 1)
    assert (samples.k, samples.n, samples.controls_k, samples.controls_n) == (3, 20, 1, 10)
    assert (samples.low, samples.high) == (captions.low / SEEDS, captions.high)


def test_the_share_of_samples_is_bootstrapped_over_captions_from_twenty_with_a_hit():
    prompts = [prompt(k, f"g{k}", "caption") for k in range(40)]
    found = Hits([match(k, i, f"g{k}", 0.1) for k in range(25) for i in range(4)], prompts, TAU, made(prompts))
    _, samples = shares(prompts, found, SEEDS, 0)
    assert samples.method.startswith("cluster bootstrap")
    assert samples.low < samples.k / samples.n == 0.25 < samples.high
    assert samples.controls_k is None


@pytest.mark.parametrize("chance", [0.02, 0.3])
def test_the_exact_interval_of_samples_covers_below_twenty_captions(chance):
    """Captions that give all of their samples or none, the case in which samples say least."""
    dice, prompts = np.random.default_rng(5), [prompt(k, f"g{k}", "caption") for k in range(30)]
    inside = 0
    for _ in range(200):
        known = np.flatnonzero(dice.random(30) < chance)[:19]
        found = Hits([match(k, i, f"g{k}", 0.1) for k in known for i in range(SEEDS)], prompts, TAU, made(prompts))
        _, samples = shares(prompts, found, SEEDS, 0)
        inside += samples.low <= chance <= samples.high
    assert inside >= 180


def test_what_only_others_captions_bring_has_no_share():
    assert hits(match(1, 3, "a", 0.1)).way("a") == Way("caption", 1, None)
    assert hits().way("a") is None


def test_each_rung_has_its_rate_and_its_control_twin():
    found = hits(match(0, 0, "a", 0.1), match(6, 0, "a", 0.1), match(7, 1, "c", 0.1, "control"), match(1, 0, "a", 0.1))
    told = {
        rate.name.split(": ")[-1]: (rate.k, rate.n, rate.controls_k, rate.controls_n)
        for rate in rung_rates(PROMPTS, found)
    }
    assert told["caption"] == (1, 2, 0, 1)
    assert told["truncated"] == (0, 2, 0, 1)
    assert told["prompts of ordinary users that bring one within tau"] == (1, 1, 0, 1)
    assert told["samples asked for with no text that come within tau of one"] == (0, 10, 1, 10)


def test_canaries_are_in_no_rate_of_a_rung():
    prompts = [*PROMPTS, prompt(8, "d", "caption", stratum="canary")]
    rates = rung_rates(prompts, Hits([match(8, 0, "d", 0.1)], prompts, TAU, made(prompts)))
    assert [(rate.k, rate.n) for rate in rates if rate.name.endswith("caption")] == [(0, 2)]
