"""Where do pretrained weights come from? A file on this disk, or a download."""

import contextlib
import http.client
import logging
import ssl
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor

from utils.command import ONLY_IN_FILE
from utils.errors import ConfigError, Problem, counted, first_line
from utils.settings import Model

log = logging.getLogger(__name__)

_ANSWER_WITHIN_S = 5.0  # for the host of pretrained weights; its own client would try for most of a minute
_REMEDY = "name a file of weights as weights_path, or set transfer_learning = false"


def check_weights(model: Model, *, fetch: bool = True) -> list[Problem]:
    """The problems of ``weights_path`` that are known before it is opened; without ``fetch`` it will not be opened."""
    if model.weights_path is None:
        return []
    if not model.transfer_learning:
        text = "has no effect with transfer_learning = false; set that to true, or leave this empty"
        return [weights_problem(model, text)]
    if fetch and not model.weights_path.is_file():
        return [weights_problem(model, "no such file; leave it empty to download weights")]
    return []


def weights_problem(model: Model, text: str) -> Problem:
    return Problem(text, "model", "weights_path", model.weights_path)


def read_weights(model: Model) -> dict[str, Tensor]:
    """The tensors in ``weights_path``: a state dict, or a checkpoint that contains one.

    Raises:
        ConfigError: the file is damaged, or has something else in it.
    """
    from timm.models import load_state_dict

    path = model.weights_path
    try:
        if is_zipfile(path) and ZipFile(path).testzip():  # torch.load does not compare the checksums
            raise ValueError("a checksum is wrong")
        with quiet():
            weights = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # unpickling bytes that are not weights may raise anything
        log.debug("%s", path, exc_info=error)
        text = "damaged, or not a file of weights (.pt, .pth, .bin or .safetensors)"
        raise ConfigError(weights_problem(model, text)) from None
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ConfigError(weights_problem(model, "does not contain the weights of a network"))
    return weights


def another_network(model: Model, fitting: int, all_of: int) -> ConfigError:
    """The error for a file with the weights of another network."""
    text = f"has the weights of another network: {fitting} of {all_of} tensors fit {model.type}"
    return ConfigError(weights_problem(model, f"{text}; name a file of this type, or change type"))


def by_order(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], head: Sequence[str], stem: str
) -> dict[str, str]:
    """Names of ``own`` -> names of ``weights``, if these are the same tensors in the same order with other names.

    Other ports of a network give its layers other names, but keep their order. The counters of BatchNorm are left out.

    Args:
        own: the tensors of the network.
        head: names in ``own`` of the head, whose number of classes may differ.
        stem: the name of the first convolution, whose number of channels may differ.

    Returns:
        The names; empty if the order or a shape differs.
    """
    ours, theirs = ([name for name in one if not name.endswith(_COUNTER)] for one in (own, weights))
    if len(ours) != len(theirs):
        return {}
    for mine, other in zip(ours, theirs, strict=True):
        free = 0 if mine in head else 1 if mine == stem else None  # the axis that may differ
        shapes = [[n for axis, n in enumerate(one.shape) if axis != free] for one in (own[mine], weights[other])]
        kinds = [name.rpartition(".")[2] for name in (mine, other)]
        if shapes[0] != shapes[1] or (kinds[0] != kinds[1] and set(kinds) <= _KINDS):
            return {}
    return dict(zip(ours, theirs, strict=True))


_COUNTER = "num_batches_tracked"
_KINDS = {"weight", "bias", "running_mean", "running_var"}  # torch's names; a tensor of one kind never is another


def warn_of_order(model: Model, mapped: Mapping[str, str]) -> None:
    """Warn that the names differ and were matched by order; the run's log has every pair."""
    log.warning(
        "%s: its names are those of another port of %s; its %d tensors are matched by order, and all shapes fit "
        "(every pair is in the run's log.txt)", model.weights_path, model.type, len(mapped),
    )  # fmt: skip
    for ours, theirs in mapped.items():
        log.info("matched by order: %s <- %s", ours, theirs, extra={ONLY_IN_FILE: True})


def report_head(model: Model, n_classes: int, *, used: bool) -> None:
    """Report whether the file's head is used; it is right only for the species that it was trained on."""
    classes = counted(n_classes, "class", "classes")
    text = f"its head of {classes} is used too; if its species were others, it is only a start"
    log.info("%s: %s", model.weights_path, text if used else f"has no head for {classes}; all but its head is used")


def start_from_random(model: Model, obstacle: str, *, testing: bool) -> None:
    """Warn that a trial starts from random weights because of ``obstacle``.

    Raises:
        ConfigError: it is not a trial.
    """
    if not testing:
        raise ConfigError(Problem(f"{obstacle}; {_REMEDY}", "model", "type", model.type))
    log.warning("[model] type = '%s': %s; this trial starts from random weights", model.type, obstacle)


def obstacle_to(source: dict[str, Any]) -> str | None:
    """Why the weights of ``source`` cannot be downloaded; None if they are on this disk or their host answers.

    timm's own download would also find out, but only after most of a minute and a page of warnings.

    Args:
        source: ``hf_hub_id`` or ``url``, as in timm's configs.
    """
    if hub := source.get("hf_hub_id"):
        from huggingface_hub import hf_hub_url, try_to_load_from_cache

        names = ("model.safetensors", "pytorch_model.bin")
        if any(isinstance(try_to_load_from_cache(hub, name), str) for name in names):
            return None
        url = hf_hub_url(hub, names[0])
    else:
        url = source["url"]
        if (Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]).is_file():
            return None
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_ANSWER_WITHIN_S).close()
    except urllib.error.HTTPError:
        return None  # it answers; the download will handle its answer
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: the address is invalid
        cause = getattr(error, "reason", error)
        return None if isinstance(cause, ssl.SSLError) else f"no answer from {url.split('/')[2]}: {first_line(cause)}"
    return None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence messages of timm, torch and the hub's client that this program reports itself or that do not help."""
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
