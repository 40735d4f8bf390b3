// MaxPoolGradient(X, dY) -> dX: each window's cotangent to its largest element, the first at ties.
//
// X is [N, C, H, W]; in blocks of `block` channels, [N, C / block, H, W, block] in memory. Attributes: block,
// kernel_shape, strides, dilations, pads (begin_y, begin_x, end_y, end_x), as of MaxPool.

#include "kernels/targets.h"
#include "ort/describe.h"
#include "ort/kernel.h"
#include "ort/operators.h"

namespace gradserve::ort {
namespace {

class MaxPoolGradient {
 public:
  MaxPoolGradient(const Api& api, const KernelInfo* info)
      : api_(api), kernels_(*available_targets().front()), block_(attribute_int(api, info, "block")) {
    const auto kernel = attribute_ints(api, info, "kernel_shape");
    const auto strides = attribute_ints(api, info, "strides");
    const auto dilations = attribute_ints(api, info, "dilations");
    const auto pads = attribute_ints(api, info, "pads");
    if (kernel.size() != 2 || strides.size() != 2 || dilations.size() != 2 || pads.size() != 4 ||
        (block_ != 1 && block_ != 8 && block_ != 16)) {
      throw std::invalid_argument("MaxPoolGradient: expected two axes, and blocks of 1, 8 or 16");
    }
    for (const auto* sizes : {&kernel, &strides, &dilations}) {
      for (const std::int64_t size : *sizes) {
        if (size < 1)
          throw std::invalid_argument("MaxPoolGradient: expected windows, strides, dilations of 1 or more");
      }
    }
    rows_ = {.kernel = kernel[0], .stride = strides[0], .dilation = dilations[0], .begin = pads[0]};
    columns_ = {.kernel = kernel[1], .stride = strides[1], .dilation = dilations[1], .begin = pads[1]};
  }

  void compute(KernelContext* context) const {
    const Tensor image = input(api_, context, 0);
    const Tensor cotangent = input(api_, context, 1);
    const Shape& shape = image.shape;
    const Shape& out = cotangent.shape;
    if (shape.size() != 4 || out.size() != 4 || shape[0] != out[0] || shape[1] != out[1] ||
        shape[1] % block_ != 0) {
      throw std::invalid_argument("MaxPoolGradient: expected X [N, C, H, W] and dY with the same N and C");
    }
    float* gradient = output(api_, context, 0, shape);
    const std::int64_t planes = shape[0] * shape[1] / block_;
    const std::int64_t size = shape[2] * shape[3] * block_;
    const std::int64_t out_size = out[2] * out[3] * block_;
    const auto run = [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t plane = begin; plane < end; ++plane) {
        kernels_.max_pool_gradient({.image = image.data + plane * size,
                                    .cotangent = cotangent.data + plane * out_size,
                                    .gradient = gradient + plane * size,
                                    .height = shape[2],
                                    .width = shape[3],
                                    .out_height = out[2],
                                    .out_width = out[3],
                                    .block = block_,
                                    .rows = rows_,
                                    .columns = columns_});
      }
    };
    constexpr std::int64_t kWorthThreads = 16384;
    parallel(api_, context, planes, planes * size >= kWorthThreads, run);
  }

  const Api& api() const { return api_; }

 private:
  const Api& api_;
  const KernelTable& kernels_;
  std::int64_t block_;
  Window rows_{};
  Window columns_{};
};

}  // namespace

const CustomOp* max_pool_gradient_operator() {
  static const CustomOp op = describe<MaxPoolGradient>("MaxPoolGradient", Inputs::two);
  return &op;
}

}  // namespace gradserve::ort
