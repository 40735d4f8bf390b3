#include "kernels/image_gradient.h"

namespace gradserve {

std::vector<Phase> phases(const Window& window) {
  std::vector<Phase> found;
  for (Index pixel = 0; pixel < window.stride; ++pixel) {
    const auto offset = [&](Index i) { return pixel + window.begin - i * window.dilation; };
    Index first = 0;
    while (first < window.kernel && offset(first) % window.stride != 0) ++first;
    Index step = 1;
    while (step * window.dilation % window.stride != 0) ++step;
    found.push_back({.first = first,
                     .step = step,
                     .count = (window.kernel - first + step - 1) / step,
                     .at = offset(first) / window.stride,
                     .back = step * window.dilation / window.stride});
  }
  return found;
}

}  // namespace gradserve
