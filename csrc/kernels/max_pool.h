// The gradient of a maximum over windows.
#pragma once

#include "kernels/window.h"

namespace gradserve {

// One plane of images whose channels lie in blocks: [height, width, block]. The gradient of a window goes to
// its largest element, the first in row-major order at ties (and to a NaN that a window begins with);
// elements outside the image are none.
struct MaxPoolTask {
  const float* image;      // [height, width, block]
  const float* cotangent;  // [out_height, out_width, block]
  float* gradient;         // [height, width, block]
  Index height;
  Index width;
  Index out_height;
  Index out_width;
  Index block;  // 1, 8 or 16
  Window rows;
  Window columns;
};

}  // namespace gradserve
