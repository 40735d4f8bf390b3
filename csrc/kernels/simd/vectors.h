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
// Eight vectors of sixteen lanes become one of eight: each step joins two and adds the halves of each.
inline void add_lanes(const Vectors<16>::Floats (&vectors)[8], float* to) {
  constexpr __mmask16 kAll = 0xFFFF;  // GCC 12's plain forms warn of an uninitialized value (GCC bug 105593)
  const auto first = [](const __m512& a, const __m512& b) {
    return _mm512_add_ps(_mm512_maskz_shuffle_f32x4(kAll, a, b, 0x44),
                         _mm512_maskz_shuffle_f32x4(kAll, a, b, 0xEE));
  };
  const auto second = [](const __m512& a, const __m512& b) {
    return _mm512_add_ps(_mm512_maskz_shuffle_f32x4(kAll, a, b, 0x88),
                         _mm512_maskz_shuffle_f32x4(kAll, a, b, 0xDD));
  };
  const __m512 low = second(first(vectors[0], vectors[1]), first(vectors[2], vectors[3]));
  const __m512 high = second(first(vectors[4], vectors[5]), first(vectors[6], vectors[7]));
  const __m512 pairs =
      _mm512_add_ps(_mm512_maskz_unpacklo_ps(kAll, low, high), _mm512_maskz_unpackhi_ps(kAll, low, high));
  const __m512 sums = _mm512_add_ps(pairs, _mm512_maskz_shuffle_ps(kAll, pairs, pairs, 0xEE));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512 sorted = _mm512_maskz_permutexvar_ps(kAll, order, sums);
  _mm256_storeu_ps(to, _mm512_maskz_extractf32x8_ps(0xFF, sorted, 0));
}
#elif defined(__AVX2__)
// The same of four vectors of eight lanes.
inline void add_lanes(const Vectors<8>::Floats (&vectors)[4], float* to) {
  const auto first = [](const __m256& a, const __m256& b) {
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
  };
  const __m256 low = first(vectors[0], vectors[1]);
  const __m256 high = first(vectors[2], vectors[3]);
  const __m256 pairs = _mm256_add_ps(_mm256_unpacklo_ps(low, high), _mm256_unpackhi_ps(low, high));
  const __m256 sums = _mm256_add_ps(pairs, _mm256_shuffle_ps(pairs, pairs, 0xEE));
  _mm_storeu_ps(to, _mm_unpacklo_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1)));
}
#endif

}  // namespace
}  // namespace gradserve
