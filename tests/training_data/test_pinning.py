"""What a data loader's thread pins of a batch, with pinning stood in for where there is no GPU."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from s4m_pipeline.models.openmmlab import prepare

prepare()

from mmdet.models.data_preprocessors import DetDataPreprocessor  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmdet.structures.bbox import HorizontalBoxes  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # noqa: E402
from mmengine.structures import BaseDataElement, InstanceData  # noqa: E402
from torch.utils.data._utils.pin_memory import pin_memory  # noqa: E402

from s4m_pipeline.training_data.packed_masks import collate  # noqa: E402

META = dict(img_shape=(32, 32), batch_input_shape=(32, 32), img_id=1)


def sample_of() -> Any:
    sample = DetDataSample(metainfo=META)
    masks = BitmapMasks(np.ones((2, 32, 32), np.uint8), 32, 32)
    sample.gt_instances = InstanceData(
        labels=torch.tensor([3, 1]), masks=masks, bboxes=HorizontalBoxes(torch.rand(2, 4))
    )
    sample.gt_instances.class_probs = torch.rand(2, 5)
    sample.ignored_instances = InstanceData(labels=torch.zeros(0, dtype=torch.long))
    sample.structure = BaseDataElement(points=torch.rand(4, 2), similarity=torch.rand(4, 3, 3))
    return sample


def tensors_of(value: Any, name: str = "") -> dict[str, Tensor]:
    """All tensors of a batch, by their place in it."""
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, HorizontalBoxes):
        return {name: value.tensor}
    parts: list[tuple[Any, Any]] = []
    if isinstance(value, list):
        parts = list(enumerate(value))
    elif isinstance(value, (dict, BaseDataElement)):
        parts = list(value.items())
    return {
        place: tensor
        for key, part in parts
        for place, tensor in tensors_of(part, f"{name}.{key}").items()
    }


def test_every_tensor_of_a_batch_is_pinned_and_has_its_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pinned: list[Tensor] = []

    def pin(tensor: Tensor, device: Any = None) -> Tensor:
        pinned.append(tensor.clone())
        return pinned[-1]

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    images = [torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8) for _ in range(2)]
    items = [{"inputs": image, "data_samples": sample_of()} for image in images]
    before = copy.deepcopy(items)
    batch = pin_memory(collate(items))
    tensors = tensors_of(batch)
    expected = tensors_of({key: [item[key] for item in before] for key in before[0]})
    assert len(expected) == 2 + 2 * 6
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors.items())
    assert {id(tensor) for tensor in tensors.values()} == {id(tensor) for tensor in pinned}
    for sample, old in zip(batch["data_samples"], before, strict=True):
        assert type(sample) is DetDataSample
        assert sample.metainfo == META
        assert np.array_equal(
            sample.gt_instances.masks.masks, old["data_samples"].gt_instances.masks.masks
        )
    prepared = DetDataPreprocessor(non_blocking=True)(batch, True)
    assert [sample.img_id for sample in prepared["data_samples"]] == [1, 1]
