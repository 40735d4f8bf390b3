// What compilers must be told of a loop.
#pragma once

// No iteration of the next loop reads what another one writes.
#if defined(__clang__)
#define GRADSERVE_INDEPENDENT
#else
#define GRADSERVE_INDEPENDENT _Pragma("GCC ivdep")
#endif
