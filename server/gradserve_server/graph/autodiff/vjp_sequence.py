"""Sequences and optional values: the walk follows tensors."""

from gradserve_server.graph.autodiff.rules import proven_zero, unsupported

unsupported(
    "its value is a sequence, and the walk follows tensors; export the model without lists of tensors",
    {
        "ConcatFromSequence": (11,),
        "SequenceAt": (11,),
        "SequenceConstruct": (11,),
        "SequenceErase": (11,),
        "SequenceInsert": (11,),
        "SequenceMap": (17,),
        "SplitToSequence": (11, 24),
    },
)
unsupported(
    "its value may be missing, and the walk follows tensors",
    {"Optional": (15, 28), "OptionalGetElement": (18, 28)},
)
proven_zero(
    "does not depend on values",
    {"OptionalHasElement": (18, 28), "SequenceEmpty": (11,), "SequenceLength": (11,)},
)
