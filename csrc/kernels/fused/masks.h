// Masks as few bits. A number of a mask is 0, 1 or NaN; sixteen of them are one word.
#pragma once

#include <cstdint>

#include "kernels/types.h"

namespace gradserve {

// Bit i says that number i is above 0 (what is packed may be any number), bit kMaskNumbers + i that it is
// NaN.
using MaskWord = std::uint32_t;

inline constexpr Index kMaskNumbers = 16;

constexpr Index mask_words(Index numbers) {
  return (numbers + kMaskNumbers - 1) / kMaskNumbers;
}

}  // namespace gradserve
