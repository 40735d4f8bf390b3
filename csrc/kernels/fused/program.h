// A fused program: what is computed of each row of numbers, written as text.
//
// A row is the columns of the iteration space [rows, columns] that one row index has. One line is one
// instruction:
//
//   t0 = sub x0 x1            t: as long as a row; forgotten where a reduction ends the pass
//   t1 = mul t0 t0
//   r0 = mean t1              r: `lanes` numbers for each row, known from here to the end
//   r1 = add r0 #1e-05        #: a number
//   r2 = sqrt r1
//   t0 = sub x0 x1            the next pass over the row starts with the first t after an r
//   y0 = div t0 r2            y: a result, as long as a row,
//   y1 = copy r0              or, where it is declared narrow, `lanes` numbers for each row
//
// x is an input: as long as a row, or repeated to be so, or (beside r) numbers for each row.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/fused/instructions.h"

namespace gradserve {

enum class Place : std::uint8_t { none, input, number, temporary, row, output };

struct Operand {
  Place place = Place::none;
  Index index = 0;
};

enum class Reduction : std::uint8_t { none, sum, mean };

struct Line {
  const Instruction* instruction = nullptr;  // null for a reduction
  Reduction reduction = Reduction::none;
  Operand to;
  Operand from[3];
};

// Lines that run over whole rows, then reductions of what they made, then lines over the numbers of a row.
struct Pass {
  std::vector<Line> full;
  std::vector<Line> reductions;
  std::vector<Line> rows;
  std::vector<Index> inputs;         // that full lines read
  std::vector<Index> expanded_rows;  // that full lines read
};

struct Program {
  std::vector<Pass> passes;
  std::vector<float> numbers;
  Index inputs = 0;
  Index outputs = 0;
  Index temporaries = 0;
  Index rows = 0;
  std::vector<bool> narrow_inputs;  // whether a line over the numbers of a row reads the input
};

// Reads a program. Throws std::invalid_argument with the line and what is wrong with it: everything that is
// read was written before, and each result is written once.
//
// Args:
//   narrow: For each result, whether it has `lanes` numbers for each row instead of whole rows.
Program parse_program(std::string_view text, std::span<const Instruction> instructions,
                      const std::vector<bool>& narrow);

}  // namespace gradserve
