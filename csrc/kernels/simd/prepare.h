// buffer[jitter(pixel), c] = (image[c, pixel] - mean[c]) * scale[c]
#pragma once

#include "kernels/simd/interleave.h"
#include "kernels/simd/jitter.h"
#include "kernels/targets.h"

namespace gradserve {
namespace {

inline void normalize(const float* __restrict image, Index count, float mean, float scale,
                      float* __restrict buffer) {
  for (Index i = 0; i < count; ++i) buffer[i] = (image[i] - mean) * scale;
}

inline void prepare_planar(const PrepareTask& task) {
  const Index pixels = task.jitter.height * task.jitter.width;
  for (Index c = 0; c < task.channels; ++c) {
    const float* image = task.image + c * pixels;
    float* buffer = task.buffer + c * pixels;
    for_each_run(task.jitter, task.block, [&](Index from, Index to, Index count) {
      normalize(image + from, count, task.mean[c], task.scale[c], buffer + to);
    });
  }
}

template <int K>
inline void prepare_interleaved(const PrepareTask& task) {
  const Index pixels = task.jitter.height * task.jitter.width;
  for (Index c = 0; c < task.channels; c += K) {
    for_each_run(task.jitter, task.block, [&](Index from, Index to, Index run) {
      for_each_tile(run, [&](Index first, Index count) {
        Tile<K> tile;
        for (int k = 0; k < K; ++k) {
          const float* image = task.image + (c + k) * pixels + from + first;
          normalize(image, count, task.mean[c + k], task.scale[c + k], tile.planes[k]);
        }
        interleave<K>(tile, task.channels, count, task.buffer + (to + first) * task.channels + c);
      });
    });
  }
}

void prepare(const PrepareTask& task) {
  if (task.layout == Layout::nchw || task.channels == 1) {
    prepare_planar(task);
  } else if (task.channels == 3) {
    prepare_interleaved<3>(task);
  } else if (task.channels == 4) {
    prepare_interleaved<4>(task);
  } else {
    prepare_interleaved<1>(task);
  }
}

}  // namespace
}  // namespace gradserve
