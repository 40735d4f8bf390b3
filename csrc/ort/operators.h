// The operators of domain "gradserve", for onnxruntime.
#pragma once

#include "ort/abi.h"

namespace gradserve::ort {

const CustomOp* fused_operator();
const CustomOp* image_gradient_operator();
const CustomOp* interleave_operator();
const CustomOp* max_pool_gradient_operator();

}  // namespace gradserve::ort
