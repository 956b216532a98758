"""Offloading and compiling: what can be told without a GPU."""

import pytest
import torch

from audioldm_utils.errors import UserError
from audioldm_utils.model import offload
from audioldm_utils.model.checkpoint import device_of_worker, load


class Net(torch.nn.Module):
    """Called by its parts, as a VAE is."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = torch.nn.Linear(2, 3), torch.nn.Linear(3, 2)
        self.moves = []

    def to(self, device):
        self.moves.append(str(device))
        return self


def test_one_network_at_a_time_is_on_the_device():
    used, a, b = offload.Offload(torch.device("meta")), Net(), Net()
    used.add("a", a)
    used.add("b", b)
    assert used.here is None
    a.encoder(torch.zeros(1, 2))
    a.decoder(torch.zeros(1, 3))
    assert (a.moves, b.moves, used.here) == (["meta"], [], "a")
    b.decoder(torch.zeros(1, 3))
    assert (a.moves, b.moves, used.here) == (["meta", "cpu"], ["meta"], "b")
    used.forget("b")
    a.encoder(torch.zeros(1, 2))
    assert (a.moves[-1], b.moves, used.here) == ("meta", ["meta"], "a")


@pytest.mark.parametrize(
    ("option", "sentence"),
    [("offload", "device is the cpu"), ("compiled", "compiling is for GPUs")],
)
def test_a_sentence_where_there_is_no_gpu(option, sentence, tmp_path):
    (tmp_path / "vae").mkdir()
    with pytest.raises(UserError, match=sentence):
        load(tmp_path, (), **{option: True})


def test_a_sentence_where_there_is_no_compiler(monkeypatch):
    monkeypatch.setattr(offload, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="triton"):
        offload.check_compile(torch.device("cuda"))


@pytest.mark.parametrize(
    ("name", "gpus", "devices"),
    [
        ("cuda", 4, ["cuda:0", "cuda:1", "cuda:2", "cuda:3", "cuda:0"]),
        ("cuda", 1, ["cuda"] * 5),
        ("cuda", 0, ["cuda"] * 5),
        ("cuda:2", 4, ["cuda:2"] * 5),
        ("cpu", 4, ["cpu"] * 5),
    ],
)
def test_each_worker_has_a_gpu_of_its_own(name, gpus, devices, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert [device_of_worker(name, number) for number in range(5)] == devices
