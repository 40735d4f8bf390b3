#include "kernels/fused/run.h"

#include <algorithm>
#include <numeric>
#include <span>
#include <stdexcept>

namespace gradserve {
namespace {

Index product(std::span<const Index> sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), Index{1}, std::multiplies<>());
}

Index parts(Index whole, Index part) {
  return (whole + part - 1) / part;
}

// `count` numbers: the `period` at `from`, again and again.
void repeat(const float* from, Index period, Index count, float* to) {
  if (period == 1) {
    std::fill_n(to, count, *from);
    return;
  }
  for (Index done = 0; done < count; done += period)
    std::copy_n(from, std::min(period, count - done), to + done);
}

}  // namespace

// What one thread works with. Grows to what the largest program wants, and stays.
class FusedRun::Scratch {
 public:
  // Where the operands of an instruction are, by Operand::index.
  std::vector<const float*> inputs;
  float* temporaries = nullptr;      // [temporaries, kChunk]
  float* expanded_inputs = nullptr;  // [inputs, kChunk]
  float* expanded_rows = nullptr;    // [rows, kChunk]
  float* mask = nullptr;             // [kChunk]: on its way into bits
  float* narrow_inputs = nullptr;    // [inputs, kUnit]
  float* rows = nullptr;             // [rows, kUnit]: `lanes` for each row of the unit
  double* sums = nullptr;            // [rows, kUnit]

  void fit(const Program& program) {
    inputs.resize(static_cast<std::size_t>(program.inputs));
    const Index small = program.temporaries + program.inputs + program.rows + 1;
    const Index large = program.inputs + program.rows;
    grow(floats_, small * kChunk + large * kUnit);
    grow(doubles_, program.rows * kUnit);
    temporaries = floats_.data();
    expanded_inputs = temporaries + program.temporaries * kChunk;
    expanded_rows = expanded_inputs + program.inputs * kChunk;
    mask = expanded_rows + program.rows * kChunk;
    narrow_inputs = mask + kChunk;
    rows = narrow_inputs + program.inputs * kUnit;
    sums = doubles_.data();
  }

 private:
  template <typename T>
  static void grow(std::vector<T>& values, Index size) {
    if (values.size() < static_cast<std::size_t>(size)) values.resize(static_cast<std::size_t>(size));
  }

  std::vector<float> floats_;
  std::vector<double> doubles_;
};

FusedRun::FusedRun(const KernelTable& kernels, const Program& program, const float* numbers, Shape shape,
                   Index axis, Index lanes)
    : kernels_(kernels),
      program_(program),
      numbers_(numbers),
      shape_(std::move(shape)),
      axis_(static_cast<std::size_t>(axis)),
      lanes_(lanes),
      sources_(static_cast<std::size_t>(program.inputs)),
      outputs_(static_cast<std::size_t>(program.outputs)) {
  if (axis < 0 || axis_ > shape_.size())
    throw std::invalid_argument("fused program: axis outside of the shape");
  const std::span<const Index> sizes(shape_);
  rows_ = product(sizes.first(axis_));
  columns_ = product(sizes.subspan(axis_));
  if (lanes_ < 1 || kSumLanes % lanes_ != 0 || columns_ % lanes_ != 0) {
    throw std::invalid_argument("fused program: expected lanes that divide 16 and the columns");
  }
  if (rows_ == 0) return;
  // Reductions want whole rows; other long rows are shared out. Rows of nothing have sums too.
  const Index width = std::max(columns_, lanes_);
  rows_of_unit_ = std::max(Index{1}, kUnit / width);
  columns_of_unit_ = program_.rows > 0 ? width : std::min(width, kUnit);
  units_of_row_ = parts(width, columns_of_unit_);
  units_ = parts(rows_, rows_of_unit_) * units_of_row_;
}

