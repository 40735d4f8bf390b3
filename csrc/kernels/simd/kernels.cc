// Compiled once per SIMD target (CMakeLists.txt), each time with that target's instructions.
//
// Nothing but the table may have external linkage here, and no inline function of the standard library may be
// used: the linker keeps one copy of such a function for the whole program, perhaps the AVX-512 one, and an
// older processor would die of it. Hence the anonymous namespaces and plain arrays in kernels/simd/*.h.

#define GRADSERVE_CONCATENATE_(a, b) a##b
#define GRADSERVE_CONCATENATE(a, b) GRADSERVE_CONCATENATE_(a, b)
#define GRADSERVE_STRING_(a) #a
#define GRADSERVE_STRING(a) GRADSERVE_STRING_(a)

#include "kernels/simd/fourier.h"
#include "kernels/simd/image_gradient.h"
#include "kernels/simd/masks.h"
#include "kernels/simd/max_pool.h"
#include "kernels/simd/pointwise.h"
#include "kernels/simd/prepare.h"
#include "kernels/simd/statistics.h"
#include "kernels/simd/update.h"
#include "kernels/simd/warp.h"
#include "kernels/targets.h"

namespace gradserve {

extern const KernelTable GRADSERVE_CONCATENATE(GRADSERVE_SIMD_TARGET, _kernels);
const KernelTable GRADSERVE_CONCATENATE(GRADSERVE_SIMD_TARGET, _kernels) = {
    .name = GRADSERVE_STRING(GRADSERVE_SIMD_TARGET),
    .prepare = prepare,
    .statistics = statistics,
    .update = update,
    .instructions = kInstructions,
    .sum_lanes = sum_lanes,
    .pack_mask = pack_mask,
    .unpack_mask = unpack_mask,
    .max_pool_gradient = max_pool_gradient,
    .image_gradient = image_gradient,
    .fourier_pass = fourier_pass,
    .find_taps = find_taps,
    .read_taps = read_taps,
};

}  // namespace gradserve
