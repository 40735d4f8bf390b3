#include "kernels/warp.h"

#include <algorithm>
#include <cmath>

#include "parallel.h"

namespace gradserve {
namespace {

struct Axis {
  Index position[2];
  double weight[2];
};

Axis split(double position, Index size, Border border) {
  const double below = std::floor(position);
  const double share = position - below;
  const auto first = static_cast<Index>(below);
  return {.position = {at_border(first, size, border), at_border(first + 1, size, border)},
          .weight = {1 - share, share}};
}

// The taps of a tile at whatever border.
void find_taps(const WarpTask& task, const double* matrix, Index y, Index begin, Index count, Taps& taps) {
  if (task.border == Border::fill) {
    return task.kernels->find_taps({.matrix = matrix,
                                    .height = task.source_size.height,
                                    .width = task.source_size.width,
                                    .y = y,
                                    .begin = begin,
                                    .count = count},
                                   taps);
  }
  const Index width = task.source_size.width;
  for (Index i = 0; i < count; ++i) {
    const auto row = static_cast<double>(y);
    const auto column = static_cast<double>(begin + i);
    const Axis v =
        split(matrix[0] * row + matrix[1] * column + matrix[2], task.source_size.height, task.border);
    const Axis u = split(matrix[3] * row + matrix[4] * column + matrix[5], width, task.border);
    for (int tap = 0; tap < 4; ++tap) {
      taps.index[tap][i] = static_cast<std::int32_t>(v.position[tap / 2] * width + u.position[tap % 2]);
      taps.weight[tap][i] = static_cast<float>(v.weight[tap / 2] * u.weight[tap % 2]);
    }
    taps.outside[i] = 0;
  }
}

// Calls body(taps, begin, count) for each tile of row y.
template <typename Body>
void for_tiles(const WarpTask& task, Index sample, Index y, const Body& body) {
  Taps taps;
  for (Index begin = 0; begin < task.size.width; begin += kTapsTile) {
    const Index count = std::min(kTapsTile, task.size.width - begin);
    find_taps(task, task.matrices + 6 * sample, y, begin, count, taps);
    body(taps, begin, count);
  }
}

int threads_of(const WarpTask& task) {
  const Index pixels =
      std::max(task.size.height * task.size.width, task.source_size.height * task.source_size.width);
  return worthwhile_threads(task.samples * task.channels * pixels, task.threads);
}

}  // namespace

void warp(const WarpTask& task, const float* source, float* out) {
  const Index source_plane = task.source_size.height * task.source_size.width;
  const Index plane = task.size.height * task.size.width;
  parallel_for(task.samples * task.size.height, threads_of(task), [&](Index row) {
    const Index sample = row / task.size.height;
    const Index y = row % task.size.height;
    for_tiles(task, sample, y, [&](const Taps& taps, Index begin, Index count) {
      for (Index c = 0; c < task.channels; ++c) {
        const float* from = source + (sample * task.channels + c) * source_plane;
        float* to = out + (sample * task.channels + c) * plane + y * task.size.width + begin;
        task.kernels->read_taps(taps, count, from, task.fill[c], to);
      }
    });
  });
}

void warp_adjoint(const WarpTask& task, const float* gradient, float* source_gradient) {
  const Index source_plane = task.source_size.height * task.source_size.width;
  const Index plane = task.size.height * task.size.width;
  parallel_for(task.samples * task.channels, threads_of(task), [&](Index index) {
    float* to = source_gradient + index * source_plane;
    std::fill_n(to, source_plane, 0.0F);
    for (Index y = 0; y < task.size.height; ++y) {
      for_tiles(task, index / task.channels, y, [&](const Taps& taps, Index begin, Index count) {
        const float* from = gradient + index * plane + y * task.size.width + begin;
        for (Index i = 0; i < count; ++i) {
          for (int tap = 0; tap < 4; ++tap) to[taps.index[tap][i]] += taps.weight[tap][i] * from[i];
        }
      });
    }
  });
}

}  // namespace gradserve
