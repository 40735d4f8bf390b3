// Transcendental functions as plain arithmetic, so that loops over them become vector instructions.
//
// No branch, no table, no library call. Targets with fused multiply-add round less often than the others, so
// results differ between processors in the last bit, as onnxruntime's own do. Polynomials
// are Chebyshev fits made for these intervals (40 digits, rounded to float32); the errors below were measured
// against float64 over all magnitudes (tests/unit/runtime/test_programs.py).
#pragma once

#include <cstdint>
#include <numbers>

namespace gradserve {
namespace {

// a b + c, in one rounding where the target has it.
inline float multiply_add(float a, float b, float c) {
#if defined(__FMA__)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

// e^x = 2^n (1 + r + r^2 q(r)) with |r| <= ln 2 / 2.
struct Exponential {
  float value;     // 1 + r + r^2 q(r)
  std::int32_t n;  // unspecified for a NaN
};

inline Exponential split_exponential(float x) {
  constexpr auto kLog2E = std::numbers::log2e_v<float>;
  // ln 2 in two parts; the first has so few bits that the product below is exact.
  constexpr float kLn2High = 0.693359375F;  // NOLINT(modernize-use-std-numbers)
  constexpr float kLn2Low = -2.12194440e-4F;
  constexpr float kRounder = 12582912.0F;  // 1.5 * 2^23: adding it leaves a whole number in the lowest bits
  const float shifted = multiply_add(x, kLog2E, kRounder);
  const float n = shifted - kRounder;
  const float r = multiply_add(n, -kLn2Low, multiply_add(n, -kLn2High, x));
  float q = 0x1.6d1606p-10F;
  q = multiply_add(q, r, 0x1.12106cp-7F);
  q = multiply_add(q, r, 0x1.555516p-5F);
  q = multiply_add(q, r, 0x1.5554d8p-3F);
  q = multiply_add(q, r, 0.5F);
  const float value = 1.0F + multiply_add(r * r, q, r);
  constexpr auto kRounderBits = __builtin_bit_cast(std::uint32_t, kRounder);
  const std::uint32_t bits = __builtin_bit_cast(std::uint32_t, shifted) - kRounderBits;
  return {.value = value, .n = static_cast<std::int32_t>(bits)};
}

// 2^n for -127 <= n <= 128; 0 and infinity at the ends.
inline float power_of_two(std::int32_t n) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(n + 127) << 23U);
}

// Unordered comparisons are false: a NaN passes through.
inline float clamped(float x, float low, float high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

// e^x, within 1.1 ulp; 0 below -104, infinity above 88.73.
inline float exponential(float x) {
  const Exponential e = split_exponential(clamped(x, -104.0F, 89.0F));
  // In two factors, for results that are denormal or overflow.
  const std::int32_t half = e.n >> 1;
  return e.value * power_of_two(half) * power_of_two(e.n - half);
}

// e^x in one factor: for -87 <= x <= 88.3; below, what it is there; above, infinity.
inline float quick_exponential(float x) {
  const Exponential e = split_exponential(clamped(x, -87.0F, 89.0F));
  return e.value * power_of_two(e.n);
}

inline float magnitude(float x) {
  return __builtin_fabsf(x);
}

// 1 / (1 + e^-x), within 3 ulp; 0 from -88.4 down, where it is less than 5e-39.
inline float logistic(float x) {
  return 1.0F / (1.0F + quick_exponential(-x));
}

// tanh x, within 2 ulp.
inline float hyperbolic_tangent(float x) {
  const float a = magnitude(x);
  const float z = x * x;
  float p = -0x1.8f8de4p-8F;
  p = multiply_add(p, z, 0x1.58048ep-6F);
  p = multiply_add(p, z, -0x1.b9258ap-5F);
  p = multiply_add(p, z, 0x1.110e1cp-3F);
  p = multiply_add(p, z, -0x1.555552p-2F);
  const float small = multiply_add(a * z, p, a);
  const float large = 1.0F - 2.0F / (quick_exponential(2.0F * a) + 1.0F);
  return __builtin_copysignf(a < 0.625F ? small : large, x);
}

// erf x, within 3 ulp.
inline float error_function(float x) {
  const float a = magnitude(x);
  const float z = x * x;
  float p = 0x1.4a5690p-14F;
  p = multiply_add(p, z, -0x1.a45088p-11F);
  p = multiply_add(p, z, 0x1.541270p-8F);
  p = multiply_add(p, z, -0x1.b7fabap-6F);
  p = multiply_add(p, z, 0x1.ce2d10p-4F);
  p = multiply_add(p, z, -0x1.81273ep-2F);
  p = multiply_add(p, z, 0x1.20dd74p+0F);
  const float b = a > 4.0F ? 4.0F : a;  // 1 in float32 from 3.92 on
  float q = 0x1.25b476p-20F;
  q = multiply_add(q, b, -0x1.27d984p-15F);
  q = multiply_add(q, b, 0x1.090cb8p-11F);
  q = multiply_add(q, b, -0x1.1bde06p-8F);
  q = multiply_add(q, b, 0x1.9cf8e6p-6F);
  q = multiply_add(q, b, -0x1.ba2736p-4F);
  q = multiply_add(q, b, -0x1.44a624p-1F);
  q = multiply_add(q, b, -0x1.210122p+0F);
  const float large = __builtin_copysignf(1.0F - quick_exponential(b * q), x);
  return a < 1.0F ? x * p : large;
}

}  // namespace
}  // namespace gradserve
