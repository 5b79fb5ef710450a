"""Which network? [model] type -> a timm image model, with pretrained weights where they are wanted."""

import contextlib
import logging
import ssl
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor, nn

from utils.config import Model
from utils.errors import ConfigError, Problem, unknown

_log = logging.getLogger(__name__)

ImageSize = tuple[int, int]  # (n_mels, frames)
ANSWER_WITHIN_S = 5.0  # of the host of pretrained weights; its own client would try for most of a minute
WEIGHTS_MEND = "give a file of weights as weights_path, or set transfer_learning = false"


def check_model(model: Model) -> None:
    """Check what can be known of [model] without building it.

    Raises:
        ConfigError: with all that is wrong.
    """
    problems = []
    try:
        check_model_name(model.type)
    except ConfigError as error:
        problems += error.problems
    if model.weights_path is not None:
        if not model.transfer_learning:
            text = "not used with transfer_learning = false; set that to true, or leave this empty"
            problems.append(_weights_problem(model, text))
        elif not model.weights_path.is_file():
            problems.append(_weights_problem(model, "no such file; leave it empty to download weights"))
    if problems:
        raise ConfigError(problems)


def check_model_name(name: str) -> None:
    """Check that timm knows ``name``: an architecture, or one with a tag, as regnety_008.pycls_in1k.

    Raises:
        ConfigError: with the nearest architectures, or the tags of this one.
    """
    import timm
    from timm.models import get_arch_pretrained_cfgs

    architecture, dot, tag = name.partition(".")
    if not timm.is_model(architecture):
        text = unknown(architecture, timm.list_models(), nearest=3, list_known=False)
        raise ConfigError(Problem(f"{text} (any image model of timm will do)", "model", "type", name))
    tags = [known.partition(".")[2] for known in get_arch_pretrained_cfgs(architecture)]
    if dot and tag not in tags:
        text = f"{architecture} has no weights {tag!r}; known: {', '.join(tags) or 'none'}"
        raise ConfigError(Problem(text, "model", "type", name))


def build_model(
    model: Model, n_classes: int, *, image_size: ImageSize | None = None, testing: bool = False
) -> nn.Module:
    """Build the network that ``model.type`` names: (batch, 1, n_mels, frames) -> logits (batch, n_classes).

    Pretrained weights come from ``weights_path``, else from timm's download. timm adds up the three
    colours of the first layer and gives a new head where the number of classes differs.

    Args:
        image_size: needed by networks made for one size, such as most transformers; others ignore it.
        testing: go on with random weights, and a warning, where there are none to download.

    Raises:
        ConfigError: unknown name, no way to its weights, a file that does not fit, or a network
            that cannot be made for this image size.
    """
    check_model(model)
    network = _create(model, n_classes, image_size)
    if not model.transfer_learning:
        return network
    if model.weights_path is not None:
        return _create_with(_read_weights(model), network, model, n_classes, image_size)
    if not network.pretrained_cfg.get("hf_hub_id") and not network.pretrained_cfg.get("url"):
        obstacle = f"{model.type} has no pretrained weights"
    elif obstacle := _no_way_to(network.pretrained_cfg):
        obstacle = f"the pretrained weights cannot be downloaded ({obstacle})"
    else:
        try:
            return _create(model, n_classes, image_size, pretrained=True)
        except Exception as error:  # the hub, torch and safetensors each have errors of their own
            obstacle = f"the pretrained weights cannot be downloaded ({_first_line(error)})"
    if not testing:
        raise ConfigError(Problem(f"{obstacle}; {WEIGHTS_MEND}", "model", "type", model.type))
    _log.warning("[model] type = '%s': %s; this trial starts from random weights", model.type, obstacle)
    return network


def dry_run(model: nn.Module, input_shape: tuple[int, int, int, int]) -> None:
    """Give ``model`` one empty batch, so that a misfit shows before hours of preprocessing.

    Args:
        input_shape: (batch, 1, n_mels, frames).

    Raises:
        ConfigError: the network takes no such images.
    """
    training, device = model.training, next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad():
            model(torch.zeros(input_shape, device=device))
    except Exception as error:  # each of timm's networks has checks, and accidents, of its own
        name = getattr(model, "pretrained_cfg", {}).get("architecture")
        raise ConfigError(_misfit(name, input_shape[-2:], error)) from None
    finally:
        model.train(training)


