"""The methods that an audit used, each with its source."""

from collections.abc import Iterator

from byrote.stages.report.data import Evidence

Method = tuple[str, str, str]


def methods(e: Evidence) -> list[Method]:
    """Return what was used, how, and from where: rows of what, how, source."""
    return list(_used(e))


def _used(e: Evidence) -> Iterator[Method]:
    knobs = e.plan
    cliques, match = knobs.get("cliques", {}), knobs.get("match", {})
    yield (
        "Samples of one prompt that agree",
        f"a clique of {cliques.get('least')} within a tiled RMS distance of {cliques.get('within')}",
        "Carlini et al. 2023, arXiv:2301.13188, section 4.2; it does not publish its edge",
    )
    yield (
        "The distance T",
        f"the worst of {cliques.get('tiles')} x {cliques.get('tiles')} tiles, after shifts, crops and mirrors, to the "
        "picture or its way through the autoencoder",
        "Carlini et al. 2023, section 4.2; alignment and round trips are ours",
    )
    if cliques.get("template"):
        yield (
            "Templates",
            "RMS over what stays fixed among samples that agree in a share of the tiles",
            "Webster 2023, arXiv:2305.08694; masks of samples instead of pictures are ours",
        )
    yield (
        "The adaptive ratio",
        f"alpha {match.get('alpha')}, {match.get('n')} neighbours, for comparison only",
        "Carlini et al. 2023, section 5.1",
    )
    if e.controls.n:
        yield (
            "p and q",
            "conformal p-values, Benjamini-Hochberg",
            "Bates et al. 2023, arXiv:2104.08279; Benjamini and Hochberg 1995",
        )
        yield (
            "Sensitivity",
            "the largest odds ratio at which a finding stands",
            "after Rosenbaum 2002, Observational Studies",
        )
    if e.at_all is not None:
        yield ("Does it copy at all?", "exact permutation of the labels within strata", "Fisher 1935; hypergeometric")
    yield (
        "Intervals of shares",
        "exact; a cluster bootstrap over captions for shares of samples",
        "Clopper and Pearson 1934; Efron 1979",
    )
    if e.twin is not None:
        yield ("The twin", "the same prompts and noises asked of a model without the pictures", "ours")
    if e.screening is not None:
        yield (
            "The screen",
            "cheap samples first, blind to the sides; recall from a random share of what was dropped",
            "Horvitz and Thompson 1952; the rules are ours",
        )
    if e.inside is not None:
        yield (
            "From inside the model",
            "critical scale, norm and map at the picture",
            "From Modes to Memories 2026; Wen et al. 2024, arXiv:2407.21720",
        )
    if e.discovery is not None:
        yield ("More samples", "(n, p)-discoverable extraction", "Hayes et al. 2024, arXiv:2410.19482")
    if e.unseen is not None:
        yield ("What was not seen", "Good-Turing, Chao1", "Good 1953; Chao 1984")
    if e.canaries:
        yield (
            "Canaries",
            "exposure; a lower bound on epsilon from one run",
            "Carlini et al. 2019; Steinke et al. 2023",
        )
    if e.review:
        yield (
            "What people said",
            "blind pairs, Horvitz-Thompson totals, kappa",
            "Horvitz and Thompson 1952; Cohen 1960; Fleiss 1971",
        )
