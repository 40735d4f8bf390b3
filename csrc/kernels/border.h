// What lies beyond the edge of a plane.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/types.h"

namespace gradserve {

// fill: a constant that does not depend on the plane; wrap: the other side; edge: the nearest value;
// reflect: mirrored at the outermost value, which is not repeated (dcb|abcd|cba).
enum class Border : std::uint8_t { fill, wrap, edge, reflect };

inline constexpr Index kOutside = -1;

// The position that stands for `index` on an axis of `size`; kOutside where the border is filled.
inline Index at_border(Index index, Index size, Border border) {
  if (index >= 0 && index < size) return index;
  switch (border) {
    case Border::wrap: {
      const Index rest = index % size;
      return rest < 0 ? rest + size : rest;
    }
    case Border::edge:
      return std::clamp(index, Index{0}, size - 1);
    case Border::reflect: {
      if (size == 1) return 0;
      const Index period = 2 * (size - 1);
      const Index rest = (index % period + period) % period;
      return rest < size ? rest : period - rest;
    }
    default:
      return kOutside;
  }
}

}  // namespace gradserve
