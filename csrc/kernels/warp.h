// Planes resampled along an affine map, and the exact adjoint.
//
// warp:     (v, u) = A[n] (y, x, 1), and out[n, c, y, x] is the bilinear interpolation of source[n, c] there:
//           the sum over the four pixels around (v, u) of (1 - |v - v'|) (1 - |u - u'|) source[n, c, v', u'].
//           A pixel beyond the edge is what the border says; of Border::fill it is fill[c].
// adjoint:  source_gradient[n, c, v', u'] = sum over y, x of the same weight times gradient[n, c, y, x].
//           What was filled gets nothing.
//
// Positions are computed in float64, values in float32. Each plane of the adjoint is summed by one thread, in
// the order of the pixels: results do not depend on the threads.
#pragma once

#include "kernels/border.h"
#include "kernels/targets.h"
#include "kernels/types.h"

namespace gradserve {

struct PlaneSize {
  Index height;
  Index width;
};

// Positions further out than this are refused by the caller: they fit an Index with room for a step.
inline constexpr double kMaxPosition = 1e9;

struct WarpTask {
  const KernelTable* kernels;
  Index samples;
  Index channels;
  PlaneSize source_size;
  PlaneSize size;
  const double* matrices;  // [samples, 2, 3], rows (v, u), columns (y, x, 1)
  Border border;
  const float* fill;  // [channels]
  int threads;        // 0: as many as the work is worth
};

// source [samples, channels, source_size], out [samples, channels, size].
void warp(const WarpTask& task, const float* source, float* out);

// gradient [samples, channels, size], source_gradient [samples, channels, source_size].
void warp_adjoint(const WarpTask& task, const float* gradient, float* source_gradient);

}  // namespace gradserve
