// The gradient of an image of few channels: the channels of one block of the cotangent are the lanes of a
// vector.
//
// A strip of pixels of one phase is summed in registers, one vector for each pixel and channel of the image,
// so that a vector of weights is read once for the strip, and one of the cotangent once for the channels. At
// the end the lanes are added.
#pragma once

#include "kernels/image_gradient.h"
#include "kernels/simd/vectors.h"

namespace gradserve {
namespace {

// By registers: the sums of a strip for three channels, three weights, and a cotangent.
#if defined(__AVX512F__)
constexpr int kStrip = 8;
#else
constexpr int kStrip = 4;
#endif

// Only the windows of pixel 0 that there are.
inline Phase clipped(Phase phase, Index windows) {
  for (; phase.count > 0 && phase.at >= windows; --phase.count) {
    phase.first += phase.step;
    phase.at -= phase.back;
  }
  while (phase.count > 0 && phase.at - (phase.count - 1) * phase.back < 0) --phase.count;
  return phase;
}

alignas(64) constexpr float kNoCotangent[16] = {};

// to[c][p] = the gradient of channel `channel` + c at pixel p of the phase `columns`, in the row that is
// pixel 0 of the phase `rows`, of which all windows are there. Where not kInside, windows of columns may not
// be.
template <int kBlock, int kChannels, bool kInside>
inline void sum_strip(const ImageGradientTask& task, const Phase& rows, const Phase& columns, Index channel,
                      float (&to)[kChannels][kStrip]) {
  using Floats = Vectors<kBlock>::Floats;
  const Index filter = task.rows.kernel * task.columns.kernel * kBlock;
  Floats sums[kChannels][kStrip] = {};
  for (Index block = 0; block < task.blocks; ++block) {
    const float* const plane = task.cotangent + block * task.out_height * task.out_width * kBlock;
    const float* const filters = task.weights + (block * task.channels + channel) * filter;
    for (Index i = 0; i < rows.count; ++i) {
      const float* const row = plane + (rows.at - i * rows.back) * task.out_width * kBlock;
      const Index line = (rows.first + i * rows.step) * task.columns.kernel;
      for (Index j = 0; j < columns.count; ++j) {
        const float* const weights = filters + (line + columns.first + j * columns.step) * kBlock;
        Floats weight[kChannels];
#pragma GCC unroll 4
        for (int c = 0; c < kChannels; ++c) std::memcpy(&weight[c], weights + c * filter, sizeof(Floats));
        const Index window = columns.at - j * columns.back;
#pragma GCC unroll 8
        for (int p = 0; p < kStrip; ++p) {
          const float* from = row + (window + p) * kBlock;
          if constexpr (!kInside) {
            from = window + p >= 0 && window + p < task.out_width ? from : kNoCotangent;
          }
          Floats cotangent;
          std::memcpy(&cotangent, from, sizeof cotangent);
#pragma GCC unroll 4
          for (int c = 0; c < kChannels; ++c) add_product(sums[c][p], cotangent, weight[c]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int c = 0; c < kChannels; ++c) add_lanes(sums[c], to[c]);
}

template <int kBlock, int kChannels>
inline void image_gradient_of_row(const ImageGradientTask& task, Index y, Index channel) {
  Phase rows = task.row_phases[y % task.rows.stride];
  rows.at += y / task.rows.stride;
  rows = clipped(rows, task.out_height);
  const Index stride = task.columns.stride;
  // Phase by phase for each strip: their windows are the same ones, which are in the cache then.
  for (Index strip = 0; strip * stride < task.width; strip += kStrip) {
    for (Index x = strip * stride; x < (strip + 1) * stride && x < task.width; ++x) {
      Phase columns = task.column_phases[x - strip * stride];
      columns.at += strip;
      float sums[kChannels][kStrip];
      if (columns.at - (columns.count - 1) * columns.back >= 0 && columns.at + kStrip <= task.out_width) {
        sum_strip<kBlock, kChannels, true>(task, rows, columns, channel, sums);
      } else {
        sum_strip<kBlock, kChannels, false>(task, rows, columns, channel, sums);
      }
      for (int c = 0; c < kChannels; ++c) {
        float* const to = task.gradient + ((channel + c) * task.height + y) * task.width + x;
        for (Index p = 0; p < kStrip && x + p * stride < task.width; ++p) to[p * stride] = sums[c][p];
      }
    }
  }
}

template <int kBlock>
inline void image_gradient_of(const ImageGradientTask& task) {
  for (Index y = task.begin; y < task.end; ++y) {
    Index channel = 0;
    for (; channel + 3 <= task.channels; channel += 3) image_gradient_of_row<kBlock, 3>(task, y, channel);
    if (task.channels - channel == 2) image_gradient_of_row<kBlock, 2>(task, y, channel);
    if (task.channels - channel == 1) image_gradient_of_row<kBlock, 1>(task, y, channel);
  }
}

void image_gradient(const ImageGradientTask& task) {
  if (task.block == 16) return image_gradient_of<16>(task);
  return image_gradient_of<8>(task);
}

}  // namespace
}  // namespace gradserve
