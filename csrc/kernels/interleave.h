// Four images become one of twice the height and width.
#pragma once

#include "kernels/types.h"

namespace gradserve {

// One plane of images whose channels lie in blocks: [height, width, block]. Pixel (2 y + r, 2 x + s) of the
// result is pixel (y, x) of part 2 r + s; a part that is null is all zeros.
struct InterleaveTask {
  const float* parts[4];  // [height, width, block]
  float* image;           // [2 height, 2 width, block]
  Index height;
  Index width;
  Index block;
};

void interleave(const InterleaveTask& task);

}  // namespace gradserve
