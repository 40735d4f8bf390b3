// Sums over one block of the gradient, per channel, in float64 (struct Sums says which).
#pragma once

#include "kernels/simd/interleave.h"
#include "kernels/simd/lanes.h"
#include "kernels/targets.h"

namespace gradserve {
namespace {

// What is summed besides the squares; `deviations`: nothing, and the squares are those of x - center.
enum class Extra : std::uint8_t { nothing, sum, magnitudes, range, deviations };

// The running sums of one vector of lanes, or of the scalar tail: V is Doubles or double.
template <Extra kExtra, typename V>
struct Partial {
  V squares{};
  V sum{};  // magnitudes for Extra::magnitudes
  V low = V{} + __builtin_inf();
  V high = V{} - __builtin_inf();

  void add(V value, double center) {
    if constexpr (kExtra == Extra::deviations) {
      value -= center;
      squares += value * value;
    } else {
      squares = plus_exact_square(squares, value);
    }
    if constexpr (kExtra == Extra::sum) sum += value;
    if constexpr (kExtra == Extra::magnitudes) {
      const V negated = -value;
      sum += value < negated ? negated : value;
    }
    if constexpr (kExtra == Extra::range) {
      low = value < low ? value : low;
      high = value > high ? value : high;
    }
  }
};

template <Extra kExtra>
class Accumulator {
 public:
  explicit Accumulator(double center = 0) : center_(center) {}

  // Only the last call of a block may have a count that is no multiple of kLanes.
  void add(const float* values, Index count) {
    Index i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      for (int v = 0; v < kVectors; ++v) lanes_[v].add(widen(values + i + Index{v} * kWidth), center_);
    }
    for (; i < count; ++i) tail_.add(static_cast<double>(values[i]), center_);
  }

  // Folds the lanes in their order, then the tail.
  Partial<kExtra, double> total() const {
    Partial<kExtra, double> total;
    for (int lane = 0; lane < kLanes; ++lane) {
      double of_lane[kWidth];
      const Partial<kExtra, Doubles>& vector = lanes_[lane / kWidth];
      const auto get = [&](const Doubles& values) {
        std::memcpy(of_lane, &values, sizeof of_lane);
        return of_lane[lane % kWidth];
      };
      fold(total, {get(vector.squares), get(vector.sum), get(vector.low), get(vector.high)});
    }
    fold(total, tail_);
    return total;
  }

 private:
  static void fold(Partial<kExtra, double>& total, const Partial<kExtra, double>& part) {
    total.squares += part.squares;
    total.sum += part.sum;
    total.low = part.low < total.low ? part.low : total.low;
    total.high = part.high > total.high ? part.high : total.high;
  }

  Partial<kExtra, Doubles> lanes_[kVectors];
  Partial<kExtra, double> tail_;
  double center_;
};

// Calls visit(k, values, count) for runs of the block's values of channel c + k, for k in [0, K).
template <int K, typename Visit>
inline void for_each_planar_run(const StatisticsTask& task, Index c, const Visit& visit) {
  const Index pixels = task.block.end - task.block.begin;
  if (task.layout == Layout::nchw || task.channels == 1) {
    for (int k = 0; k < K; ++k) visit(k, task.gradient + (c + k) * task.pixels + task.block.begin, pixels);
    return;
  }
  for_each_tile(pixels, [&](Index first, Index count) {
    Tile<K> tile;
    deinterleave<K>(task.gradient + (task.block.begin + first) * task.channels + c, task.channels, count,
                    tile);
    for (int k = 0; k < K; ++k) visit(k, tile.planes[k], count);
  });
}

// Σ(x - mean)² = Σx² - mean Σx. Of values so nearly the same that this cancels, a second sweep sums it up.
inline double deviations(const StatisticsTask& task, Index c, double squares, double sum, double mean) {
  constexpr double kCancels = 0x1p-10;  // leaves float64 more than 40 of its 53 bits
  const double difference = squares - mean * sum;
  if (!(difference < kCancels * squares)) return difference;  // NaN, too
  Accumulator<Extra::deviations> accumulator(mean);
  for_each_planar_run<1>(task, c,
                         [&](int, const float* values, Index count) { accumulator.add(values, count); });
  return accumulator.total().squares;
}

template <Extra kExtra, int K>
inline void statistics_of_channels(const StatisticsTask& task) {
  const auto pixels = static_cast<double>(task.block.end - task.block.begin);
  for (Index c = 0; c < task.channels; c += K) {
    Accumulator<kExtra> accumulators[K];
    for_each_planar_run<K>(
        task, c, [&](int k, const float* values, Index count) { accumulators[k].add(values, count); });
    for (int k = 0; k < K; ++k) {
      const Partial<kExtra, double> total = accumulators[k].total();
      Sums& sums = task.sums[c + k];
      sums.squares = total.squares;
      if constexpr (kExtra == Extra::sum) {
        sums.mean = total.sum / pixels;
        sums.deviations = deviations(task, c + k, total.squares, total.sum, sums.mean);
      }
      if constexpr (kExtra == Extra::magnitudes) sums.magnitudes = total.sum;
      if constexpr (kExtra == Extra::range) {
        sums.low = total.low;
        sums.high = total.high;
      }
    }
  }
}

template <Extra kExtra>
inline void statistics_of(const StatisticsTask& task) {
  if (task.layout == Layout::nhwc && task.channels == 3) {
    statistics_of_channels<kExtra, 3>(task);
  } else if (task.layout == Layout::nhwc && task.channels == 4) {
    statistics_of_channels<kExtra, 4>(task);
  } else {
    statistics_of_channels<kExtra, 1>(task);
  }
}

void statistics(const StatisticsTask& task) {
  switch (task.normalization) {
    case Normalization::std:
      return statistics_of<Extra::sum>(task);
    case Normalization::mean_abs:
      return statistics_of<Extra::magnitudes>(task);
    case Normalization::min_max:
      return statistics_of<Extra::range>(task);
    case Normalization::none:
    case Normalization::rms:
    case Normalization::l2:
    case Normalization::sign:
      return statistics_of<Extra::nothing>(task);
  }
}

}  // namespace
}  // namespace gradserve
