// Packing and unpacking of masks: sixteen numbers at a time, a vector or two.
#pragma once

#include <cmath>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "kernels/fused/masks.h"
#include "kernels/simd/loops.h"

namespace gradserve {
namespace {

inline MaskWord mask_word(const float* numbers, Index count) {
  MaskWord word = 0;
  for (Index i = 0; i < count; ++i) {
    word |= static_cast<MaskWord>(numbers[i] > 0.0F) << i;
    word |= static_cast<MaskWord>(std::isnan(numbers[i])) << (kMaskNumbers + i);
  }
  return word;
}

// Of kMaskNumbers numbers. Intrinsics, because GCC 12 does not make a mask of a comparison's results.
inline MaskWord mask_word(const float* numbers) {
#if defined(__AVX512F__)
  const __m512 x = _mm512_loadu_ps(numbers);
  const auto above = static_cast<MaskWord>(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ));
  return above | static_cast<MaskWord>(_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q)) << kMaskNumbers;
#elif defined(__AVX2__)
  MaskWord word = 0;
  for (int i = 0; i < kMaskNumbers; i += 8) {
    const __m256 x = _mm256_loadu_ps(numbers + i);
    const int above = _mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ));
    const int unordered = _mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    word |= static_cast<MaskWord>(above) << i | static_cast<MaskWord>(unordered) << (kMaskNumbers + i);
  }
  return word;
#else
  return mask_word(numbers, kMaskNumbers);
#endif
}

// The last word is filled up with zeros.
void pack_mask(const float* numbers, Index count, MaskWord* words) {
  const Index whole = count / kMaskNumbers;
  for (Index i = 0; i < whole; ++i) words[i] = mask_word(numbers + i * kMaskNumbers);
  const Index rest = count % kMaskNumbers;
  if (rest > 0) words[whole] = mask_word(numbers + whole * kMaskNumbers, rest);
}

// Number i of a word: the bits of 1.0F, of a quiet NaN, or none.
inline float mask_number(MaskWord word, Index i) {
  const MaskWord above = (word >> i & 1U) * 0x3F800000U;
  const MaskWord nan = (word >> (kMaskNumbers + i) & 1U) * 0x7FC00000U;
  const MaskWord bits = above | nan;
  float number = 0.0F;
  std::memcpy(&number, &bits, sizeof number);
  return number;
}

inline void mask_numbers(MaskWord word, float* to) {
#if defined(__AVX512F__)
  const __m512 ones = _mm512_maskz_mov_ps(static_cast<__mmask16>(word), _mm512_set1_ps(1.0F));
  const auto nan = static_cast<__mmask16>(word >> kMaskNumbers);
  _mm512_storeu_ps(to, _mm512_mask_mov_ps(ones, nan, _mm512_set1_ps(__builtin_nanf(""))));
#else
  GRADSERVE_INDEPENDENT
  for (Index i = 0; i < kMaskNumbers; ++i) to[i] = mask_number(word, i);
#endif
}

// Numbers [begin, begin + count) of a mask.
void unpack_mask(const MaskWord* words, Index begin, Index count, float* to) {
  const Index end = begin + count;
  Index at = begin;
  for (; at < end && at % kMaskNumbers != 0; ++at)
    *to++ = mask_number(words[at / kMaskNumbers], at % kMaskNumbers);
  for (; at + kMaskNumbers <= end; at += kMaskNumbers, to += kMaskNumbers)
    mask_numbers(words[at / kMaskNumbers], to);
  for (; at < end; ++at) *to++ = mask_number(words[at / kMaskNumbers], at % kMaskNumbers);
}

}  // namespace
}  // namespace gradserve