void FusedRun::set_input(Index index, const float* data, const Shape& shape) {
  const std::string where = "fused program: input " + std::to_string(index);
  if (shape.size() > shape_.size()) throw std::invalid_argument(where + ": more axes than the result");
  Shape aligned(shape_.size() - shape.size(), 1);
  aligned.insert(aligned.end(), shape.begin(), shape.end());
  Source& source = sources_[static_cast<std::size_t>(index)];
  source.data = data;
  source.period = product(std::span<const Index>(aligned).subspan(axis_));
  // Along the columns an input has one entry up to some axis, and all of them from there on.
  bool all = false;
  for (std::size_t i = axis_; i < shape_.size(); ++i) {
    if (shape_[i] == 1 && aligned[i] == 1) continue;
    if (aligned[i] != shape_[i] && (aligned[i] != 1 || all))
      throw std::invalid_argument(where + ": does not fit");
    all = aligned[i] == shape_[i];
  }
  // Long rows are filled in parts of kChunk numbers.
  const bool aligns = source.period == columns_ || columns_ <= kChunk || kChunk % source.period == 0;
  const bool narrow = program_.narrow_inputs[static_cast<std::size_t>(index)];
  if (!aligns || (narrow && (source.period > lanes_ || lanes_ % source.period != 0))) {
    throw std::invalid_argument(where + ": repeats in a way that is not built");
  }
  source.row_strides.assign(axis_, 0);
  Index stride = source.period;
  for (std::size_t i = axis_; i-- > 0;) {
    if (aligned[i] != shape_[i] && aligned[i] != 1) throw std::invalid_argument(where + ": does not fit");
    if (aligned[i] != 1) source.row_strides[i] = stride;
    stride *= aligned[i];
  }
  source.whole = stride == rows_ * columns_;
}

void FusedRun::set_packed_input(Index index, const MaskWord* words, Index count) {
  const auto at = static_cast<std::size_t>(index);
  if (count != mask_size() || program_.narrow_inputs[at]) {
    throw std::invalid_argument("fused program: input " + std::to_string(index) + ": does not fit");
  }
  sources_[at].words = words;
}

void FusedRun::set_packed_output(Index index, MaskWord* words) {
  // Parts of the numbers, which threads share out, must be whole words.
  if (rows_ > 1 && columns_ % kMaskNumbers != 0) {
    throw std::invalid_argument("fused program: expected rows of whole words, got " +
                                std::to_string(columns_) + " numbers");
  }
  outputs_[static_cast<std::size_t>(index)].words = words;
}

Index FusedRun::work() const {
  std::size_t lines = 0;
  for (const Pass& pass : program_.passes) lines += pass.full.size() + pass.reductions.size();
  return static_cast<Index>(lines) * rows_ * columns_;
}

Index FusedRun::offset(const Source& source, Index row) const {
  if (source.whole) return row * columns_;
  Index offset = 0;
  for (std::size_t i = axis_; i-- > 0;) {
    offset += row % shape_[i] * source.row_strides[i];
    row /= shape_[i];
  }
  return offset;
}

FusedRun::Piece FusedRun::unit(Index index) const {
  const Index row = index / units_of_row_ * rows_of_unit_;
  const Index begin = index % units_of_row_ * columns_of_unit_;
  return {.row = row,
          .rows = std::min(rows_of_unit_, rows_ - row),
          .begin = begin,
          .end = std::min(begin + columns_of_unit_, columns_)};
}

void FusedRun::run(Index begin, Index end) const {
  thread_local Scratch scratch;
  scratch.fit(program_);
  for (Index index = begin; index < end; ++index) {
    const Piece piece = unit(index);
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      if (!program_.narrow_inputs[i]) continue;
      float* to = scratch.narrow_inputs + static_cast<Index>(i) * kUnit;
      for (Index row = 0; row < piece.rows; ++row) {
        const Source& source = sources_[i];
        repeat(source.data + offset(source, piece.row + row), source.period, lanes_, to + row * lanes_);
      }
    }
    for (const Pass& pass : program_.passes) run_pass(pass, piece, scratch);
  }
}

void FusedRun::run_pass(const Pass& pass, const Piece& unit, Scratch& scratch) const {
  for (const Line& line : pass.reductions) {
    std::fill_n(scratch.sums + line.to.index * kUnit, unit.rows * lanes_, 0.0);
  }
  if (!pass.full.empty() && unit.width() > 0) {
    const Index rows = std::max(Index{1}, kChunk / unit.width());
    for (Index row = 0; row < unit.rows; row += rows) {
      for (Index begin = unit.begin; begin < unit.end; begin += kChunk) {
        const Index end = rows > 1 ? unit.end : std::min(begin + kChunk, unit.end);
        const Piece part = {
            .row = unit.row + row, .rows = std::min(rows, unit.rows - row), .begin = begin, .end = end};
        run_full(pass, unit, part, scratch);
      }
    }
  }
  run_rows(pass, unit, scratch);
}

