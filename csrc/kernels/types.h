// The vocabulary of the kernels. Plain data: no Python, no allocation, no functions.
#pragma once

#include <cstdint>

namespace gradserve {

using Index = std::int64_t;

// Memory order of the model's buffer; the image itself is always planar (NCHW).
enum class Layout : std::uint8_t { nchw, nhwc };

// What the pixel gradient of a sample is divided by.
enum class Normalization : std::uint8_t { none, std, rms, l2, mean_abs, sign, min_max };

enum class Optimizer : std::uint8_t { sgd, momentum, rmsprop, adam, nadam };

// One sample of the image, planar [channels, height, width].
struct SampleShape {
  Index channels;
  Index height;
  Index width;
};

}  // namespace gradserve
