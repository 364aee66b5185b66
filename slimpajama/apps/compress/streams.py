"""Tokens to bytes and back by a model that reads the file as several streams at once.

Encoder and decoder run the very same steps: each predicts one token of every stream, and codes it. Both must see
bit-identical probabilities, so the model runs in float32, on the CPU, on one thread, with one batch shape. That holds
from run to run on one machine; across machines it takes the same build of torch and the same CPU instructions, since
a matmul that adds in another order differs in its last bit. `file.py` notes both, and a checksum proves the rest.
"""

# S = streams, L = tokens a stream, N = tokens of the file

import numpy as np
import torch
from numpy.typing import NDArray

from slimpajama.apps.compress.coder import PLACE, finish, new_coder, start_decoding
from slimpajama.apps.compress.mix import code_step, new_mixer
from slimpajama.core.progress import track
from slimpajama.model.architectures import LanguageModel
from slimpajama.model.device import one_thread
from slimpajama.text.tokenizer import Tokenizer

# A stream begins without context, so short files are read as fewer.
STREAMS, LEAST_TOKENS = 32, 2048
# Bytes a token can take: 16 forks, and no bit writes more than the coder holds.
ROOM = 16 * 8


def encode(model: LanguageModel, tokenizer: Tokenizer, ids: NDArray[np.int64]) -> bytes:
    """Return the code of token ids (N,)."""
    return _run(model, tokenizer, ids, None)[1]


def decode(model: LanguageModel, tokenizer: Tokenizer, code: bytes, tokens: int) -> NDArray[np.int64]:
    """Return the `tokens` ids that `code` was made from; other ids where the probabilities differ."""
    return _run(model, tokenizer, np.zeros(tokens, np.int64), np.frombuffer(bytearray(code), np.uint8))[0]


def _run(
    model: LanguageModel, tokenizer: Tokenizer, ids_N: NDArray[np.int64], code: NDArray[np.uint8] | None
) -> tuple[NDArray[np.int64], bytes]:
    """Fill `ids_N` from `code`, or where there is none make it; return the ids and what was written."""
    N = len(ids_N)
    if not N:
        return ids_N, b""
    length = -(-N // max(1, min(STREAMS, N // LEAST_TOKENS)))
    starts_S = np.arange(0, N, length)
    mixer, coder, written = new_mixer(tokenizer.pieces, N, len(starts_S)), new_coder(), bytearray()
    ranks_N = np.argsort(mixer.order_V)[ids_N]
    data = np.zeros(len(starts_S) * ROOM, np.uint8) if code is None else code
    if code is not None:
        start_decoding(coder, data)
    with one_thread(), torch.inference_mode(), track("compress" if code is None else "decompress", N, "tokens") as bar:
        model = model.cpu().float()
        state, logits_SV = model.start(torch.full((len(starts_S), 1), tokenizer.document_id))
        for t in range(length):
            code_step(mixer, coder, data, logits_SV.softmax(dim=1).numpy(), ranks_N, length, t, code is not None)
            if code is None:
                written += data[: int(coder[PLACE])].tobytes()
                coder[PLACE] = 0
            tokens_S = mixer.order_V[ranks_N[np.minimum(starts_S + t, N - 1)]]
            logits_SV = model.step(state, torch.from_numpy(tokens_S))
            bar.advance(len(starts_S))
    return mixer.order_V[ranks_N], bytes(written) + (finish(coder) if code is None else b"")
