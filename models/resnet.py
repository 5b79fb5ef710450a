"""A residual network small enough to learn from random weights on a CPU. Importing this file registers it with timm."""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, ResNet

default_cfgs = generate_default_cfgs({"resnet10t_slim": {"first_conv": "conv1.0", "classifier": "fc"}})


@register_model
def resnet10t_slim(pretrained: bool = False, **options: Any) -> ResNet:
    """timm's ResNet-10-T of half the width, and a quarter in the stem: 1.2 million parameters; no pretrained weights.

    Its full convolutions use a CPU better than the depthwise ones of MobileNets, most of all in bf16. The stem has the
    largest maps, so it is even narrower (docs/experiments/ladders.md, row 10 of the third ladder).
    """
    shape = {"block": BasicBlock, "layers": (1, 1, 1, 1), "channels": (32, 64, 128, 256)}
    stem = {"stem_type": "deep_tiered", "stem_width": 8, "avg_down": True}
    return build_model_with_cfg(ResNet, "resnet10t_slim", pretrained, **shape, **stem, **options)
