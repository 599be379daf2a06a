"""Small seeded versions of benchmarks/null.py: byrote accuses no more than alpha, and planted mistakes are seen."""

import null
import pytest
from scipy import stats
from worlds import FDR, NULLS

AUDITS, CHAIN = 250, 6


@pytest.mark.parametrize("name", NULLS)
def test_audits_without_memory_accuse_no_more_than_alpha_and_the_planted_mistake_does(name):
    shipped, planted = NULLS[name]
    first = 10**6 * (1 + list(NULLS).index(name))
    assert null.share(shipped, AUDITS, first)["p_value"] > null.TEST
    assert null.share(planted, AUDITS, first)["p_value"] <= null.TEST


def test_the_p_of_one_picture_is_no_smaller_than_it_says():
    for said, seen in null.single_p(1_000).items():
        level = float(said.split()[-1])
        assert stats.binomtest(round(seen * 1_000), 1_000, level, alternative="greater").pvalue > null.TEST


@pytest.mark.parametrize("audit", [null.chained, null.screened])
def test_whole_audits_without_memory_accuse_no_more_than_alpha(audit):
    accused = sum(audit(seed) for seed in range(CHAIN))
    assert stats.binomtest(accused, CHAIN, FDR, alternative="greater").pvalue > null.TEST
