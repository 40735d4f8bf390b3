#include "kernels/fused/program.h"

#include <algorithm>
#include <charconv>
#include <stdexcept>

namespace gradserve {
namespace {

constexpr Index kMostOfAKind = 4096;

std::vector<std::string_view> words_of(std::string_view line) {
  std::vector<std::string_view> words;
  while (!line.empty()) {
    const std::size_t end = std::min(line.find(' '), line.size());
    if (end > 0) words.push_back(line.substr(0, end));
    line.remove_prefix(std::min(end + 1, line.size()));
  }
  return words;
}

class Reader {
 public:
  Reader(std::string_view text, std::span<const Instruction> instructions, const std::vector<bool>& narrow)
      : instructions_(instructions), narrow_(narrow), written_outputs_(narrow.size()) {
    while (!text.empty()) {
      const std::size_t end = std::min(text.find('\n'), text.size());
      line_ = text.substr(0, end);
      if (!line_.empty()) read_line();
      text.remove_prefix(std::min(end + 1, text.size()));
    }
    program_.outputs = std::ssize(narrow_);
    if (narrow_.empty() || std::ranges::find(written_outputs_, false) != written_outputs_.end()) {
      throw std::invalid_argument("fused program: expected every output to be written");
    }
  }

  Program take() { return std::move(program_); }

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw std::invalid_argument("fused program: line '" + std::string(line_) + "': " + problem);
  }

  void read_line() {
    const std::vector<std::string_view> words = words_of(line_);
    if (words.size() < 4 || words[1] != "=") fail("expected TARGET = INSTRUCTION OPERAND...");
    Line line;
    line.reduction = words[2] == "sum"    ? Reduction::sum
                     : words[2] == "mean" ? Reduction::mean
                                          : Reduction::none;
    std::size_t operands = 1;
    if (line.reduction == Reduction::none) {
      const auto known =
          std::ranges::find_if(instructions_, [&](const Instruction& i) { return words[2] == i.name; });
      if (known == instructions_.end())
        fail("expected a known instruction, got '" + std::string(words[2]) + "'");
      line.instruction = &*known;
      operands = static_cast<std::size_t>(known->operands);
    }
    if (words.size() != 3 + operands) fail("expected " + std::to_string(operands) + " operands");
    for (std::size_t i = 0; i < operands; ++i) line.from[i] = operand(words[3 + i]);
    line.to = {.place = kind(words[0], "try"), .index = index(words[0])};
    place(line);
    write(line.to);
  }

  void place(const Line& line) {
    const bool has_full =
        std::ranges::any_of(line.from, [](Operand o) { return o.place == Place::temporary; });
    if (line.reduction != Reduction::none) {
      if (line.to.place != Place::row || line.from[0].place != Place::temporary) fail("expected r = sum t");
      if (!pass().rows.empty()) fail("expected the reductions of a pass right after its full lines");
      pass().reductions.push_back(line);
    } else if (line.to.place == Place::row || is_narrow_output(line)) {
      if (has_full) fail("expected numbers of a row, got a whole row");
      if (program_.passes.empty()) program_.passes.emplace_back();
      pass().rows.push_back(line);
    } else {
      if (program_.passes.empty() || !pass().reductions.empty() || !pass().rows.empty()) {
        program_.passes.emplace_back();
        written_.clear();
      }
      pass().full.push_back(line);
    }
    for (const Operand& from : line.from) note_use(from, line);
  }

  void write(Operand to) {
    const auto at = static_cast<std::size_t>(to.index);
    if (to.place == Place::temporary) {
      written_.push_back(to.index);
      program_.temporaries = std::max(program_.temporaries, to.index + 1);
    } else if (to.place == Place::row) {
      program_.rows = std::max(program_.rows, to.index + 1);
      written_rows_.resize(static_cast<std::size_t>(program_.rows));
      written_rows_[at] = true;
    } else {
      written_outputs_[at] = true;
    }
  }

  bool is_narrow_output(const Line& line) const {
    if (line.to.place != Place::output) return false;
    const auto at = static_cast<std::size_t>(line.to.index);
    if (at >= narrow_.size()) fail("expected one of the outputs");
    if (written_outputs_[at]) fail("expected an output that was not written yet");
    return narrow_[at];
  }

  void note_use(Operand from, const Line& line) {
    const bool full =
        line.to.place == Place::temporary || (line.to.place == Place::output && !is_narrow_output(line));
    if (from.place == Place::temporary && std::ranges::find(written_, from.index) == written_.end()) {
      fail("expected a t that this pass has written");
    }
    const auto at = static_cast<std::size_t>(from.index);
    if (from.place == Place::row && (at >= written_rows_.size() || !written_rows_[at])) {
      fail("expected an r that was written");
    }
    if (from.place == Place::row && full) note(pass().expanded_rows, from.index);
    if (from.place == Place::input && full) note(pass().inputs, from.index);
    if (from.place == Place::input && !full)
      program_.narrow_inputs[static_cast<std::size_t>(from.index)] = true;
  }

  static void note(std::vector<Index>& indices, Index index) {
    if (std::ranges::find(indices, index) == indices.end()) indices.push_back(index);
  }

  Operand operand(std::string_view word) {
    if (word[0] == '#') {
      float number = 0;
      const auto [end, error] = std::from_chars(word.data() + 1, word.data() + word.size(), number);
      if (error != std::errc() || end != word.data() + word.size()) fail("expected a number after '#'");
      program_.numbers.push_back(number);
      return {.place = Place::number, .index = static_cast<Index>(program_.numbers.size()) - 1};
    }
    const Operand found = {.place = kind(word, "xtr"), .index = index(word)};
    if (found.place == Place::input && found.index >= program_.inputs) {
      program_.inputs = found.index + 1;
      program_.narrow_inputs.resize(static_cast<std::size_t>(program_.inputs));
    }
    return found;
  }

  Place kind(std::string_view word, std::string_view allowed) const {
    if (allowed.find(word[0]) == std::string_view::npos)
      fail("expected one of '" + std::string(allowed) + "'");
    switch (word[0]) {
      case 'x':
        return Place::input;
      case 't':
        return Place::temporary;
      case 'r':
        return Place::row;
      default:
        return Place::output;
    }
  }

  Index index(std::string_view word) const {
    Index value = 0;
    const auto [end, error] = std::from_chars(word.data() + 1, word.data() + word.size(), value);
    if (error != std::errc() || end != word.data() + word.size() || value < 0 || value >= kMostOfAKind) {
      fail("expected an index after '" + std::string(1, word[0]) + "'");
    }
    return value;
  }

  Pass& pass() {
    if (program_.passes.empty()) fail("expected a full line first");
    return program_.passes.back();
  }

  std::span<const Instruction> instructions_;
  std::string_view line_;
  const std::vector<bool>& narrow_;
  std::vector<Index> written_;  // temporaries of this pass
  std::vector<bool> written_rows_;
  std::vector<bool> written_outputs_;
  Program program_;
};

}  // namespace

Program parse_program(std::string_view text, std::span<const Instruction> instructions,
                      const std::vector<bool>& narrow) {
  return Reader(text, instructions, narrow).take();
}

}  // namespace gradserve
