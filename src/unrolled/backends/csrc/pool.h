// The threads that stay between calls, and the memory that stays between calls.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "team.h"

namespace unrolled {

// Workers spin for about 200 microseconds after a call (waking a sleeper costs 50, and the next call is often that near),
// then sleep.
class Pool {
 public:
  explicit Pool(int size) : size_(size) {
    for (int rank = 1; rank < size; ++rank) threads_.emplace_back([this, rank] { serve(rank); });
  }

  ~Pool() {
    work_ = nullptr;
    start();
    for (auto& thread : threads_) thread.join();
  }

  int size() const { return size_; }

  // Runs work on every thread, the caller being the first. True unless something stopped it.
  bool run(const std::function<void(const Worker&)>& work, bool (*interrupted)()) {
    shared_.arrived = 0;
    shared_.stop = 0;
    shared_.interrupted = interrupted;
    work_ = &work;
    pending_.store(size_ - 1, std::memory_order_relaxed);
    start();
    work({0, size_, &shared_});
    for (int spins = 0; pending_.load(std::memory_order_acquire) != 0; ++spins) {
      if (spins > 4000) std::this_thread::yield();
      Worker::pause();
    }
    return shared_.stop == 0;
  }

 private:
  void start() {
    ticket_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    { const std::lock_guard<std::mutex> lock(mutex_); }
    wake_.notify_all();
  }

  void serve(int rank) {
    unsigned seen = 0;
    for (;;) {
      for (int spins = 0; ticket_.load(std::memory_order_acquire) == seen && spins < 10000; ++spins) Worker::pause();
      if (ticket_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        sleepers_.fetch_add(1, std::memory_order_seq_cst);
        wake_.wait(lock, [&] { return ticket_.load(std::memory_order_seq_cst) != seen; });
        sleepers_.fetch_sub(1, std::memory_order_relaxed);
      }
      ++seen;
      const auto* work = work_;
      if (!work) return;
      (*work)({rank, size_, &shared_});
      pending_.fetch_sub(1, std::memory_order_release);
    }
  }

  const int size_;
  Shared shared_;
  const std::function<void(const Worker&)>* work_ = nullptr;  // of the call that runs; null: end
  std::atomic<unsigned> ticket_{0};
  std::atomic<int> pending_{0}, sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> threads_;
};

// Memory that comes back when an array is no longer used, and serves the next of about its size: once warm, a training
// step allocates nothing and touches no fresh page.
class Memory {
 public:
  void* take(size_t bytes) {
    const size_t size = rounded(bytes);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      used_ += size;
      if (used_ > peak_) peak_ = used_;
      auto found = free_.find(size);
      if (found != free_.end() && !found->second.empty()) {
        void* block = found->second.back();
        found->second.pop_back();
        kept_ -= size;
        return block;
      }
    }
    void* block = nullptr;
    constexpr size_t page = size_t(1) << 21;  // of large arrays: fewer faults, fewer misses of the table of pages
    if (posix_memalign(&block, size >= 2 * page ? page : 64, size) != 0) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (size >= 2 * page) madvise(block, size, MADV_HUGEPAGE);
#endif
    return block;
  }

  void give(void* block, size_t bytes) {
    const size_t size = rounded(bytes);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      used_ -= size;
      if (kept_ + size <= peak_) {
        free_[size].push_back(block);
        kept_ += size;
        return;
      }
    }
    std::free(block);
  }

 private:
  // Eighths of a power of two: at most 12 % of a block is unused.
  static size_t rounded(size_t bytes) {
    size_t step = 64;
    while (step * 16 < bytes) step *= 2;
    return (bytes + step - 1) / step * step + (bytes == 0 ? step : 0);
  }

  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
  // Bytes in use, the most that ever were, and bytes kept for later: never more than were once in use.
  size_t used_ = 0, peak_ = 0, kept_ = 0;
};

}  // namespace unrolled
