"""Arrays in, arrays out: no files, no torch.

Images are uint8 [n, h, w, c]. A distance is an RMS pixel error of images in [0, 1] (levels / 255): smaller is nearer.
It is computed from the integer sum of squared differences of levels, so near-duplicates lose nothing to cancellation.
"""
