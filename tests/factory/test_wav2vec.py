"""Is Wav2Vec2 built with all or some of its layers and weights, or refused with a reason?"""

import logging
import time
from dataclasses import replace

import pytest
import torch

from factory.model import build_model, check_model, dry_run, model_of, model_settings
from factory.wav2vec import WAVEFORM_MODELS, check_waveform_model
from tests.forked import run_forked
from utils.errors import ConfigError
from utils.settings import Model

TINY = Model(type="wav2vec2_tiny", transfer_learning=False)
SECOND = 16_000


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Nothing downloaded so far, and a proxy that refuses."""
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "torch"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def saved(state, path):
    torch.save(state, path)
    return path


def from_file(path, **settings):
    return replace(TINY, transfer_learning=True, weights_path=path, **settings)


def old_names(network):
    """A state dict as torchaudio's files have it: weight_norm's parts by their names of before torch 2.0."""
    names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = {}
    for key, value in network.wav2vec.state_dict().items():
        for new, old in names.items():
            key = key.replace(new, old)
        state[key] = value
    return state


@pytest.mark.parametrize(("pretrained", "freeze"), [(True, True), (True, False), (False, True)])
def test_only_pretrained_convolutions_are_frozen_and_all_else_gets_a_gradient(tmp_path, pretrained, freeze):
    model = replace(TINY, freeze_encoder=freeze)
    network = build_model(model, 3)
    if pretrained:
        path = saved(network.state_dict(), tmp_path / "weights.pt")
        network = build_model(replace(model, transfer_learning=True, weights_path=path), 3)
    dry_run(network, (2, SECOND))
    logits = network(torch.randn(4, SECOND))
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None}
    convolutions = {name for name, _ in network.named_parameters() if name.startswith("wav2vec.feature_extractor.")}
    assert convolutions
    assert without == (convolutions if pretrained and freeze else set())


def test_random_convolutions_keep_the_scale_of_their_input():
    network = build_model(TINY, 3)
    values = torch.randn(4, 1, SECOND)
    for layer in network.wav2vec.feature_extractor.conv_layers:
        values, _ = layer(values, None)
    assert 0.1 < values.std() < 1  # it was 0.0004, which the norm behind them takes for silence


def test_a_trial_of_a_network_that_nobody_pretrained_learns_its_convolutions():
    network = build_model(replace(TINY, freeze_encoder=True, transfer_learning=True), 3, testing=True)
    assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("fetch", [True, False])
def test_a_trial_without_a_network_learns_its_convolutions_also_when_it_is_resumed(fetch, caplog):
    model = Model(type="wav2vec2_base", wav2vec_layers=1)
    with torch.device("meta"):
        network = build_model(model, 3, testing=True, fetch=fetch)
    assert ("this trial starts from random weights" in caplog.text) == fetch
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_file_of_another_size_with_older_names_is_one_line(tmp_path):
    network = build_model(TINY, 3)
    state = {key: value[..., :1] if key.endswith("weight_v") else value for key, value in old_names(network).items()}
    with pytest.raises(ConfigError, match=r"weights_path = .*: has the weights of another network: \d+ of"):
        build_model(from_file(saved(state, tmp_path / "weights.pt")), 3)


def test_the_base_size_is_that_of_torchaudios_pipeline():
    from torchaudio.models import wav2vec2_base

    with torch.device("meta"):
        ours = build_model(Model(type="wav2vec2_base", transfer_learning=False), 3).wav2vec
        theirs = wav2vec2_base()
    shapes = [{key: value.shape for key, value in one.state_dict().items()} for one in (ours, theirs)]
    assert shapes[0] == shapes[1]
    # Weights do not show where the norms are; with the norms elsewhere, pretrained weights would be useless.
    order = [[layer.layer_norm_first for layer in one.encoder.transformer.layers] for one in (ours, theirs)]
    assert order[0] == order[1]
    assert ours.encoder.transformer.layer_norm_first == theirs.encoder.transformer.layer_norm_first


def test_the_first_layers_are_kept():
    network = build_model(replace(TINY, wav2vec_layers=1), 3)
    assert len(network.wav2vec.encoder.transformer.layers) == 1
    with pytest.raises(ConfigError, match=r"\[model\] wav2vec_layers = '3': wav2vec2_tiny has only 2; 0 uses all"):
        check_model(replace(TINY, wav2vec_layers=3))


@pytest.mark.parametrize(("key", "value"), [("head", "sed"), ("frequency_channel", True), ("drop_path", 0.1)])
def test_what_is_for_images_is_refused(key, value):
    with pytest.raises(
        ConfigError, match=rf"\[model\] {key} = .*: is for images only, but wav2vec2_tiny uses the waveform"
    ):
        check_model(replace(TINY, **{key: value}))


@pytest.mark.parametrize(("key", "value"), [("wav2vec_layers", 4), ("freeze_encoder", False)])
def test_what_is_for_wav2vec2_is_refused_for_images(key, value):
    with pytest.raises(
        ConfigError, match=rf"\[model\] {key} = .*: is for wav2vec2 only, but efficientnet_b0 uses images"
    ):
        check_model(Model(type="efficientnet_b0", **{key: value}))
    with pytest.raises(ConfigError) as misspelt:
        check_model(Model(type="wav2vec2_bse", **{key: value}))
    assert len(misspelt.value.problems) == 1


def test_a_window_that_is_too_short_fails_the_dry_run():
    with pytest.raises(ConfigError, match=r"\[data_process\] max_length_s: a window of 300 samples is too short"):
        dry_run(build_model(TINY, 3), (2, 300))


def test_a_window_that_fails_for_another_reason_is_not_called_short(monkeypatch):
    network = build_model(TINY, 3)
    monkeypatch.setattr(network, "forward", lambda _: (_ for _ in ()).throw(RuntimeError("can't allocate memory")))
    with pytest.raises(
        ConfigError, match=r"a window of 16000 samples is not accepted \(can't allocate memory\); change it"
    ):
        dry_run(network, (2, 16_000))


def test_a_checkpoint_builds_it_again():
    model = replace(TINY, wav2vec_layers=1, freeze_encoder=False)
    assert model_of({"model_type": model.type, "model_settings": model_settings(model)}) == model


def test_torchaudio_is_loaded_for_it_alone(tmp_path):
    code = (
        "import sys; import training.build; from factory.model import build_model; from utils.settings import Model;"
        "build_model(Model(type='test_resnet', transfer_learning=False), 3); assert 'torchaudio' not in sys.modules"
    )
    done = run_forked(["-c", code], tmp_path)
    assert done.returncode == 0, done.stderr


# Weights on disk


@pytest.mark.parametrize("layers", [0, 1])
def test_a_file_of_torchaudios_gives_all_but_the_head(tmp_path, caplog, layers):
    source = build_model(TINY, 5)
    path = saved(old_names(source), tmp_path / "wav2vec2.pth")
    with caplog.at_level(logging.INFO):
        network = build_model(from_file(path, wav2vec_layers=layers), 3)
    theirs = source.state_dict()
    assert all(
        torch.equal(value, theirs[key]) for key, value in network.state_dict().items() if not key.startswith("head.")
    )
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: has no head for 3 classes; all but its head is used"
    ]


def test_a_checkpoint_of_our_own_gives_its_head_as_well(tmp_path, caplog):
    source = build_model(TINY, 3)
    path = saved({"model": source.state_dict(), "epoch": 3}, tmp_path / "best.pt")
    with caplog.at_level(logging.INFO):
        network = build_model(from_file(path), 3)
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in network.state_dict().items())
    assert caplog.messages == [
        f"{path}: its head of 3 classes is used too; if its species were others, it is only a start"
    ]


def test_weights_of_another_network_are_an_error_with_the_number_of_tensors_that_fit(tmp_path):
    path = saved(build_model(replace(TINY, type="test_resnet"), 3).state_dict(), tmp_path / "resnet.pt")
    with pytest.raises(ConfigError, match=r"weights_path = .*another network: 0 of \d+ tensors fit wav2vec2_tiny;"):
        build_model(from_file(path), 3)


def test_a_file_with_fewer_layers_is_an_error(tmp_path):
    path = saved(build_model(replace(TINY, wav2vec_layers=1), 3).state_dict(), tmp_path / "short.pt")
    with pytest.raises(ConfigError, match=r"another network: \d\d of \d\d tensors fit wav2vec2_tiny;"):
        build_model(from_file(path), 3)


def test_a_damaged_file_names_weights_path(tmp_path):
    path = saved(build_model(TINY, 3).state_dict(), tmp_path / "weights.pt")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ConfigError, match=r"\[model\] weights_path = '.*': damaged, or not a file of weights"):
        build_model(from_file(path), 3)


# Weights from the network


def small_base(monkeypatch):
    """wav2vec2_base, as small as the tiny one, so that a test may build it."""
    tiny, base = (WAVEFORM_MODELS[name] for name in ("wav2vec2_tiny", "wav2vec2_base"))
    monkeypatch.setitem(WAVEFORM_MODELS, "wav2vec2_base", replace(tiny, pipeline=base.pipeline))


def test_the_base_size_is_that_of_the_pipeline_that_has_its_weights(monkeypatch):
    import torchaudio

    asked = {}

    def note(**settings):
        asked.update(settings)
        raise InterruptedError

    monkeypatch.setattr(torchaudio.models, "wav2vec2_model", note)
    with pytest.raises(InterruptedError):
        build_model(Model(type="wav2vec2_base", transfer_learning=False), 3)
    assert WAVEFORM_MODELS["wav2vec2_base"].pipeline == "WAV2VEC2_BASE"
    assert asked == torchaudio.pipelines.WAV2VEC2_BASE._params | {"encoder_layer_drop": 0.0}


def test_without_network_a_remedy_is_reported_in_seconds(no_network, monkeypatch, capfd):
    small_base(monkeypatch)
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"no answer from download.pytorch.org.*weights_path") as error:
        build_model(Model(type="wav2vec2_base"), 3)
    assert time.monotonic() - start < 10
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["wav2vec2_base", "wav2vec2_tiny"])
def test_a_trial_goes_on_with_random_weights_and_one_warning(no_network, monkeypatch, caplog, name):
    small_base(monkeypatch)
    build_model(Model(type=name), 3, testing=True)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "random weights" in caplog.text


def test_weights_downloaded_once_need_no_network(no_network, monkeypatch, tmp_path):
    from torchaudio import pipelines

    small_base(monkeypatch)
    source = build_model(TINY, 3)
    monkeypatch.setattr(type(pipelines.WAV2VEC2_BASE), "get_model", lambda bundle: source.wav2vec)
    (tmp_path / "torch" / "checkpoints").mkdir(parents=True)
    (tmp_path / "torch" / "checkpoints" / "wav2vec2_fairseq_base_ls960.pth").write_bytes(b"here")
    network = build_model(Model(type="wav2vec2_base", wav2vec_layers=1), 3)
    theirs = source.state_dict()
    ours = network.wav2vec.state_dict()
    assert len(ours) < len(source.wav2vec.state_dict())
    assert all(torch.equal(value, theirs["wav2vec." + key]) for key, value in ours.items())


def test_the_head_sees_the_mean_over_frames_after_dropout():
    network = build_model(replace(TINY, drop_rate=0.4), 3).eval()
    waveforms = torch.randn(2, SECOND)
    frames, _ = network.wav2vec(waveforms)
    assert frames.shape[1] == 49  # one each 20 ms
    torch.testing.assert_close(network(waveforms), network.head(frames.mean(dim=1)))
    seen = []
    network.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0] == 0))
    for _ in range(20):
        network.dropout.train()
        network(waveforms)
    assert 0.35 < torch.stack(seen).float().mean() < 0.45


def test_all_of_its_layers_may_be_asked_for_and_none_is_skipped_at_random():
    layers = WAVEFORM_MODELS["wav2vec2_tiny"].layers
    assert check_waveform_model(replace(TINY, wav2vec_layers=layers)) == []
    assert [problem.key for problem in check_waveform_model(replace(TINY, wav2vec_layers=layers + 1))] == [
        "wav2vec_layers"
    ]
    assert build_model(TINY, 3).wav2vec.encoder.transformer.layer_drop == 0  # processes need a gradient of each
