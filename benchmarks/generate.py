"""Writing reports with a cache, without one, and as R2Gen writes them.

    python benchmarks/generate.py            R2Gen's size: 3 layers of width 512, 60 words, 3 beams, 4 studies of 2 views
    python benchmarks/generate.py --quick    tiny shapes, seconds

`cached` and `uncached` are our decoder with the same weights; their tokens are compared. `prefix` is written from R2Gen's
description: each step reads the whole prefix again, a relational memory (3 slots) runs over it word by word, and every
layer norm of the decoder takes its scale and shift from that memory. It is another network, of the same depth and width, so
its tokens are others; its search, number of words and what it looks at are the same. All have random weights and may not
end early. The three take turns; on a CPU the process's own time counts, so that other work on the machine does not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.modeling_outputs import Seq2SeqLMOutput

from placecli.engine.distributed import choose_device
from placecli.engine.report_decoder import ReportDecoder, Search, SpecialTokens

SLOTS = 3
SPECIAL = SpecialTokens(0, 1, 2)


class Attention(nn.Module):
    """Multi-head attention of x [B, T, D] to context [B, N, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, context: Tensor, *, is_causal: bool = False) -> Tensor:
        query, key, value = (
            layer(source).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, source in ((self.query, x), (self.key, context), (self.value, context))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
        return self.output(mixed.transpose(1, 2).flatten(2))


class RelationalMemory(nn.Module):
    """Slots [B, 3, D] that attend to themselves and the next word, behind an input and a forget gate."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.of_word, self.of_memory = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width)

    def forward(self, words: Tensor) -> Tensor:
        """The slots after each word, [B, T, 3 D], of words [B, T, D]."""
        slots = torch.eye(SLOTS, words.shape[2], device=words.device).expand(len(words), -1, -1)
        states = []
        for t in range(words.shape[1]):
            word = words[:, t : t + 1]
            mixed = slots + self.attention(slots, torch.cat([slots, word], dim=1))
            mixed = mixed + self.mlp(mixed)
            gate_in, gate_keep = (self.of_word(word) + self.of_memory(slots.tanh())).sigmoid().chunk(2, dim=-1)
            slots = gate_in * mixed.tanh() + gate_keep * slots
            states.append(slots.flatten(1))
        return torch.stack(states, dim=1)


class ConditionalNorm(nn.Module):
    """Layer norm whose scale and shift the memory changes."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.scale, self.shift = (
            nn.Sequential(nn.Linear(SLOTS * width, width), nn.ReLU(), nn.Linear(width, width)) for _ in range(2)
        )

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        return self.norm(x) * (1 + self.scale(memory)) + self.shift(memory)


class PrefixBlock(nn.Module):
    """Self-attention, attention to the patches, feed-forward (width 512, as R2Gen has it), each behind such a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.own, self.patches = Attention(width, heads), Attention(width, heads)
        self.feed_forward = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.norms = nn.ModuleList(ConditionalNorm(width) for _ in range(3))

    def forward(self, x: Tensor, patches: Tensor, memory: Tensor) -> Tensor:
        read = self.norms[0](x, memory)
        x = x + self.own(read, read, is_causal=True)
        x = x + self.patches(self.norms[1](x, memory), patches)
        return x + self.feed_forward(self.norms[2](x, memory))


class PrefixDecoder(ReportDecoder):
    """R2Gen's way inside the same search: every step computes the whole prefix."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        width, heads = config.d_model, config.decoder_attention_heads
        self.memory = RelationalMemory(width, heads)
        self.blocks = nn.ModuleList(PrefixBlock(width, heads) for _ in range(config.decoder_layers))

    def forward(self, decoder_input_ids: Tensor, encoder_outputs: Any, **_: Any) -> Seq2SeqLMOutput:
        words = self.decoder.embed_tokens(decoder_input_ids)
        x = words + self.decoder.embed_positions.weight[2 : 2 + words.shape[1]]
        memory = self.memory(x)
        for block in self.blocks:
            x = block(x, encoder_outputs[0], memory)
        return Seq2SeqLMOutput(logits=F.linear(x, self.decoder.embed_tokens.weight).float())


