"""Operators that are proven zero, with the reason, and operators without a rule, with the reason."""

from gradserve_server.graph.autodiff.rules import proven_zero, unsupported

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
proven_zero(
    "indices are piecewise constant",
    {"ArgMax": (13,), "ArgMin": (13,), "NonMaxSuppression": (11,), "NonZero": (13,)},
)
proven_zero(
    "does not depend on values",
    {
        "ConstantOfShape": (9, 20, 21, 23, 24, 25),
        "EyeLike": (9, 22),
        "RandomNormalLike": (1, 22),
        "RandomUniformLike": (1, 22),
    },
)
proven_zero(
    "has no inputs",
    {"Constant": (13, 19, 21, 23, 24, 25), "RandomNormal": (1, 22), "RandomUniform": (1, 22)},
)
proven_zero(
    # The expected value does have a derivative, which no single draw knows. Autograd systems give zero, too.
    "what is drawn changes only in jumps as the probabilities change",
    {"Bernoulli": (15, 22), "Multinomial": (7, 22)},
)
proven_zero(
    "integers have no derivative",
    {"BitShift": (11, 28), "BitwiseAnd": (18,), "BitwiseNot": (18,), "BitwiseOr": (18,), "BitwiseXor": (18,)},
)
proven_zero(
    "reads text, bytes or integers, which have no derivative",
    {
        "ImageDecoder": (20,),
        "RegexFullMatch": (20,),
        "StringConcat": (20,),
        "StringNormalizer": (10,),
        "StringSplit": (20,),
        "TfIdfVectorizer": (9,),
    },
)
unsupported("deprecated, and no operator of opset 18; ScatterElements took its place", {"Scatter": (11,)})
unsupported("deprecated, and no operator of opset 18; Resize took its place", {"Upsample": (10,)})
