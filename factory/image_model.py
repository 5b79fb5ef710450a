"""Which image network? [model] type -> one of timm's, with the head and the frequency channel that [model] sets."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from dataloader.encoders.table import TYPES as ENCODER_TYPES
from factory import pretrained
from factory.lookup import lookup
from factory.wav2vec import WAVEFORM_MODELS, check_no_waveform_model
from models.classifier import ImageClassifier
from models.pooling import GeneralizedMean
from models.sed import AttentionHead
from utils.errors import ConfigError, Problem, first_line, unknown
from utils.settings import Model

ImageSize = tuple[int, int]  # (n_mels, frames)
_ANY_SIZE: ImageSize = (128, 128)  # to compute the features of a network that accepts every size


def gem(channels: int, n_classes: int, drop_rate: float) -> nn.Module:
    """The generalised mean over bands and frames, then a linear layer."""
    return nn.Sequential(GeneralizedMean(), nn.Dropout(drop_rate), nn.Linear(channels, n_classes))


def sed(channels: int, n_classes: int, drop_rate: float) -> nn.Module:
    """Scores of frames, weighted by attention."""
    return AttentionHead(channels, n_classes, drop_rate)


HEADS: dict[str, Callable[[int, int, float], nn.Module] | None] = {"default": None, "gem": gem, "sed": sed}


def check_image_model(model: Model) -> list[Problem]:
    """The problems of the [model] section of a network on images, without those of weights."""
    problems = []
    for check in (lambda: check_name(model.type), lambda: lookup("model", "head", model.head, HEADS)):
        try:
            check()
        except ConfigError as error:
            problems += error.problems
    if any(problem.key == "type" for problem in problems):  # then its kind of input is unknown
        return problems
    return problems + check_no_waveform_model(model)


def check_name(name: str) -> None:
    """Check that timm has ``name``, an architecture with or without a tag, as regnety_008.pycls_in1k.

    Raises:
        ConfigError: with the nearest architectures, or the tags of this architecture.
    """
    from timm.models import get_arch_pretrained_cfgs

    timm = _timm()
    architecture, dot, tag = name.partition(".")
    if not timm.is_model(architecture):
        text = unknown(
            architecture, [*ENCODER_TYPES, *WAVEFORM_MODELS, *timm.list_models()], nearest=3, list_known=False
        )
        others = " or ".join([*WAVEFORM_MODELS, *ENCODER_TYPES])
        raise ConfigError(Problem(f"{text} (use any image model of timm, or {others})", "model", "type", name))
    tags = [known.partition(".")[2] for known in get_arch_pretrained_cfgs(architecture)]
    if dot and tag not in tags:
        text = f"{architecture} has no weights {tag!r}; known: {', '.join(tags) or 'none'}"
        raise ConfigError(Problem(text, "model", "type", name))


def _timm() -> ModuleType:
    """timm, which takes seconds to import, with the networks of this program registered."""
    import timm

    import models.resnet  # noqa: F401 - registers them

    return timm


def build_image_model(
    model: Model, n_classes: int, image_size: ImageSize | None, *, testing: bool, fetch: bool
) -> nn.Module:
    """Build the network that ``model.type`` names; see ``factory.model.build_model``."""
    if not (model.transfer_learning and fetch):
        return _finish(_create(model, n_classes, image_size, channels=_channels(model)), model, n_classes, image_size)
    if model.weights_path is not None:
        return _from_file(model, n_classes, image_size)
    network = _downloaded(model, n_classes, image_size, testing)
    return _finish(_widen(network, model, n_classes, image_size), model, n_classes, image_size)


def _create(
    model: Model, n_classes: int, image_size: ImageSize | None, *, channels: int = 1, **options: Any
) -> nn.Module:
    """timm's network, with timm's head."""
    timm = _timm()
    fixed = timm.get_pretrained_cfg(model.type, allow_unregistered=True)
    if image_size is not None and fixed is not None and fixed.fixed_input_size:
        options["img_size"] = image_size
    # 0 means timm's own default. The heads of this program have their own dropout.
    options["drop_rate"] = model.drop_rate or None if model.head == "default" else None
    options["drop_path_rate"] = model.drop_path or None
    try:
        with pretrained.quiet():
            network = timm.create_model(model.type, in_chans=channels, num_classes=n_classes, **options)
    except Exception as error:  # see factory.model.dry_run
        if options.get("pretrained"):
            raise  # the network itself can be built, so the error is about its weights
        for key, option in (("drop_rate", "drop_rate"), ("drop_path", "drop_path_rate")):
            if isinstance(error, TypeError) and f"'{option}'" in str(error):
                text = f"{model.type} does not have this; set it to 0"
                raise ConfigError(Problem(text, "model", key, getattr(model, key))) from None
        if "img_size" in options:
            raise ConfigError(wrong_size(model.type, image_size, error)) from None
        text = f"cannot be built for images of one channel ({first_line(error)}); choose another network"
        raise ConfigError(Problem(text, "model", "type", model.type)) from None
    if network.num_classes != n_classes:
        text = "this network has no classifier; choose another network"
        raise ConfigError(Problem(text, "model", "type", model.type))
    return network


def wrong_size(name: str | None, image_size: ImageSize, error: Exception) -> Problem:
    text = (
        f"cannot work on images of {image_size[0]} bands x {image_size[1]} frames ({first_line(error)}); "
        "change n_mels or max_length_s, or choose a convolutional network"
    )
    return Problem(text, "model", "type", name)


# The head, and the frequency channel


def _finish(network: nn.Module, model: Model, n_classes: int, image_size: ImageSize | None) -> nn.Module:
    """``network`` with the head and the frequency channel that ``model`` sets; unchanged if it sets none."""
    build_head = HEADS[model.head]
    if build_head is None:
        return ImageClassifier(network, frequency_channel=True) if model.frequency_channel else network
    width = _take_head_off(network, model, image_size or _ANY_SIZE)
    head = build_head(width, n_classes, model.drop_rate)
    return ImageClassifier(network, head, frequency_channel=model.frequency_channel)


def _take_head_off(network: nn.Module, model: Model, image_size: ImageSize) -> int:
    """Remove the classifier and the pooling, and return the number of channels of the remaining map.

    timm keeps layers between the features and the classifier if they also work on a map.

    Raises:
        ConfigError: the rest does not return a map ``(batch, channels, bands, frames)``.
    """
    image = torch.zeros(1, _channels(model), *image_size)
    network.eval()
    try:
        with torch.no_grad():
            width = _unpool(network, image)
    except Exception as error:  # see factory.model.dry_run
        raise ConfigError(wrong_size(model.type, image_size, error)) from None
    if width is None:
        text = f"{model.type} has no map of bands and frames for it; choose default, or another network"
        raise ConfigError(Problem(text, "model", "head", model.head))
    network.train()
    return width


def _unpool(network: nn.Module, image: Tensor) -> int | None:
    """Make ``network`` return the map that its head would pool; return its channels, or None if there is no map."""
    features = network.forward_features(image)
    if not isinstance(features, Tensor) or features.ndim != 4 or features.shape[1] != network.num_features:
        return None
    try:
        network.reset_classifier(0, "")
    except AssertionError:  # a head that cannot work without its pooling, as in efficientvit
        network.head = nn.Identity()
        network.head_hidden_size = network.num_features
    left = network(image)
    same_size = left.ndim == 4 and left.shape[2:] == features.shape[2:]
    return left.shape[1] if same_size and left.shape[1] == network.head_hidden_size else None


def _channels(model: Model) -> int:
    return 2 if model.frequency_channel else 1


def _widen(network: nn.Module, model: Model, n_classes: int, image_size: ImageSize | None) -> nn.Module:
    """``network`` with a second input channel, which has no effect at first, if ``model`` sets one."""
    if not model.frequency_channel:
        return network
    wide = _create(model, n_classes, image_size, channels=2)
    try:
        wide.load_state_dict(_fit_channels(network.state_dict(), wide))
    except RuntimeError:  # a first layer that folds space into channels
        text = "the pretrained first layer of this network cannot have a second channel; leave it at false"
        raise ConfigError(Problem(text, "model", "frequency_channel", model.frequency_channel)) from None
    return wide


def _fit_channels(weights: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """``weights`` with the frequency channel of the first layer added or removed, to match ``network``.

    The added channel has no effect. It is 0; or, if the layer standardises its filters (NFNets), the mean of each
    filter, which then becomes 0 and does not change the other channel. In the layers of BiT there remains a factor,
    which the following norm removes.
    """
    from timm.layers import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame

    standardising = (ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame)
    fitted = dict(weights)
    for name, layer in network.named_modules():
        key = f"{name}.weight"
        if not isinstance(layer, nn.Conv2d) or key not in weights or weights[key].ndim != 4:
            continue
        match weights[key].shape[1], layer.weight.shape[1]:
            case 1, 2:
                mean = weights[key].mean(dim=(1, 2, 3), keepdim=True) * isinstance(layer, standardising)
                fitted[key] = torch.cat([weights[key], mean.expand_as(weights[key])], dim=1)
            case 2, 1:
                fitted[key] = weights[key][:, :1]
    return fitted


# Pretrained weights


def _downloaded(model: Model, n_classes: int, image_size: ImageSize | None, testing: bool) -> nn.Module:
    """timm's network with timm's weights; in a trial without available weights, with random ones."""
    network = _create(model, n_classes, image_size)
    if not network.pretrained_cfg.get("hf_hub_id") and not network.pretrained_cfg.get("url"):
        obstacle = f"{model.type} has no pretrained weights"
    elif obstacle := pretrained.obstacle_to(network.pretrained_cfg):
        obstacle = f"the pretrained weights cannot be downloaded ({obstacle})"
    else:
        try:
            return _create(model, n_classes, image_size, pretrained=True)
        except Exception as error:  # the hub, torch and safetensors raise many kinds of errors
            obstacle = f"the pretrained weights cannot be downloaded ({first_line(error)})"
    pretrained.start_from_random(model, obstacle, testing=testing)
    return network


def _from_file(model: Model, n_classes: int, image_size: ImageSize | None) -> nn.Module:
    """The network with the weights of ``weights_path``: timm's, or those of a run with any head."""
    weights = pretrained.read_weights(model)
    if not any(key.startswith(_BACKBONE) for key in weights):
        network = _create(model, n_classes, image_size)
        network = _create_with(weights, network, model, n_classes, image_size)
        return _finish(_widen(network, model, n_classes, image_size), model, n_classes, image_size)
    network = _create(model, n_classes, image_size, channels=_channels(model))
    complete = _finish(network, model, n_classes, image_size)
    _load_own(weights, complete, model, n_classes)
    return complete


