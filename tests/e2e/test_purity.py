"""Promise 1: a gradient request can never change a later prediction. Not one bit, whoever asks what at the same time."""

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import golden
from support.paths import MODELS

from gradserve import objectives as O

REQUESTS = 1000
THREADS = 8
MODEL = "digits_batchnorm"


def predict(client) -> dict[str, bytes]:
    x = np.array([[0.3], [0.4]], np.float32)
    return {
        "digits": client.infer("digits", {"image": golden.digits()})["logits"].tobytes(),
        "one": client.infer(MODEL, {"image": golden.digits()[:1]})["logits"].tobytes(),
        "batch": client.infer(MODEL, {"image": golden.digits()})["logits"].tobytes(),
        "scenario_a": client.infer("scenario_a", {"x": x})["y"].tobytes(),
    }


def mixed_requests(client) -> list:
    """A gradient, an ascent or a pull-back each; every verb that runs a backward graph."""
    image = {"image": golden.digits()}
    kinds = [
        lambda i: client.gradient(MODEL, image, O.unit("logits", i % 10)),
        lambda i: client.gradient(MODEL, {"image": golden.digits()[: 1 + i % 4]}, O.channel_energy("relu1", i % 24)),
        lambda i: client.vjp(MODEL, image, {"logits": np.full((4, 10), i, np.float32)}),
        lambda _: client.activations(MODEL, image, ["relu6"]),
        lambda i: list(client.ascend(MODEL, O.unit("logits", i % 10), steps=3, seed=i, jitter=1)),
        lambda i: client.gradient("scenario_a", {"x": np.full((1, 1), i, np.float32)}, O.unit("y", 0)),
    ]
    requests = [(kinds[i % len(kinds)], i) for i in range(REQUESTS)]
    random.Random(0).shuffle(requests)
    return requests


def file_hashes() -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(MODELS.rglob("model.onnx"))}


def test_a_thousand_mixed_requests_change_no_prediction(client):
    before, files = predict(client), file_hashes()
    done = threading.Event()
    during: list[dict[str, bytes]] = []

    def keep_predicting():
        while not done.is_set():
            during.append(predict(client))

    watcher = threading.Thread(target=keep_predicting)
    watcher.start()
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for future in [pool.submit(kind, i) for kind, i in mixed_requests(client)]:
                future.result()
    finally:
        done.set()
        watcher.join()
    assert len(during) > 10
    assert all(prediction == before for prediction in during)
    assert predict(client) == before
    assert file_hashes() == files


def test_scenario_a_gives_the_first_pair_always(client):
    """BatchNorm with mean 0 and variance 1 after a gradient call that would have polluted them elsewhere."""
    x = np.array([[0.3], [0.4]], np.float32)
    for _ in range(3):
        y = client.infer("scenario_a", {"x": x})["y"].ravel()
        np.testing.assert_allclose(y, [0.29985, 0.3998], atol=5e-6)  # as printed in scenarios.md
        client.gradient("scenario_a", {"x": x}, O.unit("y", 0))


def test_this_suite_would_see_one_moved_statistic(tmp_path):
    """The negative control: the same checks on a model whose running mean has moved by one rounding step must fail."""
    import onnx

    model = onnx.load(MODELS / MODEL / "1" / "model.onnx")
    (mean,) = (tensor for tensor in model.graph.initializer if tensor.name == "stem.bn.running_mean")
    values = onnx.numpy_helper.to_array(mean).copy()
    values[0] = np.nextafter(values[0], np.float32(np.inf))
    mean.CopyFrom(onnx.numpy_helper.from_array(values, mean.name))
    moved = tmp_path / "moved.onnx"
    onnx.save(model, moved)
    from gradserve_server import Engine

    with Engine(moved) as polluted, Engine(MODELS / MODEL / "1" / "model.onnx") as pure:
        logits = [engine.infer(engine.models()[0].name, {"image": golden.digits()})["logits"] for engine in (polluted, pure)]
    assert logits[0].tobytes() != logits[1].tobytes()


@pytest.mark.parametrize("seed", [0, 1])
def test_an_ascent_repeats_to_the_bit_in_company(client, seed):
    """Same seed, same bytes, whatever else the server does."""
    settings = {"steps": 10, "seed": seed, "jitter": 2}
    alone = list(client.ascend(MODEL, O.unit("logits", 3), **settings))[-1].image.tobytes()
    with ThreadPoolExecutor(THREADS) as pool:
        images = pool.map(
            lambda _: list(client.ascend(MODEL, O.unit("logits", 3), **settings))[-1].image.tobytes(), range(THREADS)
        )
        assert set(images) == {alone}
