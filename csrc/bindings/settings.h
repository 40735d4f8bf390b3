// Settings that arrive as Python values, checked before a kernel sees them.
#pragma once

#include <pybind11/pybind11.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/targets.h"
#include "parallel.h"

namespace gradserve {

[[noreturn]] inline void refuse(const std::string& what, const std::string& expected,
                                const std::string& got) {
  throw pybind11::value_error(what + ": expected " + expected + ", got " + got);
}

template <typename Enum>
using Named = std::pair<std::string_view, Enum>;

template <typename Enum, std::size_t kCount>
Enum parse(const char* what, const Named<Enum> (&names)[kCount], const std::string& text) {
  std::string expected;
  for (const auto& [name, value] : names) {
    if (text == name) return value;
    expected += (expected.empty() ? "" : ", ") + std::string(name);
  }
  refuse(what, "one of " + expected, "'" + text + "'");
}

// The SIMD target of that name; the best one for None.
inline const KernelTable* find_target(const std::optional<std::string>& name) {
  const auto targets = available_targets();
  if (!name) return targets.front();
  std::string expected;
  for (const KernelTable* target : targets) {
    if (*name == target->name) return target;
    expected += (expected.empty() ? "" : ", ") + std::string(target->name);
  }
  refuse("simd", "one of " + expected, "'" + *name + "'");
}

// 0 for None: as many as the work is worth.
inline int checked_threads(std::optional<int> threads) {
  if (threads && (*threads < 1 || *threads > kMaxThreads)) {
    refuse("threads", "None or 1 to " + std::to_string(kMaxThreads), std::to_string(*threads));
  }
  return threads.value_or(0);
}

}  // namespace gradserve
