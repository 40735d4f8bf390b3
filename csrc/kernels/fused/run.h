// Runs a fused program over its iteration space, a cache's worth of numbers at a time.
#pragma once

#include <vector>

#include "kernels/fused/program.h"
#include "kernels/targets.h"

namespace gradserve {

using Shape = std::vector<Index>;

class FusedRun {
 public:
  // Numbers that one instruction makes at a time. Few, so that the processor still fetches from memory for
  // one instruction while it computes another: with 256 a program takes the time of its slowest part, with
  // 2048 the sum of all (measured, docs/performance.md).
  static constexpr Index kChunk = 256;
  // Numbers of whole rows whose reductions are finished together.
  static constexpr Index kUnit = 4096;

  // Args:
  //   numbers: The program's, each repeated kUnit times.
  //   shape: The iteration space; the rows are its first `axis` axes.
  //   lanes: Numbers that a reduction leaves of a row: element i of a row goes to number i mod lanes.
  // Throws std::invalid_argument for what does not fit. The program and its numbers must outlive the run.
  FusedRun(const KernelTable& kernels, const Program& program, const float* numbers, Shape shape, Index axis,
           Index lanes);

  void set_input(Index index, const float* data, const Shape& shape);
  void set_output(Index index, float* data) { outputs_[static_cast<std::size_t>(index)].data = data; }

  // The same for masks in bits, of every number of the iteration space.
  void set_packed_input(Index index, const MaskWord* words, Index count);
  void set_packed_output(Index index, MaskWord* words);
  Index mask_size() const { return mask_words(rows_ * columns_); }

  // Independent pieces of work, and a measure of all of it: how many numbers instructions make.
  Index units() const { return units_; }
  Index work() const;

  // Runs units [begin, end). Any thread may run any units, in any order.
  void run(Index begin, Index end) const;

 private:
  // Where the numbers of an input lie, seen from a row.
  struct Source {
    const float* data = nullptr;
    const MaskWord* words = nullptr;  // instead of the numbers
    Index period = 0;                 // numbers of a row, repeated to fill it
    std::vector<Index> row_strides;   // along each axis of the rows; 0 where the input has one entry
    bool whole = false;               // as large as the iteration space
  };
  struct Result {
    float* data = nullptr;
    MaskWord* words = nullptr;  // instead of the numbers
  };
  // Rows [row, row + rows), columns [begin, end).
  struct Piece {
    Index row;
    Index rows;
    Index begin;
    Index end;
    Index width() const { return end - begin; }
    Index count() const { return rows * width(); }
  };
  class Scratch;

  Piece unit(Index index) const;
  void run_pass(const Pass& pass, const Piece& unit, Scratch& scratch) const;
  void run_full(const Pass& pass, const Piece& unit, const Piece& part, Scratch& scratch) const;
  void run_rows(const Pass& pass, const Piece& unit, Scratch& scratch) const;
  const float* full_input(std::size_t index, const Piece& part, Scratch& scratch) const;
  Index offset(const Source& source, Index row) const;

  const KernelTable& kernels_;
  const Program& program_;
  const float* numbers_;
  Shape shape_;
  std::size_t axis_;
  Index lanes_;
  Index rows_ = 1;
  Index columns_ = 1;
  Index rows_of_unit_ = 1;
  Index columns_of_unit_ = 1;
  Index units_of_row_ = 1;
  Index units_ = 0;
  std::vector<Source> sources_;
  std::vector<Result> outputs_;
};

}  // namespace gradserve
