"""MobileSAM's image embeddings on disk, so that rows that differ in prompts encode once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from s4m_pipeline.segmenter.base import Embeddings
from s4m_pipeline.segmenter.mobilesam import MobileSam, frame_of


def keep_embeddings(folder: Path) -> None:
    """Make every MobileSAM of this process keep its embeddings in ``folder``.

    They are stored as they are, float32 (256, 64, 64), 4 MB an image, under the SHA-256 of the
    image's pixels, so that masks are the same to the bit with and without. Processes can share
    the folder. Its weights are taken to be the same throughout.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encode = MobileSam.encode

    def encoded(segmenter: MobileSam, image: np.ndarray) -> Embeddings:
        digest = hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()
        path = folder / f"{digest}.npy"
        if path.is_file():
            kept = torch.from_numpy(np.load(path)).to(segmenter.device)
            return Embeddings(kept, (), (frame_of(*image.shape[:2]),))
        made = encode(segmenter, [image])
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            np.save(file, made.image.cpu().numpy())
        part.replace(path)
        return made

    def encode_once(self: MobileSam, images: Sequence[np.ndarray]) -> Embeddings:
        found = [encoded(self, image) for image in images]
        frames = tuple(frame for one in found for frame in one.frames)
        return Embeddings(torch.cat([one.image for one in found]), (), frames)

    MobileSam.encode = encode_once  # type: ignore[method-assign]
