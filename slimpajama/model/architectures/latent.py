"""The latent: few numbers a chunk, by option each of few levels, so that it is smaller than the text also in bytes.

Each token has a learned code of `width / K` numbers; a chunk's numbers are its tokens' codes plus what the encoder
adds to them. Restoring wants such codes, which are learned for it alone: they spread as far as they can, where
embeddings gather by meaning. With levels each number is rounded to one of `levels` values that a normal distribution
takes equally often, and rounding passes its gradient straight through (Bengio et al. 2013, arXiv:1308.3432); scalar
levels in place of a learned codebook are those of FSQ (Mentzer et al. 2023, arXiv:2309.15505), whose bounding function
is a tanh.
"""

# B = batch, n = chunks per row, K = tokens a chunk, T = n * K, D = channels, V = vocabulary, L = levels
# d = numbers a latent, k = d / K: numbers a token's code

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from slimpajama.model.architectures.layers import Linear, norm, working

# Cosine to logit at the start; it is learned.
SHARPNESS = 12.0
# That restoring is learned from where the latents themselves are not quantised.
RESTORED_LEVELS = 16


class Latent(nn.Module):
    """Between the encoder's z and everything that reads it.

    Args:
        width: Numbers a latent (d), a multiple of `chunk_tokens`.
        levels: Values that a number can take (L); 0 leaves them as they are.
    """

    def __init__(
        self, width: int, levels: int, channels: int, chunk_tokens: int, vocab_size: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.levels = levels
        # The last is a left-out token's.
        self.codes = nn.Parameter(torch.empty(vocab_size + 1, width // chunk_tokens))
        nn.init.normal_(self.codes, generator=generator)
        self.narrow = Linear(channels, width, generator, zero=True)
        self.widen = Linear(width, channels, generator)
        self.reader_up = Linear(width, 4 * width, generator)
        self.reader_down = Linear(4 * width, width, generator, zero=True)
        self.sharpness = nn.Parameter(torch.tensor(SHARPNESS / self.codes.size(1)))
        values = levels or RESTORED_LEVELS
        middles_L = (torch.arange(values, dtype=torch.float64) + 0.5) / values
        self.register_buffer("values_L", (math.sqrt(2) * torch.erfinv(2 * middles_L - 1)).float(), persistent=False)
        self.values_L: Tensor

    def forward(self, z_BnD: Tensor, tokens_BT: Tensor) -> Tensor:
        """Return the latents (B, n, d); `tokens_BT` holds V where a token was left out."""
        codes_Bnd = norm(working(F.embedding(tokens_BT, self.codes))).view(*z_BnD.shape[:2], self.narrow.weight.size(1))
        latents_Bnd = codes_Bnd + self.narrow(z_BnD)
        return self.quantise(latents_Bnd) if self.levels else latents_Bnd

    def quantise(self, x: Tensor) -> Tensor:
        """Return `x` rounded to the nearest level by rank in a normal distribution; the gradient is that of `x`.

        Latents that are not quantised are restored better by a reader that learned from rounded ones: it has to leave
        a margin between codes, which what the encoder adds to them then does not cross.
        """
        levels = len(self.values_L)
        share = 0.5 * (1 + torch.erf(x.detach().float() / math.sqrt(2)))
        number = (share * levels).long().clamp_(0, levels - 1)
        return self.values_L[number].to(x.dtype) + (x - x.detach())

    def read_back(self, latents_Bnd: Tensor) -> Tensor:
        """Return states (B, T, k) that score `table` to restore each chunk's tokens from its latent alone."""
        x = latents_Bnd + self.reader_down(F.relu(self.reader_up(norm(latents_Bnd))).square())
        return norm(x.view(x.size(0), -1, self.codes.size(1))) * self.sharpness.to(x.dtype)

    def table(self) -> Tensor:
        """Return what `read_back` is compared with (V, k)."""
        return norm(self.codes[:-1])
