"""Sizes of the models, by name. A value above 0 in `ModelConfig` takes the place of the preset's."""

from dataclasses import dataclass, replace

from slimpajama.core.config import ModelConfig
from slimpajama.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Every number that a model's shape depends on."""

    kind: str
    """`chunk`, `gpt` or `article`."""
    width: int
    """Channels of the residual stream."""
    heads: int
    """Attention heads; `width / heads` channels each."""
    row_tokens: int
    """Context in tokens."""
    chunk_tokens: int = 1
    """Tokens a latent (K)."""
    token_blocks: int = 0
    """Transformer blocks at token level."""
    backbone_blocks: int = 0
    """Transformer blocks over latents."""
    latent_width: int = 0
    """Numbers a latent (of `chunk` alone)."""
    latent_levels: int = 0
    """Values that each of those numbers can take; 0 leaves them as they are."""
    head_dim: int = 64
    """Channels of an attention head where `width` is not the preset's."""


# Numbers that tell the tokens of a vocabulary apart with room to spare; six of 16 levels do, just.
CODE = 12

PRESETS: dict[str, Sizes] = {
    "tiny": Sizes(
        kind="chunk", width=64, heads=2, head_dim=32, row_tokens=64, chunk_tokens=4, token_blocks=1, backbone_blocks=1
    ),
    "small": Sizes(kind="chunk", width=192, heads=3, row_tokens=256, chunk_tokens=4, token_blocks=2, backbone_blocks=3),
    "base": Sizes(kind="chunk", width=512, heads=8, row_tokens=512, chunk_tokens=4, token_blocks=3, backbone_blocks=3),
    "large": Sizes(
        kind="chunk", width=1024, heads=16, row_tokens=2048, chunk_tokens=4, token_blocks=6, backbone_blocks=12
    ),
    "gpt": Sizes(kind="gpt", width=192, heads=3, row_tokens=256, token_blocks=7),
    "article": Sizes(kind="article", width=128, heads=1, row_tokens=256),
}


def resolve(cfg: ModelConfig) -> Sizes:
    """Return the preset's sizes with the overrides of `cfg`; ConfigError if they do not fit one another."""
    preset = PRESETS[cfg.preset]
    width, is_chunk = cfg.width or preset.width, preset.kind == "chunk"
    chunk_tokens = (cfg.chunk_tokens or preset.chunk_tokens) if is_chunk else 1
    sizes = replace(
        preset,
        width=width,
        heads=preset.heads if width == preset.width else max(1, width // preset.head_dim),
        row_tokens=cfg.row_tokens or preset.row_tokens,
        chunk_tokens=chunk_tokens,
        latent_width=(cfg.latent_width or CODE * chunk_tokens) if is_chunk else 0,
        latent_levels=cfg.latent_levels if is_chunk else 0,
    )
    heads, chunk = 2 * sizes.heads, sizes.chunk_tokens
    whole, by_chunk = sizes.row_tokens % chunk == 0, f"a multiple of chunk_tokens ({chunk})"
    for name, fits, into, expected in (
        ("width", sizes.kind == "article" or width % heads == 0, "into attention heads", f"a multiple of {heads}"),
        ("row_tokens", whole and sizes.row_tokens >= 4 * chunk, "into chunks", f"{by_chunk}, four chunks or more"),
        ("latent_width", sizes.latent_width % chunk == 0, "among the tokens of a chunk", by_chunk),
    ):
        if not fits:
            found = str(getattr(sizes, name))
            raise ConfigError(f"does not divide {into}", where=f"model.{name}", expected=expected, found=found)
    return sizes
