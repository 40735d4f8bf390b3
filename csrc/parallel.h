// A small fixed thread pool for loops whose iterations are independent.
//
// The threads start at the first loop that wants them, and sleep between loops. One loop has the pool at a
// time: a caller that finds it taken runs its loop on its own thread, so concurrent callers neither wait for
// each other nor oversubscribe the cores. After a fork the child starts with a fresh pool.
#pragma once

#include <cstdint>

namespace gradserve {

inline constexpr int kMaxThreads = 256;

// How many threads a loop uses unless told otherwise; at first the number of hardware cores.
int num_threads();
void set_num_threads(int threads);  // 1 <= threads <= kMaxThreads

// How many threads a loop over so many values should use: `threads` if it is above 0, else num_threads()
// where the work is large enough to share. Below 1 MiB of float32, waking another thread costs about as much
// as it saves.
int worthwhile_threads(std::int64_t values, int threads);

namespace detail {
using Invoke = void (*)(const void* body, std::int64_t iteration);
void run_loop(std::int64_t iterations, int threads, Invoke invoke, const void* body);
}  // namespace detail

// Calls body(i) once for every i in [0, iterations), on at most `threads` threads, the caller among them.
// The order and the assignment to threads are not fixed. The body must not throw.
template <typename Body>
void parallel_for(std::int64_t iterations, int threads, const Body& body) {
  if (threads == 1 || iterations < 2) {
    for (std::int64_t i = 0; i < iterations; ++i) body(i);
    return;
  }
  detail::run_loop(
      iterations, threads,
      [](const void* opaque, std::int64_t i) noexcept { (*static_cast<const Body*>(opaque))(i); }, &body);
}

}  // namespace gradserve
