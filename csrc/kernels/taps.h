// Where the pixels of a resampled row look: kernels/warp.h.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace gradserve {

// Taps are found for so many pixels of a row at a time: their indices and weights stay in the L1 cache.
inline constexpr Index kTapsTile = 256;

// The four source pixels around each position, their weights, and the weight of what lies outside.
struct Taps {
  std::int32_t index[4][kTapsTile];
  float weight[4][kTapsTile];
  float outside[kTapsTile];
};

// Pixels [begin, begin + count) of row y, count <= kTapsTile. Beyond the edge there is nothing to read.
struct TapsTask {
  const double* matrix;  // [2, 3]
  Index height;          // of the source
  Index width;
  Index y;
  Index begin;
  Index count;
};

}  // namespace gradserve
