// Vectors of one number for each channel of a block, whatever the vector width of the target.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/simd/math.h"
#include "kernels/types.h"

namespace gradserve {
namespace {

// Spelled out for each: GCC 12 takes a size that depends on a template parameter for that of the first
// instance.
template <int kBlock>
struct Vectors;
template <>
struct Vectors<1> {
  using Floats = float __attribute__((vector_size(4)));
  using Ints = std::int32_t __attribute__((vector_size(4)));
};
template <>
struct Vectors<8> {
  using Floats = float __attribute__((vector_size(32)));
  using Ints = std::int32_t __attribute__((vector_size(32)));
};
template <>
struct Vectors<16> {
  using Floats = float __attribute__((vector_size(64)));
  using Ints = std::int32_t __attribute__((vector_size(64)));
};

// sum += a b, in one rounding where the target has it. Intrinsics, because GCC has no such function of
// generic vectors.
template <typename Floats>
inline void add_product(Floats& sum, const Floats& a, const Floats& b) {
#if defined(__AVX512F__)
  if constexpr (sizeof(Floats) == 64) {
    sum = _mm512_fmadd_ps(a, b, sum);
    return;
  }
#endif
#if defined(__AVX2__) && defined(__FMA__)
  if constexpr (sizeof(Floats) == 32) {
    sum = _mm256_fmadd_ps(a, b, sum);
    return;
  }
#endif
  for (std::size_t i = 0; i < sizeof(Floats) / sizeof(float); ++i) sum[i] = multiply_add(a[i], b[i], sum[i]);
}

// to[i] = the sum over the lanes of vectors[i], for 0 <= i < kCount: the upper half of the lanes is added to
// the lower, then the upper half of those, and so on, on every target.
template <int kCount, typename Floats>
inline void add_lanes(const Floats (&vectors)[kCount], float* to) {
  constexpr int kLanes = sizeof(Floats) / sizeof(float);
  for (int i = 0; i < kCount; ++i) {
    float lanes[kLanes];
    std::memcpy(lanes, &vectors[i], sizeof lanes);
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
    }
    to[i] = lanes[0];
  }
}

#if defined(__AVX512F__)
// Eight vectors of sixteen lanes become one of eight: each step joins two and halves what each still has.
inline void add_lanes(const Vectors<16>::Floats (&vectors)[8], float* to) {
  __m512 quarters[4];
  for (int i = 0; i < 4; ++i) {
    quarters[i] = _mm512_add_ps(_mm512_shuffle_f32x4(vectors[2 * i], vectors[2 * i + 1], 0x44),
                                _mm512_shuffle_f32x4(vectors[2 * i], vectors[2 * i + 1], 0xEE));
  }
  __m512 four[2];
  for (int i = 0; i < 2; ++i) {
    four[i] = _mm512_add_ps(_mm512_shuffle_f32x4(quarters[2 * i], quarters[2 * i + 1], 0x88),
                            _mm512_shuffle_f32x4(quarters[2 * i], quarters[2 * i + 1], 0xDD));
  }
  const __m512 pairs =
      _mm512_add_ps(_mm512_unpacklo_ps(four[0], four[1]), _mm512_unpackhi_ps(four[0], four[1]));
  const __m512 sums = _mm512_add_ps(pairs, _mm512_shuffle_ps(pairs, pairs, 0xEE));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
  _mm256_storeu_ps(to, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, sums)));
}
#elif defined(__AVX2__)
// The same of four vectors of eight lanes.
inline void add_lanes(const Vectors<8>::Floats (&vectors)[4], float* to) {
  __m256 halves[2];
  for (int i = 0; i < 2; ++i) {
    halves[i] = _mm256_add_ps(_mm256_permute2f128_ps(vectors[2 * i], vectors[2 * i + 1], 0x20),
                              _mm256_permute2f128_ps(vectors[2 * i], vectors[2 * i + 1], 0x31));
  }
  const __m256 pairs =
      _mm256_add_ps(_mm256_unpacklo_ps(halves[0], halves[1]), _mm256_unpackhi_ps(halves[0], halves[1]));
  const __m256 sums = _mm256_add_ps(pairs, _mm256_shuffle_ps(pairs, pairs, 0xEE));
  _mm_storeu_ps(to, _mm_unpacklo_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1)));
}
#endif

}  // namespace
}  // namespace gradserve
