"""Every tolerance that a test uses, with its reason. All are relative errors in the L2 norm unless they say otherwise."""

TOLERANCE = {
    # 24 bits of mantissa, and a few dozen roundings in one operator.
    "float32 operator": 2e-5,
    # The same after twice as many roundings, and the cancellation of a difference of products.
    "float32 second derivative": 1e-4,
    # Sums of a few products in each of two to four passes, of 97 at most for a prime. Measured 2e-7.
    "float32 Fourier transform": 2e-6,
    # A central difference of float32 values: rounding of 1e-7 over a step of 1e-3 or more, and some curvature.
    "float32 finite differences": 1e-2,
    # Promised by the issue that built it: a float32 gradient of the digits model agrees with float64 to this.
    "float32 network": 1e-5,
    # Promised for a full-size network: ResNet-50's float32 gradient agrees with float64 on the same linear piece to this.
    "full-size network": 1e-4,
    # float64 throughout: rounding of 1e-16, which 50 layers multiply. Measured 1e-11; a wrong rule is 1e-2 or more.
    "float64 network": 1e-9,
    # onnxruntime chooses other kernels for another batch size, so the last bits differ.
    "another batch size": 1e-5,
    # The same after eight steps, each from where the last one ended, which multiplies it. (Measured: the same bytes.)
    "steps with another batch size": 1e-4,
    # Of each element to the output's largest: folding reorders a few roundings of 53, 24 or 11 bits.
    "rewritten float64": 1e-12,
    "rewritten float32": 2e-6,
    "rewritten float16": 1e-2,
    # Of each element: half a unit in the last place (2**-24), and that of the float64 computation is nothing.
    "rounded once to float32": 6e-8,
    # Of each element: (x - mean) / std against (x - mean) * (1 / std), and back: four roundings of 2**-24.
    "normalized twice": 5e-7,
    # In standard deviations: five standard errors of a mean of 64 images of 60 pixels, 5 / sqrt(3840).
    "mean of 3840 normal numbers": 0.081,
    # Relative: five standard errors of a standard deviation, 5 / sqrt(2 * 3840).
    "deviation of 3840 normal numbers": 0.058,
}
