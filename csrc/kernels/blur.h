// Planes convolved with one symmetric kernel along rows and columns, and the exact adjoint.
//
// blur:     out[n, c, y, x] = sum over i, j of w[n, i] w[n, j] source[n, c, y + i - r, x + j - r], where w
// has
//           2 r + 1 entries. A pixel beyond the edge is what the border says; of Border::fill it is 0.
// adjoint:  each product goes back to the pixel that it was read from.
//
// Each plane is worked on by one thread: results do not depend on the threads.
#pragma once

#include "kernels/border.h"
#include "kernels/warp.h"

namespace gradserve {

struct BlurTask {
  Index samples;
  Index channels;
  PlaneSize size;
  const float* weights;  // [samples, 2 radius + 1]
  Index radius;
  Border border;
  int threads;  // 0: as many as the work is worth
};

// source and out [samples, channels, size], scratch as many values.
void blur(const BlurTask& task, const float* source, float* scratch, float* out);
void blur_adjoint(const BlurTask& task, const float* gradient, float* scratch, float* source_gradient);

}  // namespace gradserve
