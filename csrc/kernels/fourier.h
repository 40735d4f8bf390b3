// The discrete Fourier transform of real images along all their axes, float32.
//
// inverse:  out[n, c] = irfft(scale (re + i im))[n, c], without dividing by the number of pixels
// forward:  re + i im = scale rfft(image)
//
// over the axes of `sizes`; `half` is sizes with W / 2 + 1 in place of the last, W. Of a column that is its
// own mirror image, the inverse takes what a real image can have: along the last axis, the imaginary part of
// columns 0 and W / 2 is dropped.
//
// Any length will do. It is split into small factors, and each pass computes one of them as a product with a
// small dense matrix (Stockham's order: no reversal of digits; Van Loan, Computational Frameworks for the
// FFT, 1992, section 1.7). All positions of the other axes lie side by side, and are what a vector holds.
// Rows are transformed in pairs, one as the real and one as the imaginary part.
//
// Each plane is one thread's: results do not depend on the threads, nor on the other planes.
#pragma once

#include <vector>

#include "kernels/targets.h"
#include "kernels/types.h"

namespace gradserve {

// The passes of a complex transform of one length.
class Transform {
 public:
  explicit Transform(Index length);

  [[nodiscard]] Index length() const { return length_; }

  // Transforms [length, inner] forward; `other` is as large. Whichever holds the result is `planes`
  // afterwards.
  void run(const KernelTable& kernels, ComplexPlanes& planes, ComplexPlanes& other, Index inner) const;

 private:
  struct Pass {
    Index radix;
    Index blocks;
    std::vector<float> weights;  // as in FourierPass
  };

  Index length_;
  std::vector<Pass> passes_;
};

// Images of some sizes.
class Fourier {
 public:
  // 1 or more sizes, each above 0.
  explicit Fourier(const std::vector<Index>& sizes);

  [[nodiscard]] Index pixels() const { return rows_ * last_.length(); }
  [[nodiscard]] Index numbers() const { return rows_ * half_; }

  // parts [samples, 2, channels, half], scale [half], image [samples, channels, sizes].
  void inverse(const KernelTable& kernels, Index samples, Index channels, const float* parts,
               const float* scale, float* image, int threads) const;

  void forward(const KernelTable& kernels, Index samples, Index channels, const float* image,
               const float* scale, float* parts, int threads) const;

 private:
  struct Workspace;

  template <typename Body>
  void for_planes(Index samples, Index channels, int threads, const Body& body) const;
  void along_rows(const KernelTable& kernels, Workspace& work) const;

  std::vector<Transform> leading_;
  Transform last_;
  Index rows_;  // positions along the leading axes
  Index half_;  // columns of the half
};

}  // namespace gradserve
