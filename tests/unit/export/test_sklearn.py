"""scikit-learn: every step that is said to have a gradient is exported and verified; every other one is refused by name."""

import warnings

import numpy as np
import pytest

from gradserve.errors import InvalidModel, InvalidParameter, UnsupportedGradient
from gradserve_server import Engine
from gradserve_server.export import Input, export_model
from gradserve_server.export.frameworks import sklearn_pipelines, sklearn_steps

sklearn = pytest.importorskip("sklearn", reason="gradserve-server[export-sklearn]")
pytest.importorskip("skl2onnx", reason="gradserve-server[export-sklearn]")
skops = pytest.importorskip("skops.io", reason="gradserve-server[export-sklearn]")
from sklearn import linear_model, preprocessing, tree  # noqa: E402
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from sklearn.pipeline import FeatureUnion, make_pipeline  # noqa: E402
from sklearn.utils import all_estimators  # noqa: E402

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(2.0, 3.0, size=(60, 5))
Y = X @ RANDOM.normal(size=5)
CLASSES = np.digitize(Y, np.quantile(Y, [1 / 3, 2 / 3]))
SETTINGS = {
    "MLPClassifier": {"hidden_layer_sizes": (8,), "max_iter": 30, "random_state": 0},
    "MLPRegressor": {"hidden_layer_sizes": (8,), "activation": "tanh", "max_iter": 30, "random_state": 0},
    "PCA": {"n_components": 3, "whiten": True},
    "IncrementalPCA": {"n_components": 3},
    "TruncatedSVD": {"n_components": 3},
    "SGDClassifier": {"loss": "log_loss", "alpha": 1.0, "random_state": 0},
    "SGDRegressor": {"random_state": 0},
    "TheilSenRegressor": {"random_state": 0},
    "LogisticRegressionCV": {"use_legacy_attributes": False},
}
ESTIMATORS = {name: cls for name, cls in all_estimators() if name in sklearn_steps.DIFFERENTIABLE}


