#include "kernels/targets.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace gradserve {

extern const KernelTable scalar_kernels;
extern const KernelTable baseline_kernels;
#ifdef GRADSERVE_HAVE_avx2
extern const KernelTable avx2_kernels;
extern const KernelTable avx512_kernels;
#endif

namespace {

std::vector<const KernelTable*> found_targets() {
  std::vector<const KernelTable*> found;
#ifdef GRADSERVE_HAVE_avx2
  __builtin_cpu_init();
  // Each feature asked for is one that CMakeLists.txt compiles the target with.
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("fma")) {
    found.push_back(&avx512_kernels);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&avx2_kernels);
#endif
  found.push_back(&baseline_kernels);
  found.push_back(&scalar_kernels);
  return found;
}

// The operators of a session have no other way to be told: what tests compare them by.
std::vector<const KernelTable*> allowed_targets() {
  std::vector<const KernelTable*> found = found_targets();
  const char* const given =
      std::getenv("GRADSERVE_MAX_SIMD");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  if (given == nullptr) return found;
  const std::string_view name(given);
  const auto first = std::ranges::find(found, name, &KernelTable::name);
  if (first == found.end()) {
    throw std::invalid_argument("GRADSERVE_MAX_SIMD: expected a target that runs here, got '" +
                                std::string(name) + "'");
  }
  found.erase(found.begin(), first);
  return found;
}

}  // namespace

std::span<const KernelTable* const> available_targets() {
  static const std::vector<const KernelTable*> targets = allowed_targets();
  return targets;
}

}  // namespace gradserve
