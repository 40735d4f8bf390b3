// What a fused program is made of; each SIMD target has its own loops.
#pragma once

#include "kernels/types.h"

namespace gradserve {

// Reductions add element i of a row to lane i mod kSumLanes, on every target.
inline constexpr Index kSumLanes = 16;

struct Instruction {
  const char* name;
  int operands;
  // to[i] = f(a[i], b[i], c[i]); operands that it does not have are null.
  void (*run)(float* to, const float* a, const float* b, const float* c, Index count);
};

}  // namespace gradserve
