"""The methods that an audit used, each with its source."""

from byrote.stages.report.data import Evidence

Method = tuple[str, str, str]
HORVITZ = "Horvitz and Thompson 1952"


def methods(e: Evidence) -> list[Method]:
    """Return what was used, how, and from where: rows of what, how, source."""
    return [row for used, row in (*_distances(e), *_certainty(e), *_more(e)) if used]


def _distances(e: Evidence) -> list[tuple[bool, Method]]:
    cliques, match = e.plan.get("cliques", {}), e.plan.get("match", {})
    least, within, tiles = (cliques.get(name) for name in ("least", "within", "tiles"))
    agree = (
        "Samples of one prompt that agree",
        f"a clique of {least} within a tiled RMS distance of {within}",
        "Carlini et al. 2023, arXiv:2301.13188, section 4.2; it does not publish its edge",
    )
    distance = (
        "The distance T",
        f"the worst of {tiles} x {tiles} tiles, after shifts, crops and mirrors, to the picture or its way through the "
        "autoencoder",
        "Carlini et al. 2023, section 4.2; alignment and round trips are ours",
    )
    templates = (
        "Templates",
        "RMS over what stays fixed among samples that agree in a share of the tiles",
        "Webster 2023, arXiv:2305.08694; masks of samples instead of pictures are ours",
    )
    ratio = (
        "The adaptive ratio",
        f"alpha {match.get('alpha')}, {match.get('n')} neighbours, for comparison only",
        "Carlini et al. 2023, section 5.1",
    )
    anywhere = (
        "Crops and moves at any place",
        f"shifts up to {match.get('shift')} pixels and crops down to {match.get('crop')}, found by cosine waves of "
        "windows and refined by least squares",
        "ours; refined after Lucas and Kanade 1981",
    )
    return [
        (True, agree),
        (True, distance),
        (bool(match.get("anywhere")), anywhere),
        (bool(cliques.get("template")), templates),
        (True, ratio),
    ]


def _certainty(e: Evidence) -> list[tuple[bool, Method]]:
    held, shuffled = e.controls.n > 0, "exact permutation of the labels within strata"
    sources = "Bates et al. 2023, arXiv:2104.08279; Benjamini and Hochberg 1995"
    odds, rosenbaum = "the largest odds ratio at which a finding stands", "after Rosenbaum 2002, Observational Studies"
    intervals = "exact; a cluster bootstrap over captions for shares of samples"
    return [
        (held, ("p and q", "conformal p-values, Benjamini-Hochberg", sources)),
        (held, ("Sensitivity", odds, rosenbaum)),
        (e.at_all is not None, ("Does it copy at all?", shuffled, "Fisher 1935; hypergeometric")),
        (True, ("Intervals of shares", intervals, "Clopper and Pearson 1934; Efron 1979")),
    ]


def _more(e: Evidence) -> list[tuple[bool, Method]]:
    twin = "the same prompts and noises asked of a model without the pictures"
    screen = "cheap samples first, blind to the sides; recall from a random share of what was dropped"
    inside = "From Modes to Memories 2026; Wen et al. 2024, arXiv:2407.21720"
    canaries = "exposure; a lower bound on epsilon from one run"
    hayes = "Hayes et al. 2024, arXiv:2410.19482"
    kappa = f"{HORVITZ}; Cohen 1960; Fleiss 1971"
    return [
        (e.twin is not None, ("The twin", twin, "ours")),
        (e.screening is not None, ("The screen", screen, f"{HORVITZ}; the rules are ours")),
        (e.inside is not None, ("From inside the model", "critical scale, norm and map at the picture", inside)),
        (e.discovery is not None, ("More samples", "(n, p)-discoverable extraction", hayes)),
        (e.unseen is not None, ("What was not seen", "Good-Turing, Chao1", "Good 1953; Chao 1984")),
        (bool(e.canaries), ("Canaries", canaries, "Carlini et al. 2019; Steinke et al. 2023")),
        (bool(e.review), ("What people said", "blind pairs, Horvitz-Thompson totals, kappa", kappa)),
    ]
