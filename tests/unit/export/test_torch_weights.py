"""Weights from files that cannot run code: all of them, by name, or an error that says which not."""

import os
import pickle

import pytest

from gradserve.errors import InvalidParameter

torch = pytest.importorskip("torch", reason="an exporter: scripts/test --torch installs it")
safetensors = pytest.importorskip("safetensors.torch", reason="a format: scripts/test --torch installs it")
networks = pytest.importorskip("support.exporting.networks")
weights = pytest.importorskip("gradserve_server.export.frameworks.torch_weights")
pytestmark = pytest.mark.torch


def other_numbers(network):
    return {name: tensor + 1 for name, tensor in network.state_dict().items()}


def save(state, file):
    (safetensors.save_file if file.suffix == ".safetensors" else torch.save)(state, file)
    return file


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".bin"])
def test_weights_are_loaded(tmp_path, suffix):
    network = networks.three()
    wanted = other_numbers(network)
    weights.load_weights(network, save(wanted, tmp_path / f"w{suffix}"))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


def test_where_the_weights_are_in_a_checkpoint(tmp_path):
    network = networks.three()
    wanted = other_numbers(network)
    checkpoint = {"epoch": 3, "ema": {"state_dict": {f"module.{name}": tensor for name, tensor in wanted.items()}}}
    file = save(checkpoint, tmp_path / "w.pt")
    with pytest.raises(InvalidParameter, match="got 'epoch', 'ema': name the one that has the weights, --weights-key ema"):
        weights.load_weights(network, file)
    with pytest.raises(InvalidParameter, match="--weights-key 'ema.weights': expected 'weights' to be one of 'state_dict'"):
        weights.load_weights(network, file, key="ema.weights")
    with pytest.raises(InvalidParameter, match=r"Is it --weights-prefix module\.\?"):
        weights.load_weights(network, file, key="ema.state_dict")
    weights.load_weights(network, file, key="ema.state_dict", prefix="module.")
    assert torch.equal(network.state_dict()["conv.weight"], wanted["conv.weight"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("fc.bias"), r"expected the network's 8 tensors, got 1 missing: 'fc.bias'"),
        (lambda s: s.update(head=torch.ones(1)), r"got 1 that the network has not: 'head'"),
        (lambda s: s.update({"fc.bias": torch.ones(4)}), r"1 of another shape: 'fc.bias': expected \[3\], got \[4\]"),
        (lambda s: s.update(best=0.5), "expected tensors by name and nothing else, got 'best'"),
        (lambda s: s.clear(), "expected tensors by name and nothing else, got nothing"),
        (lambda s: [s.pop(name) for name in list(s)[:6]], r"6 missing: .* and 1 more"),
    ],
)
def test_weights_that_do_not_fit(tmp_path, change, said):
    network = networks.three()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = dict(other_numbers(network))
    change(state)
    with pytest.raises(InvalidParameter, match=said):
        weights.load_weights(network, save(state, tmp_path / "w.pt"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


class Malicious:
    """Runs a command as it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


@pytest.mark.parametrize("pack", [torch.save, lambda state, file: file.write_bytes(pickle.dumps(state))])
def test_code_in_a_file_of_weights_does_not_run(tmp_path, pack):
    victim, file = tmp_path / "ran", tmp_path / "w.pt"
    pack({"conv.weight": torch.ones(1), "x": Malicious(victim)}, file)
    with pytest.raises(InvalidParameter, match=r"weights 'w.pt': expected a file of tensors and nothing else") as found:
        weights.load_weights(networks.three(), file)
    assert "weights_only" not in str(found.value)  # torch's text says how to run the code all the same
    assert not victim.exists()


def test_a_whole_module_is_no_file_of_weights(tmp_path):
    torch.save(networks.three(), tmp_path / "whole.pt")
    said = r"got one that needs the code of support\.exporting\.networks\.Classifier: save network\.state_dict\(\)$"
    with pytest.raises(InvalidParameter, match=said):
        weights.load_weights(networks.three(), tmp_path / "whole.pt")


def test_a_counter_of_training_batches_may_be_missing(tmp_path):
    network = networks.three()
    state = {name: t for name, t in other_numbers(network).items() if not name.endswith("num_batches_tracked")}
    assert len(state) == len(network.state_dict()) - 1
    weights.load_weights(network, save(state, tmp_path / "w.pt"))
    assert torch.equal(network.state_dict()["conv.weight"], state["conv.weight"])


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.onnx", "missing.pt"])
def test_what_is_no_file_of_weights(tmp_path, name):
    if not name.startswith("missing"):
        (tmp_path / name).write_bytes(b"not at all")
    with pytest.raises(InvalidParameter, match="weights '.*': expected"):
        weights.load_weights(networks.three(), tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(InvalidParameter, match="expected tensors by name, as .* got a list"):
        weights.load_weights(networks.three(), tmp_path / "list.pt")


def test_tied_weights_come_under_one_name_or_both(tmp_path):
    network = networks.tied()
    wanted = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    safetensors.save_file({"encoder.weight": wanted}, tmp_path / "one.safetensors")
    weights.load_weights(network, tmp_path / "one.safetensors")
    assert torch.equal(network.decoder.weight, wanted)
    weights.load_weights(network, save({"encoder.weight": wanted, "decoder.weight": wanted.clone()}, tmp_path / "both.pt"))
    with pytest.raises(InvalidParameter, match="expected the value of the weight that the network ties it to, got another"):
        weights.load_weights(network, save({"encoder.weight": wanted, "decoder.weight": wanted + 1}, tmp_path / "two.pt"))


def test_numbers_that_are_none_are_loaded_as_they_are(tmp_path):
    network = networks.tied()
    weights.load_weights(network, save({"encoder.weight": torch.full((6, 6), float("nan"))}, tmp_path / "w.pt"))
    assert network.encoder.weight.isnan().all()
