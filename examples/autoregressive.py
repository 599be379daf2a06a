"""A small autoregressive image model (the kind of VAR and RAR), and how byrote is given one that is a function.

    python autoregressive.py PICTURES    # learns pictures with captions by heart: autoregressive.safetensors
    byrote init audit --model function:autoregressive:paint --corpus corpus    # with both beside audit.toml

A picture is 64 tokens: patches of 4 x 4 pixels, each the nearest of 256 in a codebook. A transformer predicts them one
after the other, from the words of the prompt on. Without weights beside it the model is untrained.
"""

import sys
import zlib
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

SIDE, PATCH, CODES, WIDTH, HEADS, LAYERS, WORDS = 32, 4, 256, 64, 4, 2, 4096
TOKENS = (SIDE // PATCH) ** 2


class Painter(nn.Module):
    """Predicts the next token of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codes", torch.rand(CODES, PATCH * PATCH * 3))
        self.words = nn.EmbeddingBag(WORDS, WIDTH)
        self.tokens = nn.Embedding(CODES, WIDTH)
        self.places = nn.Parameter(torch.randn(TOKENS, WIDTH) * 0.1)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, dropout=0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, CODES)

    def forward(self, prompts: Sequence[str], tokens: Tensor) -> Tensor:
        """Return logits [n, t + 1, CODES] of the token after each of `tokens` [n, t], and of the first."""
        said = torch.stack([self.words(_words(prompt))[0] for prompt in prompts])[:, None]
        x = torch.cat([said, self.tokens(tokens)], 1) + self.places[: tokens.shape[1] + 1]
        causal = nn.Transformer.generate_square_subsequent_mask(x.shape[1], dtype=x.dtype)
        logits: Tensor = self.head(self.layers(x, causal, is_causal=True))
        return logits

    @torch.inference_mode()
    def sample(self, prompt: str, seeds: Sequence[int]) -> Tensor:
        """Draw pictures, float [n, SIDE, SIDE, 3] from 0 to 1; each has a generator of its own.

        In double precision: sums that differ with the size of the batch may then hardly choose another token.
        """
        chances = [torch.rand(TOKENS, 1, generator=_generator(seed), dtype=torch.float64) for seed in seeds]
        chance = torch.stack(chances)
        tokens = torch.zeros(len(seeds), 0, dtype=torch.int64)
        for place in range(TOKENS):
            logits = self([prompt] * len(seeds), tokens)[:, -1]
            likely = logits.softmax(-1).cumsum(-1)
            drawn = torch.searchsorted(likely, chance[:, place] * likely[:, -1:]).clamp(max=CODES - 1)
            tokens = torch.cat([tokens, drawn], 1)
        return _joined(self.codes[tokens])

    def learn(self, pictures: Tensor, captions: Sequence[str], steps: int) -> float:
        """Learn pictures [n, SIDE, SIDE, 3] from 0 to 1 by heart, and return the last loss."""
        patches = _cut(pictures)
        self.codes.copy_(codebook(patches.flatten(0, 1)))
        tokens = torch.cdist(patches, self.codes.expand(len(patches), -1, -1)).argmin(-1)
        descent = torch.optim.AdamW(self.parameters(), 3e-3)
        loss = torch.zeros(())
        for _ in range(steps):
            loss = functional.cross_entropy(self(captions, tokens[:, :-1]).flatten(0, 1), tokens.flatten())
            descent.zero_grad()
            loss.backward()
            descent.step()
        return float(loss)


class Paint:
    """The function: `paint(prompt, seeds)`. Its `digest` tells byrote of the weights, which load at the first call."""

    def __init__(self, weights: Path) -> None:
        self._weights = weights

    @property
    def digest(self) -> str:
        """Name the weights."""
        return f"sha256:{sha256(self._weights.read_bytes()).hexdigest()}" if self._weights.exists() else "untrained"

    @cached_property
    def _painter(self) -> Painter:
        torch.manual_seed(0)
        painter = Painter()
        if self._weights.exists():
            painter.load_state_dict(load_file(self._weights))
        return painter.double().eval()

    def __call__(self, prompt: str | None, seeds: Sequence[int]) -> "list[np.ndarray]":
        """Return an image for each seed."""
        return list(self._painter.sample(prompt or "", seeds).numpy())


def codebook(patches: Tensor) -> Tensor:
    """Return CODES patches that stand for all [n, PATCH * PATCH * 3], by k-means."""
    chosen = torch.randperm(len(patches), generator=_generator(0)).repeat(-(-CODES // len(patches)))[:CODES]
    codes = patches[chosen].clone()
    for _ in range(8):
        nearest = torch.cdist(patches, codes).argmin(-1)
        for code in nearest.unique():
            codes[code] = patches[nearest == code].mean(0)
    return codes


def train(pictures: Sequence[np.ndarray], captions: Sequence[str], weights: Path, steps: int = 150) -> float:
    """Write the weights of a model that knows pictures (uint8 [SIDE, SIDE, 3]), and return the last loss."""
    torch.manual_seed(0)
    painter = Painter()
    loss = painter.learn(torch.from_numpy(np.stack(pictures)).float() / 255, captions, steps)
    save_file(painter.state_dict(), weights)
    return loss


def _words(prompt: str) -> Tensor:
    """Number the words, in one row; no word at all has a number too."""
    return torch.tensor([[zlib.crc32(word.encode("utf-8", "replace")) % WORDS for word in prompt.split() or [""]]])


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _cut(pictures: Tensor) -> Tensor:
    """Cut pictures into their patches: [n, TOKENS, PATCH * PATCH * 3]."""
    n, across = len(pictures), SIDE // PATCH
    return pictures.reshape(n, across, PATCH, across, PATCH, 3).transpose(2, 3).reshape(n, TOKENS, -1)


def _joined(patches: Tensor) -> Tensor:
    n, across = len(patches), SIDE // PATCH
    return patches.reshape(n, across, across, PATCH, PATCH, 3).transpose(2, 3).reshape(n, SIDE, SIDE, 3)


paint = Paint(Path(__file__).with_name("autoregressive.safetensors"))

if __name__ == "__main__":
    from byrote import images, sources

    source = sources.open(sys.argv[1])
    known = [(source.read(one.where), one.caption) for one in source.list() if one.caption]
    shown = [images.fit(images.decode(data), SIDE, SIDE) for data, _ in known]
    print(f"loss {train(shown, [caption for _, caption in known], Path('autoregressive.safetensors')):.3f}")
