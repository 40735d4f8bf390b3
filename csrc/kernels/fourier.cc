#include "kernels/fourier.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

#include "parallel.h"

namespace gradserve {
namespace {

// The factor of the next pass. Larger ones mean fewer passes over memory, and more products in each.
Index next_radix(Index length) {
  for (Index radix = kLargestRadix; radix > 1; --radix) {
    if (length % radix == 0) return radix;
  }
  Index factor = 11;
  while (factor * factor <= length && length % factor != 0) factor += 2;
  return length % factor == 0 ? factor : length;
}

Index product(const std::vector<Index>& sizes, std::size_t begin, std::size_t end) {
  Index result = 1;
  for (std::size_t i = begin; i < end; ++i) result *= sizes[i];
  return result;
}

void push_root(std::vector<float>& weights, Index number, Index length) {
  const double turns = static_cast<double>(number % length) / static_cast<double>(length);
  weights.push_back(static_cast<float>(std::cos(2 * std::numbers::pi * turns)));
  weights.push_back(static_cast<float>(-std::sin(2 * std::numbers::pi * turns)));
}

std::vector<float> weights_of(Index radix, Index blocks) {
  const Index length = radix * blocks;
  std::vector<float> weights;
  if (radix > kLargestRadix) {
    for (Index n = 0; n < length; ++n) push_root(weights, n, length);
    return weights;
  }
  for (Index b = 0; b < blocks; ++b) {
    for (Index j = 0; j < radix; ++j) {
      for (Index k = 0; k < radix; ++k) push_root(weights, j * (k * blocks + b), length);
    }
  }
  return weights;
}

ComplexPlanes swapped(ComplexPlanes planes) {
  return {.real = planes.imaginary, .imaginary = planes.real};
}

ComplexPlanes moved(ComplexPlanes planes, Index by) {
  return {.real = planes.real + by, .imaginary = planes.imaginary + by};
}

}  // namespace

Transform::Transform(Index length) : length_(length) {
  for (Index left = length; left > 1;) {
    const Index radix = next_radix(left);
    const Index blocks = left / radix;
    passes_.push_back({.radix = radix, .blocks = blocks, .weights = weights_of(radix, blocks)});
    left = blocks;
  }
}

void Transform::run(const KernelTable& kernels, ComplexPlanes& planes, ComplexPlanes& other,
                    Index inner) const {
  Index neighbours = inner;
  for (const Pass& pass : passes_) {
    kernels.fourier_pass({.in = planes,
                          .out = other,
                          .weights = pass.weights.data(),
                          .radix = pass.radix,
                          .blocks = pass.blocks,
                          .neighbours = neighbours});
    std::swap(planes, other);
    neighbours *= pass.radix;
  }
}

// What one plane is worked on in.
struct Fourier::Workspace {
  explicit Workspace(const Fourier& fourier) : pairs((fourier.rows_ + 1) / 2) {
    const Index size = std::max(fourier.numbers(), fourier.last_.length() * pairs);
    memory.resize(static_cast<std::size_t>(4 * size));
    float* at = memory.data();
    planes = {.real = at, .imaginary = at + size};
    other = {.real = at + 2 * size, .imaginary = at + 3 * size};
  }

