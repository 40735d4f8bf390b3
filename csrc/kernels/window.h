// Windows along one axis of an image.
#pragma once

#include "kernels/types.h"

namespace gradserve {

// Window p sees the pixels p stride - begin + i dilation, for 0 <= i < kernel.
struct Window {
  Index kernel;
  Index stride;
  Index dilation;
  Index begin;  // padding before the image
};

}  // namespace gradserve
