// The instructions of fused programs: one loop each, over numbers that lie in the L1 cache.
#pragma once

#include "kernels/fused/instructions.h"
#include "kernels/simd/loops.h"
#include "kernels/simd/math.h"

namespace gradserve {
namespace {

// The destination may be one of the sources, element for element.
template <typename F>
inline void each(float* to, const float* a, Index count, const F& f) {
  GRADSERVE_INDEPENDENT
  for (Index i = 0; i < count; ++i) to[i] = f(a[i]);
}

template <typename F>
inline void each(float* to, const float* a, const float* b, Index count, const F& f) {
  GRADSERVE_INDEPENDENT
  for (Index i = 0; i < count; ++i) to[i] = f(a[i], b[i]);
}

template <typename F>
inline void each(float* to, const float* a, const float* b, const float* c, Index count, const F& f) {
  GRADSERVE_INDEPENDENT
  for (Index i = 0; i < count; ++i) to[i] = f(a[i], b[i], c[i]);
}

// The larger; NaN if either is.
inline float larger(float a, float b) {
  return (a < b || b != b) ? b : a;
}

inline float smaller(float a, float b) {
  return (b < a || b != b) ? b : a;
}

#define GRADSERVE_UNARY(name, expression)                                                     \
  void name(float* to, const float* a, const float* /*b*/, const float* /*c*/, Index count) { \
    each(to, a, count, [](float x) { return expression; });                                   \
  }
#define GRADSERVE_BINARY(name, expression)                                                \
  void name(float* to, const float* a, const float* b, const float* /*c*/, Index count) { \
    each(to, a, b, count, [](float x, float y) { return expression; });                   \
  }
#define GRADSERVE_TERNARY(name, expression)                                           \
  void name(float* to, const float* a, const float* b, const float* c, Index count) { \
    each(to, a, b, c, count, [](float x, float y, float z) { return expression; });   \
  }

namespace instruction {
GRADSERVE_UNARY(copy, x)
GRADSERVE_UNARY(neg, -x)
GRADSERVE_UNARY(abs, magnitude(x))
GRADSERVE_UNARY(relu, x < 0.0F ? 0.0F : x)
GRADSERVE_UNARY(sqrt, __builtin_sqrtf(x))
GRADSERVE_UNARY(reciprocal, 1.0F / x)
GRADSERVE_UNARY(exp, exponential(x))
GRADSERVE_UNARY(sigmoid, logistic(x))
GRADSERVE_UNARY(tanh, hyperbolic_tangent(x))
GRADSERVE_UNARY(erf, error_function(x))
GRADSERVE_BINARY(add, x + y)
GRADSERVE_BINARY(sub, x - y)
GRADSERVE_BINARY(mul, x* y)
GRADSERVE_BINARY(div, x / y)
GRADSERVE_BINARY(max, larger(x, y))
GRADSERVE_BINARY(min, smaller(x, y))
GRADSERVE_BINARY(leaky_relu, x < 0.0F ? x * y : x)
// Unordered comparisons are false: a NaN passes through all three.
GRADSERVE_TERNARY(clip, (x < y ? y : x) > z ? z : (x < y ? y : x))
GRADSERVE_TERNARY(hard_sigmoid, (x * y + z < 0.0F ? 0.0F : (x * y + z > 1.0F ? 1.0F : x * y + z)))
}  // namespace instruction

#undef GRADSERVE_UNARY
#undef GRADSERVE_BINARY
#undef GRADSERVE_TERNARY

// lanes[i mod kSumLanes] += values[i]
void sum_lanes(const float* values, Index count, float* lanes) {
  const Index whole = count - count % kSumLanes;
  for (Index i = 0; i < whole; i += kSumLanes) {
    for (Index lane = 0; lane < kSumLanes; ++lane) lanes[lane] += values[i + lane];
  }
  for (Index i = whole; i < count; ++i) lanes[i - whole] += values[i];
}

constexpr Instruction kInstructions[] = {
#define GRADSERVE_INSTRUCTION(name, arity) {#name, arity, instruction::name},
#include "kernels/fused/instructions.inc"
#undef GRADSERVE_INSTRUCTION
};

}  // namespace
}  // namespace gradserve
