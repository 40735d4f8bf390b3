"""The steps of scikit-learn's pipelines that have a gradient. What is not here is refused, by name.

A step is here if its output moves with its input wherever the input is, kinks excepted, and skl2onnx writes it right. Trees,
neighbours and bins predict in steps: their gradient is zero nearly everywhere, and an ascent on it goes nowhere. skl2onnx
1.20 writes LinearDiscriminantAnalysis of two classes and PLSRegression of one target wrong, as the verification found.
"""

from collections.abc import Iterator
from typing import Any

from gradserve.errors import UnsupportedGradient

CONTAINERS = {"ColumnTransformer": "transformers_", "FeatureUnion": "transformer_list", "Pipeline": "steps"}
"""Steps that are made of steps, and the attribute with their (name, step, ...)."""

TRANSFORMS = frozenset({
    "FunctionTransformer", "IncrementalPCA", "MaxAbsScaler", "MinMaxScaler", "Normalizer", "PCA", "PolynomialFeatures",
    "RobustScaler", "StandardScaler", "TruncatedSVD",
})  # fmt: skip
CLASSIFIERS = frozenset({
    "LogisticRegression", "LogisticRegressionCV", "MLPClassifier", "RidgeClassifier",
    "RidgeClassifierCV", "SGDClassifier",
})  # fmt: skip
REGRESSORS = frozenset({
    "ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "HuberRegressor", "Lars", "Lasso", "LassoCV",
    "LassoLars", "LinearRegression", "LinearSVR", "MLPRegressor", "PoissonRegressor", "Ridge",
    "RidgeCV", "SGDRegressor", "TheilSenRegressor", "TweedieRegressor",
})  # fmt: skip
DIFFERENTIABLE = TRANSFORMS | CLASSIFIERS | REGRESSORS


def check_steps(pipeline: Any) -> None:
    """Makes sure that every step has a gradient, and is fitted on plain arrays.

    Raises:
        UnsupportedGradient: One has none; the text names all of them.
    """
    refused = [f"{path} ({kind})" for path, kind in _steps("", pipeline) if kind not in DIFFERENTIABLE]
    if refused:
        msg = (
            f"steps of the pipeline: expected only such as have a gradient, got {', '.join(refused)}. "
            f"Those that have one: {', '.join(sorted(DIFFERENTIABLE))}"
        )
        raise UnsupportedGradient(msg)


def _steps(path: str, step: Any) -> Iterator[tuple[str, str]]:
    """Every step that is made of no others: where it is, and its class."""
    kind = type(step).__name__
    if kind not in CONTAINERS:
        if not isinstance(step, str) and step is not None:  # "passthrough" and "drop" have a gradient
            where = f"step '{path}'" if path else "the estimator"
            is_known = type(step).__module__.startswith("sklearn.")
            yield where, kind if is_known else f"{kind}, which is not scikit-learn's"
        return
    parts = getattr(step, CONTAINERS[kind], None) or getattr(step, CONTAINERS[kind].rstrip("_"))
    for name, part, *_ in parts:
        yield from _steps(f"{path}.{name}".lstrip("."), part)
