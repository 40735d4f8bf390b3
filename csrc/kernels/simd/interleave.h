// Between interleaved pixels (NHWC) and short planar tiles that stay in the L1 cache, so that all arithmetic
// is written once, for planar runs.
//
// K channels move at a time: 3 and 4 in one sweep over the pixels (the compiler knows the stride), any other
// number one channel after the other (K = 1, stride at run time).
#pragma once

#include "kernels/types.h"

namespace gradserve {
namespace {

// A multiple of kLanes: only the last tile of a block is partial.
constexpr Index kTilePixels = 1024;

template <int K>
struct Tile {
  float planes[K][kTilePixels];
};

// tile.planes[k][at + i] = pixels[i * channels + k]; channels == K where K > 1.
template <int K>
inline void deinterleave(const float* __restrict pixels, Index channels, Index count,
                         Tile<K>& __restrict tile, Index at = 0) {
  const Index stride = K > 1 ? K : channels;
  for (Index i = 0; i < count; ++i) {
    for (int k = 0; k < K; ++k) tile.planes[k][at + i] = pixels[i * stride + k];
  }
}

// pixels[i * channels + k] = tile.planes[k][i]; channels == K where K > 1.
template <int K>
inline void interleave(const Tile<K>& __restrict tile, Index channels, Index count,
                       float* __restrict pixels) {
  const Index stride = K > 1 ? K : channels;
  for (Index i = 0; i < count; ++i) {
    for (int k = 0; k < K; ++k) pixels[i * stride + k] = tile.planes[k][i];
  }
}

// Calls visit(first, count) for the tiles of `count` pixels.
template <typename Visit>
inline void for_each_tile(Index pixels, const Visit& visit) {
  for (Index first = 0; first < pixels; first += kTilePixels) {
    const Index left = pixels - first;
    visit(first, left < kTilePixels ? left : kTilePixels);
  }
}

}  // namespace
}  // namespace gradserve
