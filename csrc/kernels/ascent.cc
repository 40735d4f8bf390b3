#include "kernels/ascent.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>
#include <vector>

#include "parallel.h"

namespace gradserve {
namespace {

int threads_for(const Execution& execution, const SampleShape& shape, Index samples) {
  return worthwhile_threads(samples * shape.channels * shape.height * shape.width, execution.threads);
}

// The fixed partition of a sample into blocks: it does not depend on the threads, nor on the target.
struct Partition {
  Index pixels;
  Index blocks;

  explicit Partition(const SampleShape& shape)
      : pixels(shape.height * shape.width), blocks((pixels + kBlockPixels - 1) / kBlockPixels) {}

  Block block(Index index) const {
    return {.begin = index * kBlockPixels, .end = std::min(pixels, (index + 1) * kBlockPixels)};
  }
};

Jitter jitter_of(const SampleShape& shape, const std::int32_t* offsets, Index sample) {
  const auto wrap = [](Index offset, Index size) { return (offset % size + size) % size; };
  Jitter jitter{.height = shape.height, .width = shape.width, .shift_y = 0, .shift_x = 0};
  if (offsets != nullptr) {
    jitter.shift_y = wrap(offsets[2 * sample], shape.height);
    jitter.shift_x = wrap(offsets[2 * sample + 1], shape.width);
  }
  return jitter;
}

// ---- statistics of one sample: block sums -> statistic -> ChannelStep ----

struct Statistics {
  double squares = 0;     // Σ d²
  double deviations = 0;  // Σ (d - mean d)²
  double magnitudes = 0;  // Σ |d|
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
};

// `sums` is [blocks, channels], over the buffer's gradient x; d = scale[c] * x is never rounded to float32.
Statistics sample_statistics(const AscentConfig& config, const Partition& partition, const Sums* sums) {
  const Index channels = config.shape.channels;
  Statistics statistics;
  double mean = 0;
  double count = 0;
  for (Index b = 0; b < partition.blocks; ++b) {
    const Block block = partition.block(b);
    const auto added = static_cast<double>(block.end - block.begin);
    for (Index c = 0; c < channels; ++c) {
      const double scale = config.scale[static_cast<std::size_t>(c)];
      const Sums& x = sums[b * channels + c];
      statistics.squares += scale * scale * x.squares;
      statistics.magnitudes += std::abs(scale) * x.magnitudes;
      statistics.low = std::min({statistics.low, scale * x.low, scale * x.high});
      statistics.high = std::max({statistics.high, scale * x.low, scale * x.high});
      // Chan's update: the deviations within the parts, and those between their means.
      count += added;
      const double delta = scale * x.mean - mean;
      mean += delta * (added / count);
      statistics.deviations += scale * scale * x.deviations + delta * delta * added * (1 - added / count);
    }
  }
  return statistics;
}

double divisor(Normalization normalization, const Statistics& statistics, Index elements) {
  const auto count = static_cast<double>(elements);
  switch (normalization) {
    case Normalization::std:
      return std::sqrt(statistics.deviations / count);
    case Normalization::rms:
      return std::sqrt(statistics.squares / count);
    case Normalization::l2:
      return std::sqrt(statistics.squares);
    case Normalization::mean_abs:
      return statistics.magnitudes / count;
    case Normalization::min_max:
      return statistics.high - statistics.low;
    case Normalization::none:
    case Normalization::sign:
      return 1;
  }
  return 1;
}

// Splits a factor that may lie outside float32 (1 / the rms of a saturated network) in two that do not.
void set_factor(ChannelStep& step, double value) {
  step.prescale = 1;
  const double magnitude = std::abs(value);
  if (magnitude != 0 && (magnitude < FLT_MIN || magnitude > FLT_MAX)) {
    const int exponent = std::clamp(std::ilogb(magnitude), FLT_MIN_EXP - 1, FLT_MAX_EXP - 1);
    step.prescale = std::ldexp(1.0F, exponent);
  }
  step.factor = static_cast<float>(value / static_cast<double>(step.prescale));
}

ChannelStep channel_step(const AscentConfig& config, const Statistics& statistics, double by, Index c) {
  const double scale = config.scale[static_cast<std::size_t>(c)];
  ChannelStep step{};
  step.scale = scale;
  step.low = statistics.low;
  step.inverse_range = by > 0 ? 1 / by : 0;
  step.mean = config.mean[static_cast<std::size_t>(c)];
  if (config.normalization == Normalization::sign) {
    set_factor(step, static_cast<double>((scale > 0) - (scale < 0)));
  } else {
    set_factor(step, by > 0 ? scale / by : 0);
  }
  return step;
}

// The norm to report. Without normalization d itself must fit float32, or the image would turn infinite.
double reported_norm(Normalization normalization, double squares) {
  const double norm = std::sqrt(squares);
  if (normalization == Normalization::none && norm > FLT_MAX) return std::numeric_limits<double>::infinity();
  return norm;
}

// What the learning rate is multiplied by for m, and for g.
struct Rates {
  double moment;
  double gradient;
};

// nadam's, over 1 - beta2^t taken into the rates and into epsilon.
Rates nadam_rates(const AscentConfig& config, Index t) {
  const auto beta = [&](Index i) {
    return config.beta1 * (1 - 0.5 * std::pow(0.96, static_cast<double>(i) * config.momentum_decay));
  };
  double product = 1;
  // Below 1e-18 the product no longer changes 1 - product.
  for (Index i = 1; i <= t && product > 1e-18; ++i) product *= beta(i);
  const double next = beta(t + 1);
  return {.moment = next / (1 - product * next), .gradient = (1 - beta(t)) / (1 - product)};
}

Rates rates(const AscentConfig& config, Index t) {
  switch (config.optimizer) {
    case Optimizer::momentum:
      return config.nesterov ? Rates{.moment = config.beta1, .gradient = 1}
                             : Rates{.moment = 1, .gradient = 0};
    case Optimizer::adam:
      return {.moment = 1 / (1 - std::pow(config.beta1, static_cast<double>(t))), .gradient = 0};
    case Optimizer::nadam:
      return nadam_rates(config, t);
    case Optimizer::sgd:
    case Optimizer::rmsprop:
      return {.moment = 1, .gradient = 0};
  }
  return {.moment = 1, .gradient = 0};
}

}  // namespace

StepRule step_rule(const AscentConfig& config, StepNumbers numbers) {
  const bool corrected = config.optimizer == Optimizer::adam || config.optimizer == Optimizer::nadam;
  const double correction2 =
      corrected ? std::sqrt(1 - std::pow(config.beta2, static_cast<double>(numbers.number))) : 1;
  const Rates by = rates(config, numbers.number);
  const auto rate = [&](double share) {
    return static_cast<float>(
        std::clamp<double>(numbers.learning_rate * correction2 * share, -FLT_MAX, FLT_MAX));
  };
  return {
      .normalization = config.normalization,
      .optimizer = config.optimizer,
      .rate = rate(by.moment),
      .gradient_rate = rate(by.gradient),
      .beta1 = static_cast<float>(config.beta1),
      .one_minus_beta1 = static_cast<float>(1 - config.beta1),
      .beta2 = static_cast<float>(config.beta2),
      .one_minus_beta2 = static_cast<float>(1 - config.beta2),
      // Never 0: a gradient that has always been 0 would become 0 / 0.
      .epsilon =
          std::max(static_cast<float>(config.epsilon * (config.epsilon_hat ? 1 : correction2)), FLT_TRUE_MIN),
      .decays = numbers.weight_decay != 0,
      .keep = static_cast<float>(1 - numbers.weight_decay),
      .low = config.low,
      .high = config.high,
  };
}

void prepare(const AscentConfig& config, const Execution& execution, const PrepareArrays& arrays) {
  const Partition partition(config.shape);
  const Index size = config.shape.channels * partition.pixels;
  const int threads = threads_for(execution, config.shape, arrays.samples);
  parallel_for(arrays.samples * partition.blocks, threads, [&](Index task) {
    const Index n = task / partition.blocks;
    execution.kernels->prepare({.image = arrays.image + n * size,
                                .buffer = arrays.buffer + n * size,
                                .mean = config.mean.data(),
                                .scale = config.scale.data(),
                                .channels = config.shape.channels,
                                .layout = config.layout,
                                .jitter = jitter_of(config.shape, arrays.offsets, n),
                                .block = partition.block(task % partition.blocks)});
  });
}

void step(const AscentConfig& config, const Execution& execution, const StepArrays& arrays,
          StepNumbers numbers) {
  const Partition partition(config.shape);
  const Index channels = config.shape.channels;
  const Index size = channels * partition.pixels;
  const int threads = threads_for(execution, config.shape, arrays.samples);
  const StepRule rule = step_rule(config, numbers);

  const auto sum_block = [&](Index n, Index b, Sums* sums) {
    execution.kernels->statistics({.gradient = arrays.gradient + n * size,
                                   .sums = sums + b * channels,
                                   .normalization = config.normalization,
                                   .channels = channels,
                                   .pixels = partition.pixels,
                                   .layout = config.layout,
                                   .block = partition.block(b)});
  };
  const auto conclude = [&](Index n, const Sums* sums, ChannelStep* steps) {
    const Statistics statistics = sample_statistics(config, partition, sums);
    arrays.gradient_norms[n] = reported_norm(config.normalization, statistics.squares);
    const double by = divisor(config.normalization, statistics, size);
    for (Index c = 0; c < channels; ++c) steps[c] = channel_step(config, statistics, by, c);
  };
  const auto update_block = [&](Index n, Index b, const ChannelStep* steps) {
    if (!std::isfinite(arrays.gradient_norms[n])) return;
    const auto moment = [&](float* array) { return array == nullptr ? nullptr : array + n * size; };
    execution.kernels->update({.image = arrays.image + n * size,
                               .first_moment = moment(arrays.first_moment),
                               .second_moment = moment(arrays.second_moment),
                               .gradient = arrays.gradient + n * size,
                               .steps = steps,
                               .rule = &rule,
                               .channels = channels,
                               .layout = config.layout,
                               .jitter = jitter_of(config.shape, arrays.offsets, n),
                               .block = partition.block(b)});
  };

  if (arrays.samples >= threads) {
    // A thread takes sample after sample, so that its second sweep finds the gradient in the cache, and waits
    // for nobody.
    parallel_for(arrays.samples, threads, [&](Index n) {
      std::vector<Sums> sums(static_cast<std::size_t>(partition.blocks * channels));
      std::vector<ChannelStep> steps(static_cast<std::size_t>(channels));
      for (Index b = 0; b < partition.blocks; ++b) sum_block(n, b, sums.data());
      conclude(n, sums.data(), steps.data());
      for (Index b = 0; b < partition.blocks; ++b) update_block(n, b, steps.data());
    });
    return;
  }
  // Fewer samples than threads: they share the blocks of one sample.
  std::vector<Sums> sums(static_cast<std::size_t>(partition.blocks * channels));
  std::vector<ChannelStep> steps(static_cast<std::size_t>(channels));
  for (Index n = 0; n < arrays.samples; ++n) {
    parallel_for(partition.blocks, threads, [&](Index b) { sum_block(n, b, sums.data()); });
    conclude(n, sums.data(), steps.data());
    parallel_for(partition.blocks, threads, [&](Index b) { update_block(n, b, steps.data()); });
  }
}

}  // namespace gradserve