const float* FusedRun::full_input(std::size_t index, const Piece& part, Scratch& scratch) const {
  const Source& source = sources_[index];
  float* to = scratch.expanded_inputs + static_cast<Index>(index) * kChunk;
  if (source.words != nullptr) {
    kernels_.unpack_mask(source.words, part.row * columns_ + part.begin, part.count(), to);
    return to;
  }
  if (source.whole) return source.data + part.row * columns_ + part.begin;
  if (source.period == columns_ && part.rows == 1) return source.data + offset(source, part.row) + part.begin;
  for (Index row = 0; row < part.rows; ++row) {
    repeat(source.data + offset(source, part.row + row), source.period, part.width(),
           to + row * part.width());
  }
  return to;
}

void FusedRun::run_full(const Pass& pass, const Piece& unit, const Piece& part, Scratch& scratch) const {
  for (const Index index : pass.inputs) {
    scratch.inputs[static_cast<std::size_t>(index)] =
        full_input(static_cast<std::size_t>(index), part, scratch);
  }
  const Index first = (part.row - unit.row) * lanes_;
  for (const Index index : pass.expanded_rows) {
    const float* from = scratch.rows + index * kUnit + first;
    float* to = scratch.expanded_rows + index * kChunk;
    for (Index row = 0; row < part.rows; ++row) {
      repeat(from + row * lanes_, lanes_, part.width(), to + row * part.width());
    }
  }
  const auto read = [&](Operand from) -> const float* {
    switch (from.place) {
      case Place::input:
        return scratch.inputs[static_cast<std::size_t>(from.index)];
      case Place::number:
        return numbers_ + from.index * kUnit;
      case Place::temporary:
        return scratch.temporaries + from.index * kChunk;
      case Place::row:
        return scratch.expanded_rows + from.index * kChunk;
      default:
        return nullptr;
    }
  };
  const Index count = part.count();
  for (const Line& line : pass.full) {
    const Index begin = part.row * columns_ + part.begin;
    const Result* result =
        line.to.place == Place::output ? &outputs_[static_cast<std::size_t>(line.to.index)] : nullptr;
    float* to = result == nullptr          ? scratch.temporaries + line.to.index * kChunk
                : result->words != nullptr ? scratch.mask
                                           : result->data + begin;
    line.instruction->run(to, read(line.from[0]), read(line.from[1]), read(line.from[2]), count);
    if (result != nullptr && result->words != nullptr) {
      kernels_.pack_mask(to, count, result->words + begin / kMaskNumbers);
    }
  }
  for (const Line& line : pass.reductions) {
    const float* from = scratch.temporaries + line.from[0].index * kChunk;
    double* sums = scratch.sums + line.to.index * kUnit + first;
    for (Index row = 0; row < part.rows; ++row) {
      float lanes[kSumLanes] = {};
      kernels_.sum_lanes(from + row * part.width(), part.width(), lanes);
      for (Index lane = 0; lane < kSumLanes; ++lane) sums[row * lanes_ + lane % lanes_] += lanes[lane];
    }
  }
}

void FusedRun::run_rows(const Pass& pass, const Piece& unit, Scratch& scratch) const {
  const Index count = unit.rows * lanes_;
  for (const Line& line : pass.reductions) {
    const double* sums = scratch.sums + line.to.index * kUnit;
    float* to = scratch.rows + line.to.index * kUnit;
    const Index reduced = columns_ / lanes_;
    // The mean of nothing is 0, as onnxruntime has it.
    const double divisor =
        line.reduction == Reduction::mean ? static_cast<double>(std::max(reduced, Index{1})) : 1.0;
    for (Index i = 0; i < count; ++i) to[i] = static_cast<float>(sums[i] / divisor);
  }
  const auto read = [&](Operand from) -> const float* {
    switch (from.place) {
      case Place::input:
        return scratch.narrow_inputs + from.index * kUnit;
      case Place::number:
        return numbers_ + from.index * kUnit;
      case Place::row:
        return scratch.rows + from.index * kUnit;
      default:
        return nullptr;
    }
  };
  for (const Line& line : pass.rows) {
    float* to = line.to.place == Place::row
                    ? scratch.rows + line.to.index * kUnit
                    : outputs_[static_cast<std::size_t>(line.to.index)].data + unit.row * lanes_;
    line.instruction->run(to, read(line.from[0]), read(line.from[1]), read(line.from[2]), count);
  }
}

}  // namespace gradserve
