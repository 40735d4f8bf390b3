"""THE table of checks: what each code means, how bad it is, what it does and what repairs it.

A code never changes its meaning: scripts look for it. docs/doctor.md is this table, for people (a test compares them).
"""

from dataclasses import dataclass

from gradserve.diagnosis import Severity

ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


@dataclass(frozen=True)
class Check:
    """One row."""

    severity: Severity
    effect: str
    """A sentence."""
    repair: str = ""
    """Empty where there is nothing to repair."""


CHECKS: dict[str, Check] = {
    # ---- batchnorm.py
    "batchnorm-training-form": Check(
        ERROR,
        "Predictions depend on the other samples of the batch: it normalizes with the batch's own mean and variance, not "
        "with the running statistics, and alone a sample of size 1x1 becomes the offset, with gradient 0.",
        "`--fix` switches it to inference form; best export in evaluation mode.",
    ),
    "batchnorm-extra-outputs": Check(
        ERROR,
        "It gives its statistics to the rest of the graph, which exist only in training form: runtimes refuse the file.",
        "`--fix` drops them where nothing but the model's outputs needs them.",
    ),
    "batchnorm-statistics-not-constant": Check(
        ERROR,
        "Its running statistics are inputs or results, not constants: it is not known what it will normalize with.",
        "Export with the weights in the file.",
    ),
    "batchnorm-untrained": Check(
        WARNING,
        "Its running statistics are mean 0 and variance 1, as before any data: if it was trained, they were never written "
        "back, and predictions have nothing to do with those in training.",
        "`--fix OUT --repair recalibrate --data DATA` measures them on data; or write the trained state back and export.",
    ),
    "batchnorm-variance-invalid": Check(
        ERROR,
        "A running variance is negative or not finite, or a mean is not finite: the channel gives NaN or nonsense.",
        "`--fix OUT --repair recalibrate --data DATA`, or export again.",
    ),
    "batchnorm-variance-vanishing": Check(
        WARNING,
        "A running variance is far below epsilon: the channel was constant in training, and any other value is blown up.",
        "`--fix OUT --repair recalibrate --data DATA` if that is not what training saw.",
    ),
    "batchnorm-variance-huge": Check(
        WARNING,
        "A running variance is huge: training saw values that had exploded, and the channel is nearly constant now.",
        "Look at the training run; `--fix OUT --repair recalibrate --data DATA` if the data is another now.",
    ),
    "batchnorm-scale-dead": Check(
        WARNING,
        "A scale is zero: the channel is constant, whatever the input, and no gradient passes.",
        "None in the file: the channel was never trained, or pruned.",
    ),
    "batchnorm-epsilon-unusual": Check(
        INFO,
        "Its epsilon is far from the 1e-5 and 1e-3 that frameworks use: converters that lose it change predictions.",
        "Compare with the framework's layer.",
    ),
    "batchnorm-shared": Check(
        INFO,
        "Several nodes normalize with one set of statistics: those are an average over all that passed in training, or "
        "belong to one of the inputs only.",
        "`--fix OUT --repair recalibrate --data DATA` measures them over all uses.",
    ),
    "batchnorm-foldable": Check(
        INFO,
        "It can be folded into the operator before it, as gradserve does: faster, but the layer between them is gone.",
        "`--fix OUT --repair fold`.",
    ),
    # ---- randomness.py
    "dropout-training-form": Check(
        ERROR,
        "It drops values at random: each prediction is another, as it is in training.",
        "`--fix` removes it; best export in evaluation mode.",
    ),
    "dropout-mask-used": Check(
        ERROR,
        "The rest of the graph reads which values were dropped: that exists only in training form.",
        "Export in evaluation mode.",
    ),
    "random-op": Check(
        ERROR,
        "It makes random numbers: the same input gives another prediction each time.",
        "Make the noise an input of the model.",
    ),
    # ---- interface.py
    "softmax-at-end": Check(
        INFO,
        "The output is squashed: where it is nearly 0 or 1, its gradient vanishes. Ask for the layer before it.",
        "Use the layer that is named; or `--fix OUT --repair cut-softmax` makes it the output.",
    ),
    "normalization-in-graph": Check(
        INFO,
        "The graph normalizes its input itself: give it raw values, not normalized ones.",
    ),
    "normalization-undescribed": Check(
        INFO,
        "It takes a picture, and nothing says how pixels become numbers: with another range, mean or channel order than in "
        "training, predictions are wrong and ascents work in the wrong space.",
        "`--fix OUT --describe INPUT.mean='...' ...` writes it into the file; or config.pbtxt.",
    ),
    "layout-nhwc": Check(
        INFO,
        "The channels come last, and nothing says so: tools that believe NCHW feed it nonsense.",
        "`--fix OUT --describe INPUT.layout=NHWC`, or config.pbtxt.",
    ),
    "layout-contradicts-description": Check(
        ERROR,
        "The description says another layout than the sizes do: pictures are fed with their axes mixed up.",
        "Correct gradserve.input.INPUT.layout in config.pbtxt or the file.",
    ),
    "channel-order-reversed": Check(
        INFO,
        "There are signs that the network was trained on BGR, and nothing says which order the input has.",
        "`--fix OUT --describe INPUT.channels=BGR` (or RGB, where the graph itself turns them around).",
    ),
    "batch-fixed": Check(
        WARNING,
        "The batch size is fixed: other sizes are refused, and requests cannot share a run.",
        "`--fix` opens it where every sample's result stays the same.",
    ),
    # ---- differentiability.py
    "op-without-gradient": Check(
        WARNING,
        "There is no gradient through it: gradients and ascents of what lies behind are refused.",
        "Differentiate a layer before it.",
    ),
    "activation-zero-gradient": Check(
        WARNING,
        "It moves in jumps: its gradient is zero everywhere, and nothing is learnt about what lies before it.",
        "Differentiate a layer before it.",
    ),
    "gradient-cut": Check(
        WARNING,
        "An output depends on the input by it, but only in jumps: there is no gradient of that output.",
        "Differentiate a layer before it.",
    ),
    # ---- file.py
    "opset-too-old": Check(
        ERROR,
        "The opset is older than any that onnxruntime runs (7).",
        "`--fix` converts it.",
    ),
    "opset-too-new": Check(
        WARNING,
        "The opset is newer than the installed onnxruntime loads; gradserve converts it at each load.",
        "`--fix` converts it, or install a newer onnxruntime.",
    ),
    "ir-too-new": Check(
        WARNING,
        "The file format is newer than onnxruntime-training reads; gradserve brings it down at each load.",
        "`--fix` writes the older one.",
    ),
    "external-data": Check(
        INFO,
        "Weights lie in other files: they must come along wherever the model goes.",
        "`--fix` writes one file, where it is small enough.",
    ),
    "weights-not-finite": Check(
        ERROR,
        "A weight is NaN or infinite: so is whatever it touches.",
        "Training diverged: take an earlier checkpoint.",
    ),
    "load-refused": Check(
        ERROR,
        "gradserve cannot serve the file.",
        "As the reason says.",
    ),
    # ---- runtime/doctor
    "run-failed": Check(
        ERROR,
        "It breaks off when it runs.",
        "Give it data of the sizes that it was made for; export with open sizes where it should take others.",
    ),
    "forms-disagree": Check(
        ERROR,
        "The file as it is predicts otherwise than its inference form, which is what gradserve serves.",
        "`--fix` writes the inference form; check that this is the one whose accuracy you know.",
    ),
    "batch-dependent": Check(
        ERROR,
        "A sample's prediction depends on its neighbours: f([a, b])[0] is not f([a]).",
        "Switch what normalizes over the batch to inference form; what mixes samples by design needs a batch of one.",
    ),
    "not-deterministic": Check(
        ERROR,
        "Two runs on the same input differ.",
        "Remove what is random: see the other findings.",
    ),
    "output-not-finite": Check(
        ERROR,
        "A prediction is NaN or infinite.",
        "Look at the other findings; otherwise weights or inputs are out of range.",
    ),
    "batchnorm-statistics-conflict": Check(
        ERROR,
        "Its running statistics are far from those of the given data: what follows sees values that training never saw. The "
        "input is normalized otherwise, or the statistics were never written back or belong to other data.",
        "Check the input's normalization first (the first node in conflict is the cause); then `--fix OUT --repair "
        "recalibrate --data DATA`. Switching to training form would only hide it.",
    ),
    "data-outside-range": Check(
        WARNING,
        "The given data lies outside of what the input's description allows: it was normalized otherwise, or not at all.",
        "Normalize it as the description says.",
    ),
    "relu-dead": Check(
        WARNING,
        "Nearly all of its units are 0 for all of the data: no gradient passes, and pictures of them stay grey.",
        "Check the input's normalization; ascend on layers before it.",
    ),
    "gradient-zero": Check(
        WARNING,
        "The gradient of the output with respect to the input is exactly zero for all of the data.",
        "Take the layer before the saturation; see dead ReLUs and zero-gradient operators.",
    ),
    "gradient-not-finite": Check(
        ERROR,
        "The gradient is NaN or infinite where the prediction is not.",
        "Look for square roots and logarithms at 0, or divisions by it.",
    ),
    "gradient-disagrees": Check(
        ERROR,
        "The gradient is not what small changes of the input do to the output.",
        "Operators that jump have another gradient than their differences; otherwise report it.",
    ),
    "impure": Check(
        ERROR,
        "Predictions or weights were others after gradients than before.",
        "Report it: this must not happen.",
    ),
}
