// ImageGradient(dY, W) -> dX: the gradient of an image [N, C, H, W] of few channels that a convolution read.
//
// dY is [N, O, V, U], [N, O / block, V, U, block] in memory; W is [O, C, kH, kW], [O / block, C, kH, kW,
// block] in memory, as onnxruntime's convolutions of such images read it. dX lies plain. Attributes: block,
// strides, dilations, pads (begin_y, begin_x, end_y, end_x) and output_padding, as of ConvTranspose.

#include "kernels/targets.h"
#include "ort/describe.h"
#include "ort/kernel.h"
#include "ort/operators.h"

namespace gradserve::ort {
namespace {

// Below this many products, waking a thread costs more than it saves.
constexpr std::int64_t kWorthThreads = 1 << 20;

// An axis of the image: its windows, but for how large they are, and how much is there behind the last.
struct Axis {
  std::int64_t stride;
  std::int64_t dilation;
  std::int64_t begin;
  std::int64_t end;
  std::int64_t more;

  Window window(std::int64_t kernel) const {
    return {.kernel = kernel, .stride = stride, .dilation = dilation, .begin = begin};
  }

  // How many pixels there are under so many windows.
  std::int64_t size(std::int64_t kernel, std::int64_t windows) const {
    return (windows - 1) * stride + (kernel - 1) * dilation + 1 + more - begin - end;
  }
};

class ImageGradient {
 public:
  ImageGradient(const Api& api, const KernelInfo* info)
      : api_(api), kernels_(*available_targets().front()), block_(attribute_int(api, info, "block")) {
    const auto strides = attribute_ints(api, info, "strides");
    const auto dilations = attribute_ints(api, info, "dilations");
    const auto pads = attribute_ints(api, info, "pads");
    const auto more = attribute_ints(api, info, "output_padding");
    if (strides.size() != 2 || dilations.size() != 2 || pads.size() != 4 || more.size() != 2 ||
        (block_ != 8 && block_ != 16)) {
      throw std::invalid_argument("ImageGradient: expected two axes, and blocks of 8 or 16");
    }
    for (std::size_t i = 0; i < 2; ++i) {
      if (strides[i] < 1 || dilations[i] < 1)
        throw std::invalid_argument("ImageGradient: expected strides and dilations of 1 or more");
      axes_[i] = {.stride = strides[i],
                  .dilation = dilations[i],
                  .begin = pads[i],
                  .end = pads[i + 2],
                  .more = more[i]};
    }
  }

  void compute(KernelContext* context) const {
    const Tensor cotangent = input(api_, context, 0);
    const Tensor weights = input(api_, context, 1);
    const Shape& out = cotangent.shape;
    const Shape& filter = weights.shape;
    if (out.size() != 4 || filter.size() != 4 || out[1] != filter[0] || out[1] % block_ != 0) {
      throw std::invalid_argument(
          "ImageGradient: expected dY [N, O, V, U] and W [O, C, kH, kW] in whole blocks");
    }
    const Window rows = axes_[0].window(filter[2]);
    const Window columns = axes_[1].window(filter[3]);
    const std::int64_t channels = filter[1];
    const std::int64_t height = axes_[0].size(filter[2], out[2]);
    const std::int64_t width = axes_[1].size(filter[3], out[3]);
    if (height < 0 || width < 0) throw std::invalid_argument("ImageGradient: more padding than image");
    float* gradient = output(api_, context, 0, {out[0], channels, height, width});
    const std::vector<Phase> row_phases = phases(rows);
    const std::vector<Phase> column_phases = phases(columns);
    // A unit is a row of all channels of a sample.
    const auto run = [&](std::int64_t begin, std::int64_t end) {
      while (begin < end) {
        const std::int64_t sample = begin / height;
        const std::int64_t until = std::min(end, (sample + 1) * height);
        kernels_.image_gradient({.cotangent = cotangent.data + sample * out[1] * out[2] * out[3],
                                 .weights = weights.data,
                                 .gradient = gradient + sample * channels * height * width,
                                 .blocks = out[1] / block_,
                                 .block = block_,
                                 .channels = channels,
                                 .height = height,
                                 .width = width,
                                 .out_height = out[2],
                                 .out_width = out[3],
                                 .rows = rows,
                                 .columns = columns,
                                 .row_phases = row_phases.data(),
                                 .column_phases = column_phases.data(),
                                 .begin = begin - sample * height,
                                 .end = until - sample * height});
        begin = until;
      }
    };
    const std::int64_t products = out[0] * out[1] * out[2] * out[3] * channels * filter[2] * filter[3];
    parallel(api_, context, out[0] * height, products >= kWorthThreads, run);
  }

  const Api& api() const { return api_; }

 private:
  const Api& api_;
  const KernelTable& kernels_;
  std::int64_t block_;
  Axis axes_[2] = {};
};

}  // namespace

const CustomOp* image_gradient_operator() {
  static const CustomOp op = describe<ImageGradient>("ImageGradient", Inputs::two);
  return &op;
}

}  // namespace gradserve::ort
