#include "parallel.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <mutex>
#include <system_error>
#include <thread>

namespace gradserve {
namespace {

class Pool {
 public:
  void run(std::int64_t iterations, int threads, detail::Invoke invoke, const void* body) {
    const std::unique_lock owner(owner_, std::try_to_lock);
    if (!owner.owns_lock()) {
      for (std::int64_t i = 0; i < iterations; ++i) invoke(body, i);
      return;
    }
    start_workers(threads - 1);
    {
      const std::scoped_lock lock(mutex_);
      invoke_ = invoke;
      body_ = body;
      iterations_ = iterations;
      next_ = 0;
      seats_ = threads - 1;
    }
    wake_.notify_all();
    work();
    // No iteration is left: let nobody in any more, and wait only for those who are inside.
    std::unique_lock lock(mutex_);
    seats_ = 0;
    idle_.wait(lock, [this] { return active_ == 0; });
  }

 private:
  void start_workers(int wanted) {
    if (workers_ >= wanted) return;
    // Signals are for the threads of Python: a worker that took one would not interrupt their system calls.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (workers_ < wanted && start_worker()) ++workers_;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  // False if the system has no thread left to give: the caller then does more of the loop itself.
  bool start_worker() {
    try {
      std::thread([this] { serve(); }).detach();
      return true;
    } catch (const std::system_error&) {
      return false;
    }
  }

  [[noreturn]] void serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [this] { return seats_ > 0; });
      --seats_;
      ++active_;
      lock.unlock();
      work();
      lock.lock();
      if (--active_ == 0) idle_.notify_one();
    }
  }

  void work() {
    for (std::int64_t i = next_++; i < iterations_; i = next_++) invoke_(body_, i);
  }

  std::mutex owner_;  // held by the loop that has the pool
  int workers_ = 0;   // guarded by owner_

  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  std::condition_variable idle_;
  int seats_ = 0;   // workers that may still join the loop
  int active_ = 0;  // workers inside the loop

  // Written under mutex_ while no worker is inside, read by those who entered later.
  detail::Invoke invoke_ = nullptr;
  const void* body_ = nullptr;
  std::int64_t iterations_ = 0;
  std::atomic<std::int64_t> next_ = 0;
};

std::atomic<Pool*> current_pool = nullptr;

// The pool is never destroyed: its threads sleep in it until the process ends.
Pool& pool() {
  static const bool created = [] {
    current_pool = new Pool;
    // Threads do not survive a fork, and a lock may have been held: the child gets a new pool.
    pthread_atfork(nullptr, nullptr, [] { current_pool = new Pool; });
    return true;
  }();
  static_cast<void>(created);
  return *current_pool;
}

int hardware_threads() {
  static const int threads =
      std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, kMaxThreads);
  return threads;
}

// 0 until somebody sets it.
constinit std::atomic<int> default_threads = 0;

}  // namespace

int num_threads() {
  const int threads = default_threads;
  return threads > 0 ? threads : hardware_threads();
}

void set_num_threads(int threads) {
  default_threads = threads;
}

int worthwhile_threads(std::int64_t values, int threads) {
  constexpr auto kSharedWork = std::int64_t{1} << 18;
  if (threads > 0) return threads;
  return values >= kSharedWork ? num_threads() : 1;
}

void detail::run_loop(std::int64_t iterations, int threads, Invoke invoke, const void* body) {
  const int useful = static_cast<int>(std::min<std::int64_t>({iterations, threads, kMaxThreads}));
  pool().run(iterations, useful, invoke, body);
}

}  // namespace gradserve
