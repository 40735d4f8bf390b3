// The gradient of a maximum over windows: the block's channels are the lanes of a vector.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/max_pool.h"
#include "kernels/simd/vectors.h"

namespace gradserve {
namespace {

// The positions of a window that lie in the image: start + dilation * i for first <= i < last.
struct Inside {
  Index start;
  Index first;
  Index last;
};

inline Inside inside(const Window& window, Index output, Index size) {
  const Index start = output * window.stride - window.begin;
  Index first = 0;
  while (first < window.kernel && start + first * window.dilation < 0) ++first;
  Index last = window.kernel;
  while (last > first && start + (last - 1) * window.dilation >= size) --last;
  return {.start = start, .first = first, .last = last};
}

template <int kBlock>
inline void max_pool_gradient_of_window(const MaxPoolTask& task, const Inside& rows, const Inside& columns,
                                        const float* cotangent) {
  using Floats = Vectors<kBlock>::Floats;
  using Ints = Vectors<kBlock>::Ints;
  const auto place = [&](Index ky, Index kx) {
    const Index y = rows.start + ky * task.rows.dilation;
    const Index x = columns.start + kx * task.columns.dilation;
    return (y * task.width + x) * kBlock;
  };
  Floats largest;
  std::memcpy(&largest, task.image + place(rows.first, columns.first), sizeof largest);
  Ints at = {};  // counted from 0
  std::int32_t position = 0;
  for (Index ky = rows.first; ky < rows.last; ++ky) {
    for (Index kx = columns.first; kx < columns.last; ++kx, ++position) {
      Floats values;
      std::memcpy(&values, task.image + place(ky, kx), sizeof values);
      const Ints better = values > largest;
      largest = better ? values : largest;
      at = better ? Ints{} + position : at;
    }
  }
  Floats whole;
  std::memcpy(&whole, cotangent, sizeof whole);
  position = 0;
  for (Index ky = rows.first; ky < rows.last; ++ky) {
    for (Index kx = columns.first; kx < columns.last; ++kx, ++position) {
      float* gradient = task.gradient + place(ky, kx);
      Floats sum;
      std::memcpy(&sum, gradient, sizeof sum);
      sum += at == position ? whole : Floats{};
      std::memcpy(gradient, &sum, sizeof sum);
    }
  }
}

template <int kBlock>
inline void max_pool_gradient_of(const MaxPoolTask& task) {
  std::memset(task.gradient, 0, static_cast<std::size_t>(task.height * task.width * kBlock) * sizeof(float));
  for (Index oy = 0; oy < task.out_height; ++oy) {
    const Inside rows = inside(task.rows, oy, task.height);
    if (rows.first == rows.last) continue;
    for (Index ox = 0; ox < task.out_width; ++ox) {
      const Inside columns = inside(task.columns, ox, task.width);
      if (columns.first == columns.last) continue;
      max_pool_gradient_of_window<kBlock>(task, rows, columns,
                                          task.cotangent + (oy * task.out_width + ox) * kBlock);
    }
  }
}

void max_pool_gradient(const MaxPoolTask& task) {
  switch (task.block) {
    case 16:
      return max_pool_gradient_of<16>(task);
    case 8:
      return max_pool_gradient_of<8>(task);
    default:
      return max_pool_gradient_of<1>(task);
  }
}

}  // namespace
}  // namespace gradserve
