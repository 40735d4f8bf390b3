// Fused(x...) -> y...: a fused program (kernels/fused/program.h) over the broadcast shape of its inputs.
//
// Attributes: program; axis: where the rows end; lanes; narrow: for each output, whether it has `lanes`
// numbers for each row instead of whole rows; block: channels of a block, 1 for tensors in the plain layout;
// packed_inputs, packed_outputs: for each, whether it is a mask in bits (kernels/fused/masks.h), [words]: no
// numbers, but onnxruntime takes them for such.
// In blocks, [N, C, H, W] lies in memory as [N, C / block, H, W, block], and `axis` counts those axes.

#include <utility>

#include "kernels/fused/run.h"
#include "ort/describe.h"
#include "ort/kernel.h"
#include "ort/operators.h"

namespace gradserve::ort {
namespace {

// Below this many numbers made, waking a thread costs more than it saves.
constexpr std::int64_t kWorthThreads = 65536;

// The planner asks before it knows a node: any operand of the result's shape may give its place to it. Each
// number is read before the number at its place is written (graph/tuning/fused/program.py orders it so).
constexpr int kInplaceOperands = 8;

class FusedKernel {
 public:
  FusedKernel(const Api& api, const KernelInfo* info)
      : api_(api),
        kernels_(*available_targets().front()),
        narrow_(booleans(attribute_ints(api, info, "narrow"))),
        packed_inputs_(booleans(attribute_ints(api, info, "packed_inputs"))),
        packed_outputs_(booleans(attribute_ints(api, info, "packed_outputs"))),
        program_(parse_program(attribute_string(api, info, "program"), kernels_.instructions, narrow_)),
        axis_(attribute_int(api, info, "axis")),
        lanes_(attribute_int(api, info, "lanes")),
        block_(attribute_int(api, info, "block")) {
    if (block_ < 1 || (block_ == 1 && lanes_ != 1))
      throw std::invalid_argument("fused program: lanes without blocks");
    if (packed_outputs_.size() != narrow_.size()) {
      throw std::invalid_argument("fused program: expected to know of each output whether it is packed");
    }
    for (std::size_t i = 0; i < narrow_.size(); ++i) {
      if (narrow_[i] && packed_outputs_[i])
        throw std::invalid_argument("fused program: a packed output is narrow");
    }
    numbers_.reserve(program_.numbers.size() * FusedRun::kUnit);
    for (const float number : program_.numbers) numbers_.insert(numbers_.end(), FusedRun::kUnit, number);
  }

  void compute(KernelContext* context) const {
    std::size_t count = 0;
    call<InputCount>(api_, static_cast<const KernelContext*>(context), &count);
    if (std::cmp_less(count, program_.inputs)) {
      throw std::invalid_argument("fused program: more inputs than the node has");
    }
    if (count != packed_inputs_.size()) {
      throw std::invalid_argument("fused program: expected to know of each input whether it is packed");
    }
    call<OutputCount>(api_, static_cast<const KernelContext*>(context), &count);
    if (std::cmp_not_equal(count, program_.outputs)) {
      throw std::invalid_argument("fused program: other outputs than the node has");
    }
    std::vector<Tensor> inputs;
    Shape shape;
    for (Index i = 0; i < program_.inputs; ++i) {
      inputs.push_back(input(api_, context, static_cast<std::size_t>(i)));
      if (!packed_inputs_[static_cast<std::size_t>(i)]) widen(shape, inputs.back().shape);
    }
    FusedRun run(kernels_, program_, numbers_.data(), in_blocks(shape), axis_, lanes_);
    for (Index i = 0; i < program_.inputs; ++i) {
      const Tensor& tensor = inputs[static_cast<std::size_t>(i)];
      if (packed_inputs_[static_cast<std::size_t>(i)]) {
        const bool is_flat = tensor.shape.size() == 1;
        run.set_packed_input(i, reinterpret_cast<const MaskWord*>(tensor.data),
                             is_flat ? tensor.shape[0] : -1);
      } else {
        run.set_input(i, tensor.data, in_blocks(tensor.shape));
      }
    }
    Shape narrow(shape);
    if (block_ > 1) {
      if (shape.size() != 4) throw std::invalid_argument("fused program: expected a tensor [N, C, H, W]");
      std::fill(narrow.begin() + 2, narrow.end(), 1);
    } else {
      std::fill(narrow.begin() + std::min(axis_, std::ssize(narrow)), narrow.end(), 1);
    }
    for (std::size_t i = 0; i < narrow_.size(); ++i) {
      const auto index = static_cast<Index>(i);
      if (packed_outputs_[i]) {
        float* words = output(api_, context, i, {run.mask_size()});
        run.set_packed_output(index, reinterpret_cast<MaskWord*>(words));
      } else {
        run.set_output(index, output(api_, context, i, narrow_[i] ? narrow : shape));
      }
    }
    parallel(api_, context, run.units(), run.work() >= kWorthThreads,
             [&](std::int64_t begin, std::int64_t end) { run.run(begin, end); });
  }

  const Api& api() const { return api_; }

 private:
  static std::vector<bool> booleans(const std::vector<std::int64_t>& values) {
    std::vector<bool> found;
    found.reserve(values.size());
    for (const std::int64_t value : values) found.push_back(value != 0);
    return found;
  }

  static void widen(Shape& shape, const Shape& by) {
    if (by.size() > shape.size()) shape.insert(shape.begin(), by.size() - shape.size(), 1);
    for (std::size_t i = 1; i <= by.size(); ++i) {
      std::int64_t& size = shape[shape.size() - i];
      if (size == 1) size = by[by.size() - i];
    }
  }

  // How a tensor lies in memory.
  Shape in_blocks(const Shape& shape) const {
    if (block_ == 1) return shape;
    if (std::ranges::all_of(shape, [](std::int64_t size) { return size == 1; })) return {1, 1, 1, 1, 1};
    if (shape.size() != 4 || shape[1] % block_ != 0) {
      throw std::invalid_argument("fused program: expected tensors [N, C, H, W] in whole blocks");
    }
    return {shape[0], shape[1] / block_, shape[2], shape[3], block_};
  }

  const Api& api_;
  const KernelTable& kernels_;
  std::vector<bool> narrow_;
  std::vector<bool> packed_inputs_;
  std::vector<bool> packed_outputs_;
  Program program_;
  std::int64_t axis_;
  std::int64_t lanes_;
  std::int64_t block_;
  std::vector<float> numbers_;
};

CustomOp describe_fused() {
  CustomOp op = describe<FusedKernel, Characteristic::variadic>("Fused", Inputs::variadic);
  op.may_inplace = [](int** inputs, int** outputs) -> std::size_t {
    *inputs = new int[kInplaceOperands];
    *outputs = new int[kInplaceOperands];
    for (int i = 0; i < kInplaceOperands; ++i) {
      (*inputs)[i] = i;
      (*outputs)[i] = 0;
    }
    return kInplaceOperands;
  };
  // NOLINTNEXTLINE(readability-non-const-parameter): the interface's signature.
  op.release_may_inplace = [](int* inputs, int* outputs) {
    delete[] inputs;
    delete[] outputs;
  };
  return op;
}

}  // namespace

const CustomOp* fused_operator() {
  static const CustomOp op = describe_fused();
  return &op;
}

}  // namespace gradserve::ort
