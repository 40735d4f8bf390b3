#include "kernels/blur.h"

#include <algorithm>

#include "parallel.h"

namespace gradserve {
namespace {

// One pass along an axis. An axis is `lines` lines of `size` values, `stride` apart; lines are `step` apart.
struct Pass {
  Index size;
  Index stride;
  Index lines;
  Index step;
};

// Whether a value at `index` goes to (adjoint) or comes from (forward) index + offset.
template <bool kAdjoint>
void run_pass(const BlurTask& task, const Pass& pass, const float* weights, const float* from, float* to) {
  std::fill_n(to, task.size.height * task.size.width, 0.0F);
  for (Index index = 0; index < pass.size; ++index) {
    for (Index tap = 0; tap <= 2 * task.radius; ++tap) {
      const Index other = at_border(index + tap - task.radius, pass.size, task.border);
      if (other == kOutside) continue;
      const float weight = weights[tap];
      const float* read = from + (kAdjoint ? index : other) * pass.stride;
      float* write = to + (kAdjoint ? other : index) * pass.stride;
      for (Index line = 0; line < pass.lines; ++line)
        write[line * pass.step] += weight * read[line * pass.step];
    }
  }
}

template <bool kAdjoint>
void run(const BlurTask& task, const float* source, float* scratch, float* out) {
  const Index plane = task.size.height * task.size.width;
  const Pass rows{.size = task.size.height, .stride = task.size.width, .lines = task.size.width, .step = 1};
  const Pass columns{
      .size = task.size.width, .stride = 1, .lines = task.size.height, .step = task.size.width};
  const int threads = worthwhile_threads(task.samples * task.channels * plane, task.threads);
  parallel_for(task.samples * task.channels, threads, [&](Index index) {
    const float* weights = task.weights + (index / task.channels) * (2 * task.radius + 1);
    const float* from = source + index * plane;
    float* between = scratch + index * plane;
    run_pass<kAdjoint>(task, kAdjoint ? columns : rows, weights, from, between);
    run_pass<kAdjoint>(task, kAdjoint ? rows : columns, weights, between, out + index * plane);
  });
}

}  // namespace

void blur(const BlurTask& task, const float* source, float* scratch, float* out) {
  run<false>(task, source, scratch, out);
}

void blur_adjoint(const BlurTask& task, const float* gradient, float* scratch, float* source_gradient) {
  run<true>(task, gradient, scratch, source_gradient);
}

}  // namespace gradserve
