"""Operators that are proven zero, with the reason, and operators without a rule, with the reason."""

from gradserve_server.graph.autodiff.rules import proven_zero

proven_zero(
    "a shape does not depend on values",
    {"Shape": (15, 19, 21, 23, 24, 25), "Size": (13, 19, 21, 23, 24, 25)},
)
proven_zero(
    "truth values are piecewise constant",
    {
        "And": (7,),
        "Equal": (13, 19),
        "Greater": (13,),
        "GreaterOrEqual": (16,),
        "IsInf": (10, 20),
        "IsNaN": (13, 20),
        "Less": (13,),
        "LessOrEqual": (16,),
        "Not": (1,),
        "Or": (7,),
        "Xor": (7,),
    },
)
proven_zero("piecewise constant", {"Ceil": (13,), "Floor": (13,), "Round": (11, 22), "Sign": (13,)})
proven_zero("indices are piecewise constant", {"ArgMax": (13,), "ArgMin": (13,), "NonZero": (13,)})
proven_zero("does not depend on values", {"ConstantOfShape": (9, 20, 21, 23, 24, 25), "EyeLike": (9, 22)})
