"""What makes two predictions of one input differ: Dropout that drops, operators that draw random numbers."""

from collections.abc import Iterator

from gradserve.diagnosis import Finding
from gradserve_server.graph.doctor.finding import finding
from gradserve_server.graph.doctor.subject import Subject
from gradserve_server.graph.inference_form.switch_mode import dropout_trains, used
from gradserve_server.graph.values import constant

RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


def randomness(subject: Subject) -> Iterator[Finding]:
    """Every node that is random."""
    for node in subject.nodes("Dropout"):
        if dropout_trains(node, subject.opset):
            mode = node.inputs[2] if len(node.inputs) > 2 else None
            spelling = "is_test = 0" if mode is None else "training_mode true"
            known = mode is None or constant(mode) is not None
            yield finding("dropout-training-form", node, spelling if known else "training_mode is not a constant")
        if used(node.outputs[1:]):
            yield finding("dropout-mask-used", node)
    for node in subject.nodes(*RANDOM):
        yield finding("random-op", node, node.op_type)
