// Sixteen float64 accumulator lanes, whatever the vector width of the target.
//
// Element i of a block goes to lane i mod 16, on every target. A target holds the lanes in 16 / kWidth native
// vectors, so a wider target does the same additions in the same order, only more of them at a time.
#pragma once

#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/types.h"

namespace gradserve {
namespace {

#if defined(GRADSERVE_SCALAR)
using Doubles = double;
#elif defined(__AVX512F__)
using Doubles = double __attribute__((vector_size(64)));
#elif defined(__AVX2__)
using Doubles = double __attribute__((vector_size(32)));
#else
using Doubles = double __attribute__((vector_size(16)));
#endif

constexpr int kLanes = 16;
constexpr int kWidth = sizeof(Doubles) / 8;  // float64 per vector
constexpr int kVectors = kLanes / kWidth;

// The next kWidth values as float64. Intrinsics, because GCC 12 converts generic vectors in halves.
inline Doubles widen(const float* values) {
#if defined(GRADSERVE_SCALAR)
  return *values;
#elif defined(__AVX512F__)
  // Zero-masking with a full mask: GCC 12's plain form warns of an uninitialized value (GCC bug 105593).
  return _mm512_maskz_cvtps_pd(0xFF, _mm256_loadu_ps(values));
#elif defined(__AVX2__)
  return _mm256_cvtps_pd(_mm_loadu_ps(values));
#else
  float floats __attribute__((vector_size(sizeof(Doubles) / 2)));
  std::memcpy(&floats, values, sizeof floats);
  return __builtin_convertvector(floats, Doubles);
#endif
}

// sum + x², for an x that was a float32: its square is exact in float64, so fusing the two changes no bit.
template <typename V>
inline V plus_exact_square(V sum, V x) {
  return sum + x * x;
}
#if defined(GRADSERVE_SCALAR)
#elif defined(__AVX512F__)
inline Doubles plus_exact_square(Doubles sum, Doubles x) {
  return _mm512_fmadd_pd(x, x, sum);
}
#elif defined(__AVX2__) && defined(__FMA__)
inline Doubles plus_exact_square(Doubles sum, Doubles x) {
  return _mm256_fmadd_pd(x, x, sum);
}
#endif

}  // namespace
}  // namespace gradserve
