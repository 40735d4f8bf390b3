// Interleave(part...) -> image: [N, C, H, W] of each part becomes [N, C, 2 H, 2 W] (kernels/interleave.h).
//
// Attributes: present, of four: which parts are given, the others are all zeros; block, as of
// MaxPoolGradient.

#include "kernels/interleave.h"

#include "ort/describe.h"
#include "ort/kernel.h"
#include "ort/operators.h"

namespace gradserve::ort {
namespace {

class Interleave {
 public:
  Interleave(const Api& api, const KernelInfo* info)
      : api_(api), block_(attribute_int(api, info, "block")), present_(attribute_ints(api, info, "present")) {
    if (present_.size() != 4 || (block_ != 1 && block_ != 8 && block_ != 16)) {
      throw std::invalid_argument("Interleave: expected four parts, and blocks of 1, 8 or 16");
    }
  }

  void compute(KernelContext* context) const {
    Tensor parts[4] = {};
    Shape shape;
    std::size_t next = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      if (present_[i] == 0) continue;
      parts[i] = input(api_, context, next++);
      if (!shape.empty() && parts[i].shape != shape)
        throw std::invalid_argument("Interleave: parts of different shapes");
      shape = parts[i].shape;
    }
    if (shape.size() != 4 || shape[1] % block_ != 0)
      throw std::invalid_argument("Interleave: expected [N, C, H, W]");
    float* image = output(api_, context, 0, {shape[0], shape[1], 2 * shape[2], 2 * shape[3]});
    const std::int64_t planes = shape[0] * shape[1] / block_;
    const std::int64_t size = shape[2] * shape[3] * block_;
    const auto run = [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t plane = begin; plane < end; ++plane) {
        InterleaveTask task = {.parts = {},
                               .image = image + plane * 4 * size,
                               .height = shape[2],
                               .width = shape[3],
                               .block = block_};
        for (std::size_t i = 0; i < 4; ++i) {
          if (parts[i].data != nullptr) task.parts[i] = parts[i].data + plane * size;
        }
        interleave(task);
      }
    };
    constexpr std::int64_t kWorthThreads = 65536;
    parallel(api_, context, planes, 4 * planes * size >= kWorthThreads, run);
  }

  const Api& api() const { return api_; }

 private:
  const Api& api_;
  std::int64_t block_;
  std::vector<std::int64_t> present_;
};

}  // namespace

const CustomOp* interleave_operator() {
  static const CustomOp op = describe<Interleave>("Interleave", Inputs::variadic);
  return &op;
}

}  // namespace gradserve::ort
