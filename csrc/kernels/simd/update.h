// The step itself, one sweep over gradient, moments and image (formulas: kernels/ascent.h).
#pragma once

#include <cstring>

#include "kernels/simd/interleave.h"
#include "kernels/simd/jitter.h"
#include "kernels/targets.h"

namespace gradserve {
namespace {

// ---- x -> g: the buffer's gradient to the normalized pixel gradient ----

struct Scaled {
  float prescale;
  float factor;
  explicit Scaled(const ChannelStep& step) : prescale(step.prescale), factor(step.factor) {}
  float operator()(float x) const { return x * prescale * factor; }
};

struct Signed {
  float factor;
  explicit Signed(const ChannelStep& step) : factor(step.factor) {}
  float operator()(float x) const { return x > 0.0F ? factor : (x < 0.0F ? -factor : 0.0F); }
};

struct Ranged {
  double scale;
  double low;
  double inverse_range;
  explicit Ranged(const ChannelStep& step)
      : scale(step.scale), low(step.low), inverse_range(step.inverse_range) {}
  float operator()(float x) const {
    return static_cast<float>((static_cast<double>(x) * scale - low) * inverse_range);
  }
};

// ---- p, rate u -> p: ascent, decay, clip ----

template <bool kDecays>
inline float moved(float pixel, float move, const StepRule& rule, float mean) {
  pixel += move;
  if constexpr (kDecays) pixel = mean + rule.keep * (pixel - mean);
  pixel = pixel < rule.low ? rule.low : pixel;
  return pixel > rule.high ? rule.high : pixel;
}

// ---- g, m, v -> m, v, learning_rate u: one optimizer each ----

struct Sgd {
  static constexpr bool kFirst = false;
  static constexpr bool kSecond = false;
  static float move(float g, float&, float&, const StepRule& rule) { return rule.rate * g; }
};

struct Momentum {
  static constexpr bool kFirst = true;
  static constexpr bool kSecond = false;
  static float move(float g, float& m, float&, const StepRule& rule) {
    m = rule.beta1 * m + g;
    return rule.rate * m + rule.gradient_rate * g;
  }
};

struct RmsProp {
  static constexpr bool kFirst = false;
  static constexpr bool kSecond = true;
  static float move(float g, float&, float& v, const StepRule& rule) {
    v = rule.beta2 * v + rule.one_minus_beta2 * g * g;
    return rule.rate * g / (__builtin_sqrtf(v) + rule.epsilon);
  }
};

struct Adam {
  static constexpr bool kFirst = true;
  static constexpr bool kSecond = true;
  static float move(float g, float& m, float& v, const StepRule& rule) {
    m = rule.beta1 * m + rule.one_minus_beta1 * g;
    v = rule.beta2 * v + rule.one_minus_beta2 * g * g;
    // The product before the quotient, not after it: it is ready while the root is taken.
    return rule.rate * m / (__builtin_sqrtf(v) + rule.epsilon);
  }
};

struct NAdam {
  static constexpr bool kFirst = true;
  static constexpr bool kSecond = true;
  static float move(float g, float& m, float& v, const StepRule& rule) {
    m = rule.beta1 * m + rule.one_minus_beta1 * g;
    v = rule.beta2 * v + rule.one_minus_beta2 * g * g;
    return (rule.rate * m + rule.gradient_rate * g) / (__builtin_sqrtf(v) + rule.epsilon);
  }
};

// ---- planar runs ----

// `rule` comes by value: through a reference the compiler must reload it after every store.
template <typename Rule, typename Transform, bool kDecays>
inline void run(float* __restrict image, float* __restrict first, float* __restrict second,
                const float* __restrict gradient, Index count, Transform normalized, StepRule rule,
                float mean) {
  for (Index i = 0; i < count; ++i) {
    float m = 0;
    float v = 0;
    if constexpr (Rule::kFirst) m = first[i];
    if constexpr (Rule::kSecond) v = second[i];
    const float move = Rule::move(normalized(gradient[i]), m, v, rule);
    if constexpr (Rule::kFirst) first[i] = m;
    if constexpr (Rule::kSecond) second[i] = v;
    image[i] = moved<kDecays>(image[i], move, rule, mean);
  }
}

template <typename Transform, bool kDecays>
inline void update_run(const UpdateTask& task, Index channel, Index pixel, const float* gradient,
                       Index count) {
  const ChannelStep& step = task.steps[channel];
  const Index at = channel * task.jitter.height * task.jitter.width + pixel;
  const auto moment = [at](float* array) { return array == nullptr ? nullptr : array + at; };
  const auto with = [&]<typename Rule>(Rule) {
    run<Rule, Transform, kDecays>(task.image + at, moment(task.first_moment), moment(task.second_moment),
                                  gradient, count, Transform(step), *task.rule, step.mean);
  };
  switch (task.rule->optimizer) {
    case Optimizer::sgd:
      return with(Sgd{});
    case Optimizer::momentum:
      return with(Momentum{});
    case Optimizer::rmsprop:
      return with(RmsProp{});
    case Optimizer::adam:
      return with(Adam{});
    case Optimizer::nadam:
      return with(NAdam{});
  }
}

// ---- blocks: each tile undoes jitter and layout first, so that the arithmetic runs over whole tiles and not
// over the short pieces of rows that jitter leaves ----

template <typename Transform, bool kDecays>
inline void update_planar(const UpdateTask& task) {
  const Index pixels = task.jitter.height * task.jitter.width;
  for (Index c = 0; c < task.channels; ++c) {
    const float* plane = task.gradient + c * pixels;
    for_each_tile(task.block.end - task.block.begin, [&](Index first, Index count) {
      const Index begin = task.block.begin + first;
      Tile<1> tile;
      for_each_run(task.jitter, {.begin = begin, .end = begin + count}, [&](Index to, Index from, Index run) {
        std::memcpy(tile.planes[0] + (to - begin), plane + from,
                    static_cast<std::size_t>(run) * sizeof(float));
      });
      update_run<Transform, kDecays>(task, c, begin, tile.planes[0], count);
    });
  }
}

template <typename Transform, bool kDecays, int K>
inline void update_interleaved(const UpdateTask& task) {
  for (Index c = 0; c < task.channels; c += K) {
    const float* channel = task.gradient + c;
    for_each_tile(task.block.end - task.block.begin, [&](Index first, Index count) {
      const Index begin = task.block.begin + first;
      Tile<K> tile;
      for_each_run(task.jitter, {.begin = begin, .end = begin + count}, [&](Index to, Index from, Index run) {
        deinterleave<K>(channel + from * task.channels, task.channels, run, tile, to - begin);
      });
      for (int k = 0; k < K; ++k) {
        update_run<Transform, kDecays>(task, c + k, begin, tile.planes[k], count);
      }
    });
  }
}

template <typename Transform, bool kDecays>
inline void update_by_layout(const UpdateTask& task) {
  if (task.layout == Layout::nchw || task.channels == 1) {
    update_planar<Transform, kDecays>(task);
  } else if (task.channels == 3) {
    update_interleaved<Transform, kDecays, 3>(task);
  } else if (task.channels == 4) {
    update_interleaved<Transform, kDecays, 4>(task);
  } else {
    update_interleaved<Transform, kDecays, 1>(task);
  }
}

template <typename Transform>
inline void update_by_decay(const UpdateTask& task) {
  if (task.rule->decays) {
    update_by_layout<Transform, true>(task);
  } else {
    update_by_layout<Transform, false>(task);
  }
}

void update(const UpdateTask& task) {
  switch (task.rule->normalization) {
    case Normalization::sign:
      return update_by_decay<Signed>(task);
    case Normalization::min_max:
      return update_by_decay<Ranged>(task);
    case Normalization::none:
    case Normalization::std:
    case Normalization::rms:
    case Normalization::l2:
    case Normalization::mean_abs:
      return update_by_decay<Scaled>(task);
  }
}

}  // namespace
}  // namespace gradserve
