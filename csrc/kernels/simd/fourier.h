// One pass of a Fourier transform: small dense products, over numbers that lie side by side.
#pragma once

#include "kernels/simd/loops.h"
#include "kernels/targets.h"

namespace gradserve {
namespace {

// a + i b += the sum of kTerms products, in order. Written out by the compiler: only the loop over neighbours
// is left to become vector instructions, which keep their sums.
template <int kTerms>
inline void add_products(const float* weights, const float* x, const float* y, Index step, float& a,
                         float& b) {
  if constexpr (kTerms > 0) {
    a += weights[0] * *x - weights[1] * *y;
    b += weights[0] * *y + weights[1] * *x;
    add_products<kTerms - 1>(weights + 2, x + step, y + step, step, a, b);
  }
}

// out[j] = sum over k of weights[j, k] in[k]
template <int kRadix>
inline void dense(const FourierPass& pass, Index block) {
  const Index count = pass.neighbours;
  const Index step = pass.blocks * count;
  const float* const x = pass.in.real + block * count;
  const float* const y = pass.in.imaginary + block * count;
  for (int j = 0; j < kRadix; ++j) {
    float weights[2 * kRadix];
    const float* const given = pass.weights + Index{2} * kRadix * (block * kRadix + j);
    for (int k = 0; k < 2 * kRadix; ++k) weights[k] = given[k];
    float* const __restrict real = pass.out.real + (block * kRadix + j) * count;
    float* const __restrict imaginary = pass.out.imaginary + (block * kRadix + j) * count;
    GRADSERVE_INDEPENDENT
    for (Index t = 0; t < count; ++t) {
      float a = 0;
      float b = 0;
      add_products<kRadix>(weights, x + t, y + t, step, a, b);
      real[t] = a;
      imaginary[t] = b;
    }
  }
}

// The same for a large radix.
inline void dense(const FourierPass& pass, Index block) {
  const Index count = pass.neighbours;
  const Index step = pass.blocks * count;
  for (Index j = 0; j < pass.radix; ++j) {
    float* const __restrict real = pass.out.real + (block * pass.radix + j) * count;
    float* const __restrict imaginary = pass.out.imaginary + (block * pass.radix + j) * count;
    for (Index t = 0; t < count; ++t) real[t] = imaginary[t] = 0;
    for (Index k = 0; k < pass.radix; ++k) {
      const float* const x = pass.in.real + block * count + k * step;
      const float* const y = pass.in.imaginary + block * count + k * step;
      const Index number = j * (k * pass.blocks + block) % (pass.radix * pass.blocks);
      const float p = pass.weights[2 * number];
      const float q = pass.weights[2 * number + 1];
      GRADSERVE_INDEPENDENT
      for (Index t = 0; t < count; ++t) {
        real[t] += p * x[t] - q * y[t];
        imaginary[t] += p * y[t] + q * x[t];
      }
    }
  }
}

void fourier_pass(const FourierPass& pass) {
  for (Index block = 0; block < pass.blocks; ++block) {
    switch (pass.radix) {
      case 2:
        dense<2>(pass, block);
        break;
      case 3:
        dense<3>(pass, block);
        break;
      case 4:
        dense<4>(pass, block);
        break;
      case 5:
        dense<5>(pass, block);
        break;
      case 6:
        dense<6>(pass, block);
        break;
      case 7:
        dense<7>(pass, block);
        break;
      case 8:
        dense<8>(pass, block);
        break;
      default:
        dense(pass, block);
    }
  }
}

}  // namespace
}  // namespace gradserve
