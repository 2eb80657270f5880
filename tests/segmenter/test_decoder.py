"""How many prompts a pass of the decoder takes."""

from __future__ import annotations

import json
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from s4m_pipeline.segmenter.base import Prompts
from s4m_pipeline.segmenter.build import build_segmenter
from s4m_pipeline.segmenter.decoder import PROMPT_BYTES, prompts_in_a_pass

GIB = 1 << 30


def peak_of_a_pass(count: int, folder: Path) -> int:
    """Bytes that torch's allocator holds at most in a pass of two images' prompts."""
    segmenter = build_segmenter("sam2.1_hiera_tiny", "random", 512, "cpu")
    segmenter.decoder.mix_images, segmenter.decoder.max_prompts = True, 2 * count
    embeddings = segmenter.encode(2 * [np.zeros((300, 300, 3), np.uint8)])
    one = Prompts(np.full((count, 3, 2), 50, np.float32), np.ones((count, 3), np.int32))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        segmenter.decode(embeddings, [one, one], multimask=True)
    trace = folder / f"{count}.json"
    seen.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text())["traceEvents"]
    steps = [(e["ts"], e["args"]["Bytes"]) for e in events if e["name"] == "[memory]"]
    return max(accumulate(size for _, size in sorted(steps)))


@pytest.mark.parametrize(
    ("memory", "size", "expected"),
    [
        (80 * GIB, 1024, 128),
        (24 * GIB, 1024, 128),
        (16 * GIB, 1024, 64),  # a quarter holds 102
        (8 * GIB, 1024, 32),  # 51
        (4 * GIB, 1024, 16),
        (8 * GIB, 512, 128),
        (1 << 20, 1024, 1),
    ],
)
def test_a_pass_on_a_gpu_takes_a_quarter_of_its_memory_at_most(
    memory: int, size: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = SimpleNamespace(total_memory=memory)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert prompts_in_a_pass(torch.device("cuda", 0), size) == expected


def test_few_prompts_make_a_pass_on_a_cpu() -> None:
    found = [prompts_in_a_pass(torch.device("cpu"), size) for size in (256, 512, 1024, 2048)]
    assert found == [32, 8, 2, 1]


def test_a_prompt_takes_the_memory_that_is_reckoned_with(tmp_path: Path) -> None:
    few, many = (peak_of_a_pass(count, tmp_path) for count in (4, 20))
    each = (many - few) / 32 / 512**2  # of two images' prompts, so of 8 and 40
    assert 0.9 * PROMPT_BYTES < each < 1.1 * PROMPT_BYTES
