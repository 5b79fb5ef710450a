"""Is every image network of timm built, with every head, or refused with a reason?"""

import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from factory.image_model import HEADS, check_name
from factory.model import build_model, check_model, dry_run, model_of, model_settings
from tests.factory.conftest import IMAGE, plain, weights_of
from utils.errors import CheckpointError, ConfigError
from utils.settings import Model

RECIPES = (Path(__file__).parents[2] / "docs/recipes.md").read_text(encoding="utf-8")
PRESETS = re.findall(r"`([a-z][\w.]+)`", RECIPES.partition("every head: ")[2].partition("This program adds")[0])


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
def test_every_weight_of_a_network_with_a_head_has_a_gradient(name, head, frequency_channel):
    model = Model(type=name, transfer_learning=False, head=head, frequency_channel=frequency_channel)
    network = build_model(model, 3, image_size=(64, 64))
    network(torch.randn(2, 1, 64, 64)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224"])
def test_a_network_without_a_map_is_an_error_for_heads_that_need_one(name):
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


def test_drop_path_for_a_network_without_it_is_an_error():
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


def test_our_own_network_is_small_and_has_no_pretrained_weights(no_network):
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


# Image sizes


def test_a_transformer_is_built_for_our_images():
    dry_run(build_model(plain("vit_tiny_patch16_224"), 3, image_size=(128, 320)), (1, 1, 128, 320))


def test_a_network_of_another_size_fails_the_dry_run():
    network = build_model(plain("vit_tiny_patch16_224"), 3)
    with pytest.raises(ConfigError, match=r"type = 'vit_tiny_patch16_224': cannot work on images of 32 bands x 64 fra"):
        dry_run(network, (1, 1, *IMAGE))


def test_a_network_that_cannot_be_built_for_our_images_is_an_error():
    with pytest.raises(ConfigError, match=r"'nest_tiny': cannot work on images of 32 bands x 64 frames \(.*square"):
        build_model(plain("nest_tiny"), 3, image_size=IMAGE)


def test_a_dry_run_changes_nothing():
    network = build_model(plain("test_resnet"), 3).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    dry_run(network, (1, 1, *IMAGE))
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
