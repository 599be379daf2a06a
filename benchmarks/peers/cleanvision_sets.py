"""cleanvision's near and exact duplicates: python cleanvision_sets.py FOLDER OUT.npz [hash size, 8].

It answers in sets of equal hashes, without scores: all pairs of a set are taken, at score 0.
"""

import sys
from itertools import combinations
from pathlib import Path

import measure
from cleanvision import Imagelab


def find(folder: Path) -> measure.Found:
    """Ask for both issues, and number the pairs of their sets."""
    size = int(sys.argv[3]) if len(sys.argv) > 3 else 8
    lab = Imagelab(data_path=str(folder), verbose=False)
    lab.find_issues({"near_duplicates": {"hash_size": size}, "exact_duplicates": {}}, n_jobs=1, verbose=False)
    at = {name: k for k, name in enumerate(measure.files(folder))}
    sets = [lab.info[issue]["sets"] for issue in ("near_duplicates", "exact_duplicates")]
    together = [[at[Path(path).name] for path in group] for kind in sets for group in kind]
    return measure.collected((i, j, 0.0) for group in together for i, j in combinations(group, 2))


if __name__ == "__main__":
    measure.run(find, ("cleanvision", "ImageHash", "numpy", "pillow"))
