"""scikit-learn: pipelines of differentiable steps, written by skl2onnx in standard operators.

scikit-learn has no gradients of its own, so they come from central differences of its float64 predictions.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from gradserve.errors import InvalidModel, InvalidParameter
from gradserve_server.export.extras import need
from gradserve_server.export.frameworks.exportable import Array, Evaluation
from gradserve_server.export.frameworks.sklearn_steps import check_steps
from gradserve_server.export.onnx_file import finish
from gradserve_server.export.settings import Input, Settings

__all__ = ["Pipeline", "adapt", "read"]

TRUSTED = tuple(f"sklearn.neural_network._stochastic_optimizers.{name}" for name in ("AdamOptimizer", "SGDOptimizer"))
"""Classes in a .skops file that skops does not trust by itself, and that do nothing as they are read: what fitted an MLP."""

ML_DOMAIN, ML_OPSET = "ai.onnx.ml", 3
FORBIDDEN = frozenset({
    "Binarizer", "CategoryMapper", "DictVectorizer", "FeatureVectorizer", "Imputer", "LabelEncoder", "LinearClassifier",
    "LinearRegressor", "Normalizer", "OneHotEncoder", "SVMClassifier", "SVMRegressor", "Scaler", "TreeEnsembleClassifier",
    "TreeEnsembleRegressor",
})  # fmt: skip
"""Operators of `ai.onnx.ml`, instead of which skl2onnx has to write standard ones: those have gradients."""

STEP = 1e-6
"""Of a central difference, relative to the size of the inputs: truncation and rounding are both near 1e-10 in float64."""

VERBS = {
    "predict_proba": "probabilities",
    "decision_function": "scores",
    "predict": "prediction",
    "transform": "features",
}
"""What a pipeline is asked for, the first that it has, and what the output is called then."""


def read(file: Path) -> Any:
    """Reads a .skops file without running what is in it.

    Raises:
        InvalidParameter: It has classes in it that are not known to be safe; the text names them.
    """
    skops = need("skops.io")
    try:
        unknown = sorted(set(skops.get_untrusted_types(file=file)) - set(TRUSTED))
        if not unknown:
            return skops.load(file, trusted=list(TRUSTED))
    except Exception as error:
        msg = f"model file '{file.name}': expected one that skops reads, got: {error}"
        raise InvalidParameter(msg) from error
    msg = f"model file '{file.name}': expected safe classes only, got {', '.join(unknown)}: give a factory that reads it"
    raise InvalidParameter(msg)


def adapt(estimator: Any, settings: Settings) -> "Pipeline":
    """A fitted pipeline or estimator, ready to be exported.

    Raises:
        UnsupportedGradient: A step has no gradient.
        InvalidParameter: It is not fitted, or settings that do not fit it.
    """
    check_steps(estimator)
    for setting in ("weights", "exporter", "fixed_batch"):
        if settings.get(setting):
            msg = f"{setting}: expected none, because a fitted pipeline has no use for it"
            raise InvalidParameter(msg)
    return Pipeline(estimator, settings)


class Pipeline:
    """An `Exportable` of scikit-learn.

    Args:
        estimator: Fitted, on arrays [N, features] of numbers.
        settings: Of the export.
    """

    framework, exporter = "scikit-learn", "skl2onnx"

    def __init__(self, estimator: Any, settings: Settings) -> None:
        self._estimator = estimator
        features = getattr(estimator, "n_features_in_", None)
        if features is None:
            msg = f"pipeline: expected a fitted one, got {type(estimator).__name__} without n_features_in_"
            raise InvalidParameter(msg)
        asked = settings.get("inputs") or [Input((1, features))]
        self.inputs = [replace(one, name=one.name or "x") for one in asked]
        if [(one.shape[1:], one.dtype) for one in self.inputs] != [((features,), "float32")]:
            got = ", ".join(f"{one.dtype} {list(one.shape)}" for one in self.inputs)
            msg = f"inputs: expected one, float32 [N, {features}], got {got}"
            raise InvalidParameter(msg)
        self._verb = next(verb for verb in VERBS if hasattr(estimator, verb))
        outputs = tuple(settings.get("outputs", ())) or (VERBS[self._verb],)
        if len(outputs) != 1:
            msg = f"outputs: expected one name, got {', '.join(outputs)}"
            raise InvalidParameter(msg)
        self.outputs = outputs
        self.labels = tuple(map(str, getattr(estimator, "classes_", ())))
        self.notes: list[str] = []

    def draw(self, random: np.random.Generator, samples: int) -> dict[str, Array] | None:
        """Normally distributed where the first step puts its zero and its one."""
        (given,) = self.inputs
        shape = (samples, given.shape[1])
        steps = getattr(self._estimator, "steps", ())
        invert = getattr(steps[0][1], "inverse_transform", None) if steps else None
        width = getattr(steps[0][1], "n_components_", given.shape[1]) if steps else given.shape[1]
        if invert is None or width != given.shape[1]:
            return {given.name: random.normal(size=shape)}
        return {given.name: np.asarray(invert(random.normal(size=shape)), np.float64)}

    def compare_forms(self, feeds: Mapping[str, Array]) -> str:
        """There is no training form."""
        del feeds
        return ""

    def write(self, path: Path, opset: int, *, fixed_batch: bool) -> None:
        """See `Exportable`. skl2onnx says as little of the opset asked for as the operators need."""
        del fixed_batch  # was refused
        (given,), (output,) = self.inputs, self.outputs
        skl2onnx, types = need("skl2onnx"), need("skl2onnx.common.data_types")
        last = self._estimator.steps[-1][1] if hasattr(self._estimator, "steps") else self._estimator
        options = {"predict_proba": {"zipmap": False}, "decision_function": {"raw_scores": True}}.get(self._verb)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                proto = skl2onnx.convert_sklearn(
                    self._estimator,
                    initial_types=[(given.name, types.FloatTensorType([None, given.shape[1]]))],
                    options={id(last): options} if options else None,
                    target_opset={"": opset, ML_DOMAIN: ML_OPSET},
                    black_op=set(FORBIDDEN),
                )
        except Exception as error:
            msg = f"skl2onnx cannot write the pipeline in standard operators: {' '.join(str(error).split())[:300]}"
            raise InvalidModel(msg) from error
        model = ir.from_proto(proto)
        _keep_scores(model, output)
        finish(model, path, inputs=[given.name], outputs=[output], opset=opset, batched=[output])

    def evaluate(self, feeds: Mapping[str, Array], cotangents: Mapping[str, Array], *, double: bool) -> Evaluation:
        """See `Exportable`. Always in float64."""
        del double
        (given,), (output,) = self.inputs, self.outputs
        x = np.asarray(feeds[given.name], np.float64)
        gradients = {
            name: {given.name: _differences(self._predict, x, np.asarray(v, np.float64))} for name, v in cotangents.items()
        }
        return Evaluation({output: self._predict(x)}, gradients)

    def _predict(self, x: Array) -> Array:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of feature names, where it was fitted on a data frame
            result = np.asarray(getattr(self._estimator, self._verb)(x), np.float64)
        if self._verb == "decision_function" and result.ndim == 1:
            return np.stack([-result, result], axis=1)  # two classes have one score; the file has one for each
        return result.reshape(len(x), -1)


def _differences(function: Callable[[Array], Array], x: Array, v: Array) -> Array:
    """J^T v of each row, by central differences: f(x + h e_i) and f(x - h e_i) for each feature i."""
    samples, features = x.shape
    h = STEP * np.maximum(np.abs(x).max(axis=0), 1.0)
    moves = np.diag(h)
    columns = []
    for sample, cotangent in zip(x, v, strict=True):
        ahead, behind = function(sample + moves), function(sample - moves)
        columns.append((ahead - behind) @ cotangent / (2 * h))
    return np.asarray(columns).reshape(samples, features)


def _keep_scores(model: ir.Model, output: str) -> None:
    """Leaves the scores only, the last output: the label has no gradient.

    What `ai.onnx.ml` calls ArrayFeatureExtractor(x, indices) becomes the standard's Gather along the last axis.
    """
    graph = model.graph
    kept = graph.outputs[-1]
    graph.outputs.clear()
    graph.outputs.append(kept)
    for node in list(graph):
        if (node.domain, node.op_type) == (ML_DOMAIN, "ArrayFeatureExtractor"):
            node.domain, node.op_type = "", "Gather"
            node.attributes["axis"] = ir.AttrInt64("axis", -1)
    ir.passes.common.RemoveUnusedNodesPass()(model)
    ir.passes.common.RemoveUnusedOpsetsPass()(model)
    kept.name = output
    others = sorted({f"{node.domain}.{node.op_type}" for node in graph.all_nodes() if node.domain})
    if others:
        msg = f"skl2onnx wrote operators without a gradient: {', '.join(others)}"
        raise InvalidModel(msg)
