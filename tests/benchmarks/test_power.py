"""Small seeded versions of benchmarks/power.py: false discoveries, coverage, and power beside the prediction."""

import power
import pytest
from scipy import stats

DRAWS = 600
PUBLISHED = {
    (500, 10): (0.019, 0.031),
    (200, 5): (0.023, 0.045),
    (100, 4): (0.037, 0.076),
    (64, 4): (0.057, 0.117),
    (16, 3): (0.16, 0.34),
    (4, 2): (0.39, 0.75),
    (500, 2): (0.003, 0.009),
}


def test_the_mean_false_discovery_proportion_is_at_most_alpha():
    told = power.discoveries(150)
    assert told["found"] > 0
    assert told["mean_fdp"] - 2.33 * told["error"] <= told["alpha"]


@pytest.mark.parametrize("name", power.EXACT)
def test_an_exact_interval_covers_its_level(name):
    told = power.coverage({name: power.EXACT[name]}, DRAWS)[name]
    assert told["passes"], told


def test_an_interval_that_covers_too_little_is_seen():
    half = power._share(lambda k, n: (k / n - 0.05, k / n + 0.05), 0.3, 60)
    assert not power.coverage({"half": half}, DRAWS)["half"]["passes"]


@pytest.mark.parametrize(("budget", "said"), PUBLISHED.items())
def test_budgets_catch_what_the_table_of_the_literature_says(budget, said):
    row = next(row for row in power.budgets() if (row["samples"], row["clique"]) == budget)
    digits = 3 if budget[0] > 16 else 2
    assert (round(row["half"], digits), round(row["most"], digits)) == pytest.approx(said, abs=1.1 * 10**-digits)


def test_what_a_whole_audit_finds_is_what_the_binomial_says():
    rows = power.through_the_chain(6)
    found = sum(row["found"] for row in rows)
    spread = sum(row["predicted"] * (1 - row["predicted"]) * row["of"] for row in rows) ** 0.5
    expected = sum(row["predicted"] * row["of"] for row in rows)
    assert abs(found - expected) <= stats.norm.ppf(0.995) * spread + 1