def _create(model: Model, n_classes: int, image_size: ImageSize | None, **options: Any) -> nn.Module:
    import timm

    fixed = timm.get_pretrained_cfg(model.type, allow_unregistered=True)
    if image_size is not None and fixed is not None and fixed.fixed_input_size:
        options["img_size"] = image_size
    try:
        with _quiet():
            network = timm.create_model(model.type, in_chans=1, num_classes=n_classes, **options)
    except Exception as error:  # see dry_run
        if options.get("pretrained"):
            raise  # the network itself can be built: its weights are at fault
        if "img_size" in options:
            raise ConfigError(_misfit(model.type, image_size, error)) from None
        text = f"cannot be built for images of one channel{_reason(error)}; choose another network"
        raise ConfigError(Problem(text, "model", "type", model.type)) from None
    if network.num_classes != n_classes:
        text = "an encoder without a classifier; choose another network"
        raise ConfigError(Problem(text, "model", "type", model.type))
    return network


def _misfit(name: str | None, image_size: ImageSize, error: Exception) -> Problem:
    text = (
        f"cannot work on images of {image_size[0]} bands x {image_size[1]} frames{_reason(error)}; "
        "change n_mels or max_length_s, or choose a convolutional network"
    )
    return Problem(text, "model", "type", name)


# Weights from a file


def _read_weights(model: Model) -> dict[str, Tensor]:
    """The tensors in ``weights_path``: a state dict, or a checkpoint that holds one."""
    from timm.models import load_state_dict

    path = model.weights_path
    try:
        if is_zipfile(path) and ZipFile(path).testzip():  # torch.load does not look at the checksums
            raise ValueError("a checksum is wrong")
        with _quiet():
            weights = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # unpickling bytes that are no weights may raise anything
        _log.debug("%s", path, exc_info=error)
        text = "damaged, or not a file of weights (.pt, .pth, .bin or .safetensors)"
        raise ConfigError(_weights_problem(model, text)) from None
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ConfigError(_weights_problem(model, "holds something else than the weights of a network"))
    return weights


def _create_with(
    weights: dict[str, Tensor], network: nn.Module, model: Model, n_classes: int, image_size: ImageSize | None
) -> nn.Module:
    """``network`` built again with ``weights``; timm fits the first layer and the positions to our images."""
    own = network.state_dict()
    head = [key for key in own if key.rpartition(".")[0] in _heads(network)]
    other_head = [key for key in head if key not in weights or weights[key].shape != own[key].shape]
    fitting = sum(key in weights and weights[key].shape == own[key].shape for key in own.keys() - head)
    # With a head that fits, timm insists that everything else does as well.
    weights = weights | {key: own[key] for key in head if other_head}
    overlay = {"state_dict": weights, "num_classes": n_classes, "label_offset": 0}
    try:
        result = _create(model, n_classes, image_size, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception:  # timm converts the files of each family in its own way, and stumbles in as many
        fitting = min(fitting, len(own) - len(head) - 1)
        result = None
    if result is None or not fitting:
        text = f"weights of another network: {fitting} of {len(own) - len(head)} tensors fit {model.type}"
        raise ConfigError(_weights_problem(model, f"{text}; give a file of that type, or change type"))
    result.pretrained_cfg.pop("state_dict", None)  # or it would be kept in memory
    if other_head:
        _log.info("%s: holds no head for %d classes; all but its head is used", model.weights_path, n_classes)
    return result


def _heads(network: nn.Module) -> tuple[str, ...]:
    names = network.pretrained_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _weights_problem(model: Model, text: str) -> Problem:
    return Problem(text, "model", "weights_path", model.weights_path)


# Weights from the network


def _no_way_to(weights: dict[str, Any]) -> str | None:
    """Why the weights that timm describes so cannot be had; None if they are on this disk or their host answers.

    timm's own download would find out as well, but only after most of a minute and a page of warnings.
    """
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    if hub := weights.get("hf_hub_id"):
        names = ("model.safetensors", "pytorch_model.bin")
        if any(isinstance(try_to_load_from_cache(hub, name), str) for name in names):
            return None
        url = hf_hub_url(hub, names[0])
    else:
        url = weights["url"]
        if (Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]).is_file():
            return None
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=ANSWER_WITHIN_S).close()
    except urllib.error.HTTPError:
        return None  # it answers; what it has to say is for the download to hear
    except OSError as error:
        cause = getattr(error, "reason", error)
        return None if isinstance(cause, ssl.SSLError) else f"no answer from {url.split('/')[2]}: {_first_line(cause)}"
    return None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep timm, torch and the hub's client from telling what is told here, or is not for the user to mend."""
    loggers = [logging.getLogger(name) for name in ("timm", "huggingface_hub", "httpx2")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: Exception) -> str:
    return f" ({_first_line(error)})" if str(error) else ""


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [""])[0]
