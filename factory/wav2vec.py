"""Which network on the waveform? [model] type -> Wav2Vec2, with all or some of its layers.

torchaudio takes a second to import, so it is imported only when such a network is built.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from factory import pretrained
from models.wav2vec import WaveformClassifier
from utils.errors import Problem, first_line
from utils.settings import Model

_HOST = "https://download.pytorch.org/torchaudio/models/"
_WAV2VEC = "wav2vec."  # in a WaveformClassifier the names of torchaudio's tensors begin with this


@dataclass(frozen=True, kw_only=True)
class Size:
    """What differs between the sizes of Wav2Vec2, with the names of the paper's table 6.

    Attributes:
        channels: of the convolutions.
        width: of the transformer; ``inner`` is the width of its feed-forward layers.
        kernel, groups: of the convolution that encodes the position of a frame.
        pipeline: the pipeline of torchaudio with pretrained weights; None: there are none.
    """

    channels: int
    width: int
    layers: int
    heads: int
    inner: int
    kernel: int
    groups: int
    pipeline: str | None = None


WAVEFORM_MODELS = {
    "wav2vec2_base": Size(
        channels=512, width=768, layers=12, heads=12, inner=3072, kernel=128, groups=16, pipeline="WAV2VEC2_BASE"
    ),
    "wav2vec2_tiny": Size(channels=32, width=96, layers=2, heads=4, inner=192, kernel=32, groups=8),  # for a CPU
}


def check_no_waveform_model(model: Model) -> list[Problem]:
    """The problems of the [model] section of a network on images."""
    return _not_default(model, "wav2vec_layers freeze_encoder", f"is for wav2vec2 only, but {model.type} uses images")


def check_waveform_model(model: Model) -> list[Problem]:
    """The problems of the [model] section of a network on the waveform."""
    problems = _not_default(
        model, "head drop_path frequency_channel", f"is for images only, but {model.type} uses the waveform"
    )
    layers = WAVEFORM_MODELS[model.type].layers
    if model.wav2vec_layers > layers:
        problems.append(
            Problem(f"{model.type} has only {layers}; 0 uses all", "model", "wav2vec_layers", model.wav2vec_layers)
        )
    return problems


def _not_default(model: Model, keys: str, why: str) -> list[Problem]:
    return [
        Problem(f"{why}; leave it at {str(default).lower()}", "model", key, value)
        for key in keys.split()
        if (value := getattr(model, key)) != (default := getattr(Model(), key))
    ]


def build_waveform_model(model: Model, n_classes: int, *, testing: bool, fetch: bool) -> WaveformClassifier:
    """Build the network that ``model.type`` names: (batch, samples) at 16 kHz -> logits (batch, n_classes).

    Pretrained weights come from ``weights_path`` (torchaudio's state dict, or a checkpoint of ours), else
    from torchaudio's pipeline: 360 MB, of 960 hours of people reading aloud.

    Args:
        testing: if no weights can be downloaded, use random weights with a warning.
        fetch: false: random weights, which those of a checkpoint will replace.

    Raises:
        ConfigError: the weights cannot be downloaded, or a file does not fit.
    """
    size = WAVEFORM_MODELS[model.type]
    # Random weights must be trained: there are no pretrained ones, or a trial may be unable to download them. This is
    # decided without trying a download, so that a trial that is resumed trains the same weights as before.
    has_weights = model.transfer_learning and (model.weights_path or (size.pipeline and not testing))
    network = WaveformClassifier(
        _wav2vec(size, model.wav2vec_layers or size.layers),
        size.width,
        n_classes,
        drop_rate=model.drop_rate,
        freeze_encoder=model.freeze_encoder and bool(has_weights),
    )
    if not (model.transfer_learning and fetch):
        return network
    if model.weights_path is not None:
        _load(pretrained.read_weights(model), network, model, n_classes)
    elif weights := _download(size, model, testing):
        network.wav2vec.load_state_dict(weights, strict=False)  # only the layers that are used
    return network


SEES = 400  # samples, 25 ms: the shortest window from which the convolutions below compute a frame


def _wav2vec(size: Size, layers: int) -> nn.Module:
    from torchaudio.models import wav2vec2_model

    network = wav2vec2_model(
        extractor_mode="group_norm",
        extractor_conv_layer_config=[
            (size.channels, kernel, stride) for kernel, stride in [(10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2]
        ],
        extractor_conv_bias=False,
        encoder_embed_dim=size.width,
        encoder_projection_dropout=0.1,
        encoder_pos_conv_kernel=size.kernel,
        encoder_pos_conv_groups=size.groups,
        encoder_num_layers=layers,
        encoder_num_heads=size.heads,
        encoder_attention_dropout=0.1,
        encoder_ff_interm_features=size.inner,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.1,
        encoder_layer_norm_first=False,
        encoder_layer_drop=0.0,  # several processes need a gradient of every layer in every step
        aux_num_out=None,
    )
    # As in fairseq, from which it comes. With torch's initial weights, each layer would reduce the values to a third.
    for layer in network.feature_extractor.conv_layers:
        nn.init.kaiming_normal_(layer.conv.weight)
    return network


def _download(size: Size, model: Model, testing: bool) -> dict[str, Tensor] | None:
    """The weights of torchaudio's pipeline; None if there are none and a trial uses random ones."""
    obstacle = f"{model.type} has no pretrained weights"
    if size.pipeline is not None:
        from torchaudio import pipelines

        bundle = getattr(pipelines, size.pipeline)
        obstacle = pretrained.obstacle_to({"url": _HOST + bundle._path})
        if not obstacle:
            try:
                return bundle.get_model().state_dict()
            except Exception as error:  # torch, urllib and pickle raise many kinds of errors
                obstacle = first_line(error)
        obstacle = f"the pretrained weights cannot be downloaded ({obstacle})"
    pretrained.start_from_random(model, obstacle, testing=testing)
    return None


def _renamed(key: str) -> str:
    """The present name of a tensor; torchaudio's older files have the names of torch's older weight norm."""
    for old, new in (
        ("weight_g", "parametrizations.weight.original0"),
        ("weight_v", "parametrizations.weight.original1"),
    ):
        if key.endswith("." + old):
            return key.removesuffix(old) + new
    return key


def _load(weights: dict[str, Tensor], network: WaveformClassifier, model: Model, n_classes: int) -> None:
    """Load the weights of a file into ``network``: torchaudio's, or those of a run with its head if it fits."""
    own = network.state_dict()
    weights = {_renamed(key): value for key, value in weights.items()}
    if not any(key.startswith(_WAV2VEC) for key in weights):
        weights = {_WAV2VEC + key: value for key, value in weights.items()}
    weights = {key: value for key, value in weights.items() if key not in own or own[key].shape == value.shape}
    heads = {key for key in own if key.startswith("head.")}
    if not heads <= weights.keys():
        weights = {key: value for key, value in weights.items() if key not in heads}
    missing = set(network.load_state_dict(weights, strict=False).missing_keys)
    if missing - heads:
        raise pretrained.another_network(model, len(own) - len(heads) - len(missing - heads), len(own) - len(heads))
    pretrained.report_head(model, n_classes, used=not missing)
