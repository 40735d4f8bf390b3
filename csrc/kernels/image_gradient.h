// The gradient of an image of few channels that a convolution read.
#pragma once

#include <vector>

#include "kernels/window.h"

namespace gradserve {

// Every stride-th pixel along an axis: they see the same numbers of the kernel. Pixel q of them is number
// first + i step in window q + at - i back, for 0 <= i < count.
struct Phase {
  Index first;
  Index step;
  Index count;
  Index at;
  Index back;
};

// The phases along an axis: pixel x is pixel x / stride of phase x % stride.
std::vector<Phase> phases(const Window& window);

// gradient[c, y, x] = the sum of cotangent[o, v, u] weights[o, c, i, j] over the channels o and over the
// windows (v, u) that see (y, x) as their (i, j). The channels of the cotangent lie in blocks; what fills up
// the last of them has weights of 0.
struct ImageGradientTask {
  const float* cotangent;  // [blocks, out_height, out_width, block]
  const float* weights;    // [blocks, channels, rows.kernel, columns.kernel, block]
  float* gradient;         // [channels, height, width]
  Index blocks;
  Index block;  // 8 or 16
  Index channels;
  Index height;
  Index width;
  Index out_height;
  Index out_width;
  Window rows;
  Window columns;
  const Phase* row_phases;     // [rows.stride]
  const Phase* column_phases;  // [columns.stride]
  Index begin;                 // the rows [begin, end) of the gradient are made
  Index end;
};

}  // namespace gradserve
