// Jitter as runs of pixels that are contiguous both in the image and in the model's buffer.
#pragma once

#include "kernels/targets.h"

namespace gradserve {
namespace {

// Calls visit(image_pixel, buffer_pixel, count) for every run of the block, in the order of the image.
template <typename Visit>
inline void for_each_run(const Jitter& jitter, Block block, const Visit& visit) {
  const Index width = jitter.width;
  const Index pixels = jitter.height * width;
  if (jitter.shift_x == 0) {
    // Whole rows move, so the plane is two runs at most.
    const Index shift = jitter.shift_y * width;
    const Index wrap = pixels - shift;  // the image pixel that lands on buffer pixel 0
    if (block.begin < wrap) {
      const Index end = block.end < wrap ? block.end : wrap;
      visit(block.begin, block.begin + shift, end - block.begin);
    }
    if (block.end > wrap) {
      const Index begin = block.begin > wrap ? block.begin : wrap;
      visit(begin, begin - wrap, block.end - begin);
    }
    return;
  }
  Index y = block.begin / width;
  Index x = block.begin % width;
  const Index wrap = width - jitter.shift_x;  // the column that lands on buffer column 0
  for (Index pixel = block.begin; pixel < block.end;) {
    const bool wrapped = x >= wrap;
    const Index row_left = (wrapped ? width : wrap) - x;
    const Index block_left = block.end - pixel;
    const Index count = row_left < block_left ? row_left : block_left;
    const Index buffer_y = y + jitter.shift_y - (y + jitter.shift_y >= jitter.height ? jitter.height : 0);
    const Index buffer_x = wrapped ? x - wrap : x + jitter.shift_x;
    visit(pixel, buffer_y * width + buffer_x, count);
    pixel += count;
    x += count;
    if (x == width) {
      x = 0;
      ++y;
    }
  }
}

}  // namespace
}  // namespace gradserve
