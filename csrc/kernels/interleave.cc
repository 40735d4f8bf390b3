#include "kernels/interleave.h"

#include <cstring>

namespace gradserve {
namespace {

// The number of bytes is known at compile time, so that a pixel is a few moves and not a call.
template <Index kBlock>
void interleave_rows(const InterleaveTask& task) {
  constexpr std::size_t kBytes = kBlock * sizeof(float);
  for (Index y = 0; y < 2 * task.height; ++y) {
    const float* const* parts = task.parts + 2 * (y % 2);
    const Index row = y / 2 * task.width * kBlock;
    for (Index side = 0; side < 2; ++side) {
      float* to = task.image + (y * 2 * task.width + side) * kBlock;
      const float* from = parts[side];
      for (Index x = 0; x < task.width; ++x, to += 2 * kBlock) {
        if (from != nullptr) {
          std::memcpy(to, from + row + x * kBlock, kBytes);
        } else {
          std::memset(to, 0, kBytes);
        }
      }
    }
  }
}

}  // namespace

void interleave(const InterleaveTask& task) {
  switch (task.block) {
    case 16:
      return interleave_rows<16>(task);
    case 8:
      return interleave_rows<8>(task);
    default:
      return interleave_rows<1>(task);
  }
}

}  // namespace gradserve
