// Sums over one block of the gradient, per channel, in float64 (struct Sums says which).
#pragma once

#include "kernels/simd/interleave.h"
#include "kernels/simd/lanes.h"
#include "kernels/targets.h"

namespace gradserve {
namespace {

// What is summed besides the squares.
enum class Extra : std::uint8_t { nothing, sum, magnitudes, range };

// The running sums of one vector of lanes, or of the scalar tail: V is Doubles or double.
template <Extra kExtra, typename V>
struct Partial {
  V squares{};
  V sum{};  // magnitudes for Extra::magnitudes
  V low = V{} + __builtin_inf();
  V high = V{} - __builtin_inf();

  void add(V value) {
    squares += value * value;
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
  explicit Accumulator(double pivot) : pivot_(pivot) {}

  // Only the last call of a block may have a count that is no multiple of kLanes.
  void add(const float* values, Index count) {
    Index i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      for (int v = 0; v < kVectors; ++v) lanes_[v].add(widen(values + i + Index{v} * kWidth) - pivot_);
    }
    for (; i < count; ++i) tail_.add(static_cast<double>(values[i]) - pivot_);
  }

  // Folds the lanes in their order, then the tail.
  Sums result() const {
    Partial<kExtra, double> total;
    for (int lane = 0; lane < kLanes; ++lane) {
      double of_lane[kWidth];
      const Partial<kExtra, Doubles>& vector = lanes_[lane / kWidth];
      const auto get = [&](const Doubles& values) {
        std::memcpy(of_lane, &values, sizeof of_lane);
        return of_lane[lane % kWidth];
      };
      fold(total, get(vector.squares), get(vector.sum), get(vector.low), get(vector.high));
    }
    fold(total, tail_.squares, tail_.sum, tail_.low, tail_.high);
    return {pivot_, total.sum, total.squares, total.sum, total.low, total.high};
  }

 private:
  static void fold(Partial<kExtra, double>& total, double squares, double sum, double low, double high) {
    total.squares += squares;
    total.sum += sum;
    total.low = low < total.low ? low : total.low;
    total.high = high > total.high ? high : total.high;
  }

  Partial<kExtra, Doubles> lanes_[kVectors];
  Partial<kExtra, double> tail_;
  double pivot_;
};

template <Extra kExtra>
inline void statistics_planar(const StatisticsTask& task) {
  for (Index c = 0; c < task.channels; ++c) {
    const float* plane = task.gradient + c * task.pixels;
    Accumulator<kExtra> accumulator(kExtra == Extra::sum ? static_cast<double>(plane[0]) : 0.0);
    accumulator.add(plane + task.block.begin, task.block.end - task.block.begin);
    task.sums[c] = accumulator.result();
  }
}

template <Extra kExtra, int K, int... k>
inline void statistics_interleaved(const StatisticsTask& task) {
  const auto pivot = [&](Index c) {
    return kExtra == Extra::sum ? static_cast<double>(task.gradient[c]) : 0.0;
  };
  for (Index c = 0; c < task.channels; c += K) {
    Accumulator<kExtra> accumulators[K] = {Accumulator<kExtra>(pivot(c + k))...};
    for_each_tile(task.block.end - task.block.begin, [&](Index first, Index count) {
      Tile<K> tile;
      deinterleave<K>(task.gradient + (task.block.begin + first) * task.channels + c, task.channels, count,
                      tile);
      (accumulators[k].add(tile.planes[k], count), ...);
    });
    ((task.sums[c + k] = accumulators[k].result()), ...);
  }
}

template <Extra kExtra>
inline void statistics_of(const StatisticsTask& task) {
  if (task.layout == Layout::nchw || task.channels == 1) {
    statistics_planar<kExtra>(task);
  } else if (task.channels == 3) {
    statistics_interleaved<kExtra, 3, 0, 1, 2>(task);
  } else if (task.channels == 4) {
    statistics_interleaved<kExtra, 4, 0, 1, 2, 3>(task);
  } else {
    statistics_interleaved<kExtra, 1, 0>(task);
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
