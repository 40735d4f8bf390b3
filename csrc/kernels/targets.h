// The kernels that exist once per SIMD target, and the choice among them at run time.
//
// A kernel works on one block of pixels of one sample (all its channels), given as raw pointers to that
// sample. Every target executes the same IEEE operations in the same order, so the results are the same to
// the last bit whatever the target, and whoever runs which block.
#pragma once

#include <span>

#include "kernels/fused/instructions.h"
#include "kernels/fused/masks.h"
#include "kernels/image_gradient.h"
#include "kernels/max_pool.h"
#include "kernels/taps.h"
#include "kernels/types.h"

namespace gradserve {

// Work and reductions are partitioned into blocks of this many pixels, whatever the number of threads.
// 8192 float32 are 32 KiB: a block of one channel fits the L1 cache.
inline constexpr Index kBlockPixels = 8192;

// Pixels [begin, end) of a sample, counted in row-major order.
struct Block {
  Index begin;
  Index end;
};

// Where the pixels of the image lie in the model's buffer:
// image pixel (y, x) <-> buffer pixel ((y + shift_y) mod height, (x + shift_x) mod width).
struct Jitter {
  Index height;
  Index width;
  Index shift_y;  // in [0, height)
  Index shift_x;  // in [0, width)
};

// buffer[jitter(pixel), c] = (image[c, pixel] - mean[c]) * scale[c]
struct PrepareTask {
  const float* image;
  float* buffer;
  const float* mean;
  const float* scale;
  Index channels;
  Layout layout;
  Jitter jitter;
  Block block;
};

// Sums over one block of one channel. With x the gradient:
// squares = Σx², mean = Σx / n, deviations = Σ(x - mean)², magnitudes = Σ|x|, low = min x, high = max x.
// `squares` is always filled, the others only where the normalization needs them. Squares of float32 cannot
// overflow float64, so `squares` is finite exactly when every x is.
struct Sums {
  double squares;
  double mean;
  double deviations;
  double magnitudes;
  double low;
  double high;
};

struct StatisticsTask {
  const float* gradient;  // in the model's buffer; the sums do not see the jitter
  Sums* sums;             // [channels]
  Normalization normalization;
  Index channels;
  Index pixels;
  Layout layout;
  Block block;
};

// How the buffer's gradient x of one channel becomes the normalized pixel gradient g.
struct ChannelStep {
  // none, std, rms, l2, mean_abs: g = (x * prescale) * factor, where prescale * factor = scale / statistic.
  // The power of two `prescale` is 1 unless the quotient itself is outside float32.
  // sign: g = factor * sign(x).
  float prescale;
  float factor;
  // min_max: g = (x * scale - low) * inverse_range, in float64, for the difference cancels.
  double scale;
  double low;
  double inverse_range;
  // Where weight decay pulls the pixel to.
  float mean;
};

// The part of the update that is the same for all samples and channels (formulas: kernels/ascent.h). Adam's
// corrections are folded into its rate and epsilon, as Kingma & Ba propose, which saves two products a value:
// learning_rate u = rate m / (sqrt(v) + epsilon), with the rate and the epsilon below.
struct StepRule {
  Normalization normalization;
  Optimizer optimizer;
  float rate;           // of what the optimizer remembers, or of g where it remembers no mean
  float gradient_rate;  // momentum, nadam: of g itself
  float beta1;
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float epsilon;  // adam, nadam: epsilon sqrt(1 - beta2^t)
  bool decays;
  float keep;  // 1 - weight_decay
  float low;
  float high;
};

struct UpdateTask {
  float* image;
  float* first_moment;   // null where the optimizer has none
  float* second_moment;  // null where the optimizer has none
  const float* gradient;
  const ChannelStep* steps;  // [channels]
  const StepRule* rule;
  Index channels;
  Layout layout;
  Jitter jitter;
  Block block;
};

// Real and imaginary parts, each for itself.
struct ComplexPlanes {
  float* real;
  float* imaginary;
};

inline constexpr Index kLargestRadix = 8;

// One factor of a Fourier transform (kernels/fourier.h), [radix, blocks, neighbours] to [blocks, radix,
// neighbours]: out[b, j] = sum over k of weights[b, j, k] in[k, b]
struct FourierPass {
  ComplexPlanes in;
  ComplexPlanes out;
  // [blocks, radix, radix, 2]; of a radix above kLargestRadix the roots exp(-2 pi i n / (radix blocks)), [n,
  // 2], of which weights[b, j, k] is number j (k blocks + b).
  const float* weights;
  Index radix;
  Index blocks;
  Index neighbours;
};

struct KernelTable {
  const char* name;
  void (*prepare)(const PrepareTask&);
  void (*statistics)(const StatisticsTask&);
  void (*update)(const UpdateTask&);
  std::span<const Instruction> instructions;
  void (*sum_lanes)(const float* values, Index count, float* lanes);
  void (*pack_mask)(const float* numbers, Index count, MaskWord* words);
  void (*unpack_mask)(const MaskWord* words, Index begin, Index count, float* to);
  void (*max_pool_gradient)(const MaxPoolTask&);
  void (*image_gradient)(const ImageGradientTask&);
  void (*fourier_pass)(const FourierPass&);
  void (*find_taps)(const TapsTask&, Taps&);
  void (*read_taps)(const Taps&, Index count, const float* from, float fill, float* to);
};

// The targets that this build has and this processor runs, best first; "scalar" is always last. None above
// the one that the environment's GRADSERVE_MAX_SIMD names, if it does.
std::span<const KernelTable* const> available_targets();

}  // namespace gradserve
