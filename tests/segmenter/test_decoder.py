"""How many prompts a pass of the decoder takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from s4m_pipeline.segmenter.decoder import PROMPT_BYTES, prompts_in_a_pass

GIB = 1 << 30
CLEAR_REFS = Path("/proc/self/clear_refs")

PEAK_OF_A_PASS = """
import sys
import numpy as np
import torch
from s4m_pipeline.segmenter.base import Prompts
from s4m_pipeline.segmenter.build import build_segmenter

def peak():
    (line,) = [x for x in open("/proc/self/status") if x.startswith("VmHWM")]
    return 1024 * int(line.split()[1])

torch.set_num_threads(1)
count = int(sys.argv[1])
segmenter = build_segmenter("sam2.1_hiera_tiny", "random", 512, "cpu")
segmenter.decoder.mix_images, segmenter.decoder.max_prompts = True, 2 * count
embeddings = segmenter.encode(2 * [np.zeros((300, 300, 3), np.uint8)])
one = Prompts(np.full((count, 3, 2), 50, np.float32), np.ones((count, 3), np.int32))
open("/proc/self/clear_refs", "w").write("5")
before = peak()
segmenter.decode(embeddings, [one, one], multimask=True)
print(peak() - before)
"""


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


@pytest.mark.slow
@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="needs Linux's peak memory of a process")
def test_a_prompt_takes_the_memory_that_is_reckoned_with() -> None:
    few, many = (
        int(subprocess.check_output([sys.executable, "-c", PEAK_OF_A_PASS, str(count)]))
        for count in (4, 20)
    )
    each = (many - few) / 32 / 512**2  # of two images' prompts, so of 8 and 40
    assert 0.7 * PROMPT_BYTES < each < 1.1 * PROMPT_BYTES