  Index pairs;  // of rows
  std::vector<float> memory;
  ComplexPlanes planes{};
  ComplexPlanes other{};
};

Fourier::Fourier(const std::vector<Index>& sizes)
    : leading_(sizes.begin(), sizes.end() - 1),
      last_(sizes.back()),
      rows_(product(sizes, 0, sizes.size() - 1)),
      half_(sizes.back() / 2 + 1) {}

// Calls body(plane of the image, where its real part begins, workspace) for each plane.
template <typename Body>
void Fourier::for_planes(Index samples, Index channels, int threads, const Body& body) const {
  parallel_for(samples * channels, worthwhile_threads(samples * channels * pixels(), threads),
               [&](Index index) {
                 Workspace work(*this);
                 body(index, (index / channels * 2 * channels + index % channels) * numbers(), work);
               });
}

// Along all axes but the last, of planes [leading sizes, half].
void Fourier::along_rows(const KernelTable& kernels, Workspace& work) const {
  Index inner = numbers();
  for (const Transform& transform : leading_) {
    inner /= transform.length();
    const Index outer = numbers() / (transform.length() * inner);
    ComplexPlanes after = work.planes;
    ComplexPlanes spare = work.other;
    for (Index i = 0; i < outer; ++i) {
      ComplexPlanes part = moved(work.planes, i * transform.length() * inner);
      ComplexPlanes scratch = moved(work.other, i * transform.length() * inner);
      const ComplexPlanes start = part;
      transform.run(kernels, part, scratch, inner);
      if (part.real != start.real) {
        after = work.other;
        spare = work.planes;
      }
    }
    work.planes = after;
    work.other = spare;
  }
}

void Fourier::inverse(const KernelTable& kernels, Index samples, Index channels, const float* parts,
                      const float* scale, float* image, int threads) const {
  for_planes(samples, channels, threads, [&](Index index, Index part, Workspace& work) {
    const float* const real = parts + part;
    const float* const imaginary = real + channels * numbers();
    const Index width = last_.length();
    const Index pairs = work.pairs;
    for (Index i = 0; i < numbers(); ++i) {
      work.planes.real[i] = real[i] * scale[i];
      work.planes.imaginary[i] = imaginary[i] * scale[i];
    }
    // The inverse of x + i y is the forward transform of y + i x with its parts exchanged.
    work.planes = swapped(work.planes);
    work.other = swapped(work.other);
    along_rows(kernels, work);
    work.planes = swapped(work.planes);
    work.other = swapped(work.other);
    // Rows p and q become one complex row: P + i Q, where P and Q are their whole spectra.
    for (Index p = 0; p < pairs; ++p) {
      const Index q = p + pairs;
      const ComplexPlanes a = moved(work.planes, p * half_);
      const ComplexPlanes b = moved(work.planes, q * half_);
      for (Index k = 0; k < half_; ++k) {
        const Index mirror = k == 0 ? 0 : width - k;
        const bool alone = mirror == k;
        const float ax = a.real[k];
        const float ay = alone ? 0.0F : a.imaginary[k];
        const float bx = q < rows_ ? b.real[k] : 0.0F;
        const float by = q < rows_ && !alone ? b.imaginary[k] : 0.0F;
        work.other.real[k * pairs + p] = ax - by;
        work.other.imaginary[k * pairs + p] = ay + bx;
        if (!alone) {
          work.other.real[mirror * pairs + p] = ax + by;
          work.other.imaginary[mirror * pairs + p] = bx - ay;
        }
      }
    }
    ComplexPlanes columns = swapped(work.other);
    ComplexPlanes spare = swapped(work.planes);
    last_.run(kernels, columns, spare, pairs);
    columns = swapped(columns);
    float* const out = image + index * pixels();
    for (Index p = 0; p < rows_; ++p) {
      const float* const from = p < pairs ? columns.real + p : columns.imaginary + (p - pairs);
      for (Index x = 0; x < width; ++x) out[p * width + x] = from[x * pairs];
    }
  });
}

void Fourier::forward(const KernelTable& kernels, Index samples, Index channels, const float* image,
                      const float* scale, float* parts, int threads) const {
  for_planes(samples, channels, threads, [&](Index index, Index part, Workspace& work) {
    const float* const from = image + index * pixels();
    const Index width = last_.length();
    const Index pairs = work.pairs;
    for (Index p = 0; p < pairs; ++p) {
      const Index q = p + pairs;
      for (Index x = 0; x < width; ++x) {
        work.planes.real[x * pairs + p] = from[p * width + x];
        work.planes.imaginary[x * pairs + p] = q < rows_ ? from[q * width + x] : 0.0F;
      }
    }
    last_.run(kernels, work.planes, work.other, pairs);
    // Z = P + i Q: P is its part that is its own mirror image, conjugated.
    for (Index p = 0; p < pairs; ++p) {
      const Index q = p + pairs;
      const ComplexPlanes a = moved(work.other, p * half_);
      const ComplexPlanes b = moved(work.other, q * half_);
      for (Index k = 0; k < half_; ++k) {
        const Index at = k * pairs + p;
        const Index mirror = k == 0 ? p : (width - k) * pairs + p;
        const float zx = work.planes.real[at];
        const float zy = work.planes.imaginary[at];
        const float mx = work.planes.real[mirror];
        const float my = work.planes.imaginary[mirror];
        a.real[k] = (zx + mx) * 0.5F;
        a.imaginary[k] = (zy - my) * 0.5F;
        if (q < rows_) {
          b.real[k] = (zy + my) * 0.5F;
          b.imaginary[k] = (mx - zx) * 0.5F;
        }
      }
    }
    std::swap(work.planes, work.other);
    along_rows(kernels, work);
    float* const real = parts + part;
    float* const imaginary = real + channels * numbers();
    for (Index i = 0; i < numbers(); ++i) {
      real[i] = work.planes.real[i] * scale[i];
      imaginary[i] = work.planes.imaginary[i] * scale[i];
    }
  });
}

}  // namespace gradserve
