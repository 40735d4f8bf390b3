// Gradient ascent on an image: everything around the model, in two calls per step.
//
// prepare:  buffer[n, jitter(y, x), c] = (image[n, c, y, x] - mean[c]) * scale[c]
//           where jitter(y, x) = ((y + dy[n]) mod H, (x + dx[n]) mod W)
//
// step:     d = scale[c] * gradient[n, jitter(y, x), c]                    the adjoint of prepare
//           g = d / statistic(d of sample n); 0 where the statistic is 0   Normalization, below
//           u = the optimizer's direction, below
//           p = p + learning_rate u
//           p = mean[c] + (1 - weight_decay) (p - mean[c])                 Yosinski's decay; skipped if 0
//           p = clip(p, low, high)
//
// Optimizers, at step t from 1; m and v begin at 0:
//           sgd: u = g
//           momentum: m = beta1 m + g; u = m, or by Nesterov u = g + beta1 m
//           rmsprop: v = beta2 v + (1 - beta2) g²; u = g / (sqrt(v) + epsilon)
//           adam (Kingma & Ba, 2014): m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g²,
//                 u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon); with epsilon_hat
//                 u = m / (1 - beta1^t) sqrt(1 - beta2^t) / (sqrt(v) + epsilon)
//           nadam (Dozat, 2016, as in torch): m and v as adam; with b(t) = beta1 (1 - 0.96^(t momentum_decay)
//           / 2),
//                 B(t) = b(1) ... b(t): u = ((1 - b(t)) / (1 - B(t)) g + b(t + 1) / (1 - B(t + 1)) m)
//                                           / (sqrt(v / (1 - beta2^t)) + epsilon)
//
// Statistics over all C·H·W values of a sample, in float64:
//           std: population standard deviation (the mean is not subtracted from d); rms: sqrt(mean d²);
//           l2: sqrt(Σ d²); mean_abs: mean |d|; sign: g = sign(d); min_max: g = (d - min) / (max - min).
#pragma once

#include <vector>

#include "kernels/targets.h"
#include "kernels/types.h"

namespace gradserve {

struct AscentConfig {
  SampleShape shape;
  Layout layout;
  std::vector<float> mean;   // [channels]
  std::vector<float> scale;  // [channels], finite
  Normalization normalization;
  Optimizer optimizer;
  double beta1;
  double beta2;
  double epsilon;
  bool epsilon_hat;
  bool nesterov;
  double momentum_decay;
  float low;
  float high;
};

struct Execution {
  const KernelTable* kernels;
  int threads;  // 0: num_threads() where the work is large enough to share, else the caller alone
};

// Pointers into C-contiguous arrays; image and moments [samples, channels, height, width].
struct PrepareArrays {
  Index samples;
  const float* image;
  const std::int32_t* offsets;  // [samples, 2] (dy, dx), any integers; null: no jitter
  float* buffer;                // [samples, channels, height, width] or [samples, height, width, channels]
};

struct StepArrays {
  Index samples;
  float* image;
  const float* gradient;        // like PrepareArrays::buffer
  const std::int32_t* offsets;  // like PrepareArrays::offsets
  float* first_moment;          // null unless has_first_moment
  float* second_moment;         // null unless has_second_moment
  double* gradient_norms;       // [samples]: sqrt(Σ d²)
};

void prepare(const AscentConfig& config, const Execution& execution, const PrepareArrays& arrays);

// What differs from step to step; t is `number`, from 1.
struct StepNumbers {
  Index number;
  double learning_rate;
  double weight_decay;
};

// The same as the formulas above take it.
StepRule step_rule(const AscentConfig& config, StepNumbers numbers);

// A sample whose d is not finite is left untouched: its norm says so.
void step(const AscentConfig& config, const Execution& execution, const StepArrays& arrays,
          StepNumbers numbers);

// Whether an optimizer remembers m, and v.
constexpr bool has_first_moment(Optimizer optimizer) {
  return optimizer != Optimizer::sgd && optimizer != Optimizer::rmsprop;
}
constexpr bool has_second_moment(Optimizer optimizer) {
  return optimizer != Optimizer::sgd && optimizer != Optimizer::momentum;
}

}  // namespace gradserve