def fitted(*steps, y=Y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they have not converged
        return make_pipeline(*steps).fit(X, y)


def estimator(name):
    return ESTIMATORS[name](**SETTINGS.get(name, {}))


@pytest.fixture
def export(tmp_path, monkeypatch):
    """Exports a pipeline that is there already."""

    def run(pipeline, **settings):
        monkeypatch.setattr("gradserve_server.export.frameworks.make", lambda _subject, _arguments: pipeline)
        return export_model("here:pipeline", tmp_path / "repository", **settings)

    return run


def test_the_table_has_scikit_learns_names():
    assert ESTIMATORS.keys() == sklearn_steps.DIFFERENTIABLE
    assert not sklearn_steps.TRANSFORMS & (sklearn_steps.CLASSIFIERS | sklearn_steps.REGRESSORS)


@pytest.mark.parametrize("name", sorted(sklearn_steps.TRANSFORMS))
def test_a_transform_is_exported(export, name):
    steps = () if name in {"StandardScaler"} else (preprocessing.StandardScaler(),)
    report = export(fitted(*steps, estimator(name)))
    assert [tensor.name for tensor in report.outputs] == ["features"]
    check(report)


@pytest.mark.parametrize("name", sorted(sklearn_steps.REGRESSORS))
def test_a_regressor_is_exported(export, name):
    y = np.abs(Y) + 1 if name in {"PoissonRegressor", "TweedieRegressor"} else Y
    report = export(fitted(preprocessing.StandardScaler(), estimator(name), y=y))
    assert [tensor.name for tensor in report.outputs] == ["prediction"]
    check(report)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", sorted(sklearn_steps.CLASSIFIERS))
def test_a_classifier_is_exported_with_its_labels(export, tmp_path, name, classes):
    names = np.asarray(["low", "middle", "high"])[np.minimum(CLASSES, classes - 1)]
    pipeline = fitted(preprocessing.StandardScaler(), estimator(name), y=names)
    report = export(pipeline)
    check(report)
    with Engine(tmp_path / "repository") as engine:
        (output,) = engine.inspect("pipeline").outputs
        got = engine.infer("pipeline", {"x": X[:4].astype(np.float32)})[output.name]
    assert output.labels == tuple(sorted(set(names)))
    assert [output.labels[index] for index in got.argmax(axis=1)] == list(pipeline.predict(X[:4]))


def check(report):
    assert [check.what for check in report.checks] == [report.outputs[0].name, f"d {report.outputs[0].name} / d x"]
    for row in report.checks:
        assert row.difference <= row.allowed
        assert not row.is_zero, "a gradient that has vanished proves nothing"
    assert report.framework == "scikit-learn"
    assert report.exporter == "skl2onnx"
    assert report.inputs[0].shape[0] == "batch"


def test_pipelines_of_pipelines(export):
    union = FeatureUnion([("a", preprocessing.StandardScaler()), ("b", estimator("PCA"))])
    columns = ColumnTransformer([("c", preprocessing.MinMaxScaler(), [0, 2]), ("d", "drop", [1])], remainder="passthrough")
    check(export(fitted(columns, union, linear_model.Ridge())))


@pytest.mark.parametrize(
    ("steps", "named"),
    [
        ([tree.DecisionTreeRegressor()], r"step 'decisiontreeregressor' \(DecisionTreeRegressor\)"),
        ([preprocessing.KBinsDiscretizer(3), linear_model.Ridge()], r"step 'kbinsdiscretizer' \(KBinsDiscretizer\)"),
        (
            [FeatureUnion([("a", preprocessing.Binarizer()), ("b", preprocessing.StandardScaler())]), linear_model.Ridge()],
            r"step 'featureunion.a' \(Binarizer\)",
        ),
    ],
)
def test_a_step_without_a_gradient_is_refused_by_name(export, tmp_path, steps, named):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = fitted(*steps)
    with pytest.raises(UnsupportedGradient, match=f"expected only such as have a gradient, got {named}"):
        export(pipeline)
    assert not (tmp_path / "repository").exists()


@pytest.mark.filterwarnings("ignore:Class .* is deprecated:FutureWarning")
def test_every_estimator_is_in_the_table_or_refused():
    class Ridge(linear_model.Ridge):
        """Not scikit-learn's, whatever its name."""

    with pytest.raises(UnsupportedGradient, match=r"the estimator \(Ridge, which is not scikit-learn's\)"):
        sklearn_steps.check_steps(Ridge())
    refused = [(name, cls) for name, cls in all_estimators() if name not in ESTIMATORS]
    for name, cls in refused:
        if name not in sklearn_steps.CONTAINERS:
            with pytest.raises(UnsupportedGradient, match=name):
                sklearn_steps.check_steps(cls.__new__(cls))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"inputs": [Input((1, 4))]}, r"inputs: expected one, float32 \[N, 5\], got float32 \[1, 4\]"),
        ({"inputs": [Input((1, 5)), Input((1, 5))]}, "inputs: expected one"),
        ({"outputs": ["a", "b"]}, "outputs: expected one name, got a, b"),
        ({"weights": "w.pt"}, "weights: expected none, because a fitted pipeline has no use for it"),
        ({"exporter": "dynamo"}, "exporter: expected none"),
        ({"fixed_batch": True}, "fixed_batch: expected none"),
        ({"labels": "ab"}, "labels: expected 3"),
    ],
)
def test_settings_that_do_not_fit(export, settings, said):
    pipeline = fitted(preprocessing.StandardScaler(), linear_model.LogisticRegression(), y=CLASSES)
    with pytest.raises(InvalidParameter, match=said):
        export(pipeline, **settings)


def test_names_and_opset(export):
    report = export(
        fitted(preprocessing.StandardScaler(), linear_model.Ridge()), inputs=[Input((1, 5), "f")], outputs=["y"], opset=15
    )
    assert (report.inputs[0].name, report.outputs[0].name) == ("f", "y")
    assert report.opset <= 15


def test_what_is_not_fitted_or_not_writable(export):
    with pytest.raises(InvalidParameter, match="pipeline: expected a fitted one"):
        export(make_pipeline(linear_model.Ridge()))
    with pytest.raises(InvalidModel, match="skl2onnx cannot write the pipeline in standard operators"):
        export(fitted(preprocessing.FunctionTransformer(np.sinh), linear_model.Ridge()))


def test_a_skops_file(tmp_path):
    mlp = MLPClassifier((8,), max_iter=5, random_state=0)
    skops.dump(fitted(preprocessing.StandardScaler(), mlp, y=CLASSES), tmp_path / "iris.skops")
    report = export_model(str(tmp_path / "iris.skops"), tmp_path / "repository")
    assert report.model == "iris"
    check(report)


def test_a_skops_file_with_other_classes_in_it_is_not_read(tmp_path):
    skops.dump(fitted(tree.DecisionTreeRegressor()), tmp_path / "tree.skops")
    with pytest.raises(
        InvalidParameter, match=r"model file 'tree.skops': expected safe classes only, got sklearn.tree._tree.Tree"
    ):
        sklearn_pipelines.read(tmp_path / "tree.skops")
    (tmp_path / "no.skops").write_bytes(b"no")
    with pytest.raises(InvalidParameter, match="model file 'no.skops': expected one that skops reads"):
        sklearn_pipelines.read(tmp_path / "no.skops")
    for name in sklearn_pipelines.TRUSTED:
        module, _, cls = name.rpartition(".")
        assert hasattr(__import__(module, fromlist=[cls]), cls)
