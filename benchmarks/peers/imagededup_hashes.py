"""imagededup's own chain: python imagededup_hashes.py FOLDER OUT.npz PHash|DHash|WHash|AHash.

`encode_images` and `find_duplicates` in one process, up to its default of Hamming 10, or 8 where pairs would be
millions. Its package imports torchvision, whose binary does not fit a torch without CUDA; hashes need none of it, so
that the two operators torchvision asks for at import are declared here first, without a body.
"""

import sys
from pathlib import Path

import measure
import torch

RADIUS = {"PHash": 10, "DHash": 10, "WHash": 8, "AHash": 8}

library = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from imagededup import methods  # noqa: E402


def find(folder: Path) -> measure.Found:
    """Encode, search, and number its answer."""
    began = measure.cpu()
    name = sys.argv[3]
    hasher = getattr(methods, name)(verbose=False)
    encoded = hasher.encode_images(image_dir=str(folder), num_enc_workers=0)
    hashing = measure.cpu() - began
    answer = hasher.find_duplicates(
        encoding_map=encoded, max_distance_threshold=RADIUS[name], scores=True, num_dist_workers=0
    )
    search = measure.cpu() - began - hashing
    at = {file: k for k, file in enumerate(measure.files(folder))}
    told = measure.collected((at[a], at[b], score) for a, near in answer.items() for b, score in near)
    return measure.Found(told.pairs, told.scores, {"hashing": hashing, "search": search})


if __name__ == "__main__":
    measure.run(find, ("imagededup", "torch", "torchvision", "numpy", "pillow"))