def build(kind: type[ReportDecoder], shape: argparse.Namespace, device: torch.device) -> ReportDecoder:
    """A decoder with random weights, large enough that words differ."""
    torch.manual_seed(0)
    size = {"width": shape.width, "layers": shape.layers, "heads": shape.heads, "length": shape.tokens + 2}
    size["feed_forward"] = shape.width  # R2Gen's
    decoder = kind.of_size(shape.vocabulary, SPECIAL, dropout=0.0, **size).to(device).eval()
    with torch.no_grad():
        decoder.decoder.embed_positions.weight.mul_(50)
        decoder.decoder.embed_tokens.weight.mul_(3)
    return decoder


def measure(shape: argparse.Namespace, device: torch.device, repeats: int) -> dict[str, Any]:
    """Seconds of each way, whether the cache changes a token, and both ratios with their spread."""
    generator = torch.Generator().manual_seed(1)
    patches = torch.randn(shape.studies, shape.patches, shape.width, generator=generator).to(device)
    mask = torch.ones(patches.shape[:2], dtype=torch.bool, device=device)
    prompt = torch.full((shape.studies, 1), SPECIAL.start, device=device)
    ours, theirs = build(ReportDecoder, shape, device), build(PrefixDecoder, shape, device)
    clock = time.perf_counter if device.type == "cuda" else time.process_time

    def writing(decoder: ReportDecoder, use_cache: bool) -> Callable[[], Tensor]:
        search = Search(shape.beams, shape.tokens + 1, min_tokens=shape.tokens, use_cache=use_cache)
        return lambda: decoder.write(patches, mask, prompt, search)

    ways = {"cached": writing(ours, True), "uncached": writing(ours, False), "prefix": writing(theirs, False)}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    written: dict[str, Tensor] = {}
    ways["cached"]()  # memory is taken in a first round
    for _ in range(repeats):
        for name, write in ways.items():
            started = clock()
            written[name] = write()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(clock() - started)
    assert all(tokens.shape[1] == shape.tokens + 1 for tokens in written.values()), "a report ended early"
    ratios = {
        name: [slow / fast for slow, fast in zip(seconds[name], seconds["cached"], strict=True)]
        for name in ("uncached", "prefix")
    }
    fast = statistics.median(seconds["cached"])
    return {
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu, {torch.get_num_threads()} threads",
        "clock": "wall" if device.type == "cuda" else "CPU time of the process",
        **{
            name: getattr(shape, name) for name in ("width", "layers", "heads", "tokens", "beams", "studies", "patches")
        },
        "repeats": repeats,
        "seconds": {name: round(statistics.median(values), 4) for name, values in seconds.items()},
        "same_tokens_with_and_without_cache": bool(torch.equal(written["cached"], written["uncached"])),
        "distinct_words_written": len(set(written["cached"].flatten().tolist())),
        "reports_per_second": round(shape.studies / fast, 2),
        **{f"{name}_over_cached": round(statistics.median(values), 2) for name, values in ratios.items()},
        **{f"{name}_range": [round(min(values), 2), round(max(values), 2)] for name, values in ratios.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, one repeat")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--studies", type=int, default=4)
    parser.add_argument("--beams", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=60)
    shape = parser.parse_args()
    sizes = {"width": 512, "layers": 3, "heads": 8, "patches": 98, "vocabulary": 761}
    if shape.quick:
        sizes = {"width": 64, "layers": 2, "heads": 4, "patches": 18, "vocabulary": 100}
        shape.tokens, shape.repeats, shape.studies = 12, 1, 2
    for name, value in sizes.items():
        setattr(shape, name, value)
    torch.set_num_threads(1)
    found = measure(shape, choose_device(shape.device), shape.repeats)
    print(json.dumps(found))
    if not found["same_tokens_with_and_without_cache"]:
        sys.exit("the cache changes what is written")


if __name__ == "__main__":
    main()
