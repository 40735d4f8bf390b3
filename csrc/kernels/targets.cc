#include "kernels/targets.h"

#include <vector>

namespace gradserve {

extern const KernelTable scalar_kernels;
extern const KernelTable baseline_kernels;
#ifdef GRADSERVE_HAVE_avx2
extern const KernelTable avx2_kernels;
extern const KernelTable avx512_kernels;
#endif

std::span<const KernelTable* const> available_targets() {
  static const std::vector<const KernelTable*> targets = [] {
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
  }();
  return targets;
}

}  // namespace gradserve
