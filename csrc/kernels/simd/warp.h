// The inner loops of a warp: where pixels look, and what they see there.
#pragma once

#include "kernels/simd/loops.h"
#include "kernels/taps.h"

namespace gradserve {
namespace {

inline double inside(double position, double last) {
  return (position >= 0 ? 1.0 : 0.0) * (position <= last ? 1.0 : 0.0);
}

void find_taps(const TapsTask& task, Taps& taps) {
  const auto row = static_cast<double>(task.y);
  const auto width = static_cast<double>(task.width);
  const auto bottom = static_cast<double>(task.height - 1);
  const double edge = width - 1;
  const auto begin = static_cast<std::int32_t>(task.begin);
  const auto count = static_cast<std::int32_t>(task.count);
  const double* const m = task.matrix;
  GRADSERVE_INDEPENDENT
  for (std::int32_t i = 0; i < count; ++i) {
    const auto column = static_cast<double>(begin + i);
    const double v = m[0] * row + m[1] * column + m[2];
    const double u = m[3] * row + m[4] * column + m[5];
    const double y = __builtin_floor(v);
    const double x = __builtin_floor(u);
    const double down = v - y;
    const double right = u - x;
    // All in float64, whole numbers too: numbers of one size are what GCC 12 makes vectors of. A mask is 1
    // where the source has such a row or column, else 0.
    const double at_y[2] = {y, y + 1};
    const double at_x[2] = {x, x + 1};
    const double rows[2] = {inside(at_y[0], bottom), inside(at_y[1], bottom)};
    const double columns[2] = {inside(at_x[0], edge), inside(at_x[1], edge)};
    const double by_row[2] = {1 - down, down};
    const double by_column[2] = {1 - right, right};
    double outside = 0;
    for (int tap = 0; tap < 4; ++tap) {
      const double mask = rows[tap / 2] * columns[tap % 2];
      const double weight = by_row[tap / 2] * by_column[tap % 2];
      const double seen = weight * mask;
      taps.index[tap][i] = static_cast<std::int32_t>((at_y[tap / 2] * width + at_x[tap % 2]) * mask);
      taps.weight[tap][i] = static_cast<float>(seen);
      outside += weight - seen;
    }
    taps.outside[i] = static_cast<float>(outside);
  }
}

// to[i] = outside fill + the sum over the taps, in this order
void read_taps(const Taps& taps, Index count, const float* from, float fill, float* __restrict to) {
  GRADSERVE_INDEPENDENT
  for (Index i = 0; i < count; ++i) {
    float sum = taps.outside[i] * fill;
    sum += taps.weight[0][i] * from[taps.index[0][i]];
    sum += taps.weight[1][i] * from[taps.index[1][i]];
    sum += taps.weight[2][i] * from[taps.index[2][i]];
    sum += taps.weight[3][i] * from[taps.index[3][i]];
    to[i] = sum;
  }
}

}  // namespace
}  // namespace gradserve