_BACKBONE = "backbone."  # in an ImageClassifier the names of timm's tensors begin with this


def _load_own(weights: dict[str, Tensor], complete: nn.Module, model: Model, n_classes: int) -> None:
    """Load the weights of an ImageClassifier of another run into ``complete``, with those of the head if they fit."""
    wrapped = isinstance(complete, ImageClassifier)
    own = complete.state_dict()
    weights = {key if wrapped else key.removeprefix(_BACKBONE): value for key, value in weights.items()}
    weights = _fit_channels(weights, complete)
    fitting = {key for key, value in own.items() if key in weights and weights[key].shape == value.shape}
    network = complete.backbone if wrapped else complete
    heads = [_BACKBONE * wrapped + name for name in _heads(network)]
    head = {key for key in own if (key.startswith("head.") and wrapped) or key.rpartition(".")[0] in heads}
    if own.keys() - head - fitting:
        raise pretrained.another_network(model, len(fitting - head), len(own.keys() - head))
    pretrained.report_head(model, n_classes, used=head <= fitting)
    if head - fitting:
        fitting -= head
    complete.load_state_dict({key: weights[key] for key in fitting}, strict=False)


def _create_with(
    weights: dict[str, Tensor], network: nn.Module, model: Model, n_classes: int, image_size: ImageSize | None,
    *, by_order: bool = False,
) -> nn.Module:  # fmt: skip
    """``network`` built again with ``weights``; timm adapts the first layer and the positions to the images.

    Args:
        by_order: the weights were already renamed, so there is no second try.
    """
    own = network.state_dict()
    head = [key for key in own if key.rpartition(".")[0] in _heads(network)]
    other_head = [key for key in head if key not in weights or weights[key].shape != own[key].shape]
    fitting = sum(key in weights and weights[key].shape == own[key].shape for key in own.keys() - head)
    # If the head fits, timm requires that everything else fits too.
    file, weights = weights, weights | {key: own[key] for key in head if other_head}
    overlay = {"state_dict": weights, "num_classes": n_classes, "label_offset": 0}
    try:
        result = _create(model, n_classes, image_size, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception:  # timm converts the files of each family in another way, and raises many kinds of errors
        fitting = min(fitting, len(own) - len(head) - 1)
        result = None
    if result is None or not fitting:
        stem = f"{network.pretrained_cfg.get('first_conv')}.weight"
        if not by_order and (mapped := pretrained.by_order(file, own, head, stem)):
            pretrained.warn_of_order(model, mapped)
            renamed = {ours: file[theirs] for ours, theirs in mapped.items()}
            return _create_with(renamed, network, model, n_classes, image_size, by_order=True)
        raise pretrained.another_network(model, fitting, len(own) - len(head))
    result.pretrained_cfg.pop("state_dict", None)  # so that it is not kept in memory
    pretrained.report_head(model, n_classes, used=not (other_head or HEADS[model.head]))
    return result


def _heads(network: nn.Module) -> tuple[str, ...]:
    names = network.pretrained_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)
