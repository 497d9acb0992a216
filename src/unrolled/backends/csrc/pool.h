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
  struct Block {
    void* data;
    size_t size;
  };

  // At least `bytes`; a free block serves if it is at most half as large again.
  Block take(size_t bytes) {
    const size_t size = rounded(bytes);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = free_.lower_bound(size);
      if (found != free_.end() && found->first <= size + size / 2) {
        const Block block = {found->second.back(), found->first};
        found->second.pop_back();
        if (found->second.empty()) free_.erase(found);
        kept_ -= block.size;
        count(block.size);
        return block;
      }
      count(size);
    }
    void* data = nullptr;
    constexpr size_t page = size_t(1) << 21;  // of large arrays: fewer faults, fewer misses of the table of pages
    if (posix_memalign(&data, size >= 2 * page ? page : 64, size) != 0) {
      const std::lock_guard<std::mutex> lock(mutex_);
      used_ -= size;
      throw std::bad_alloc();
    }
#if defined(MADV_HUGEPAGE)
    if (size >= 2 * page) madvise(data, size, MADV_HUGEPAGE);
#endif
    return {data, size};
  }

  void give(const Block& block) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      used_ -= block.size;
      if (used_ + kept_ + block.size <= peak_ + peak_ / 4 + always_) {
        free_[block.size].push_back(block.data);
        kept_ += block.size;
        return;
      }
    }
    std::free(block.data);
  }

 private:
  // Eighths of a power of two: at most 12 % of a block is unused.
  static size_t rounded(size_t bytes) {
    size_t step = 64;
    while (step * 16 < bytes) step *= 2;
    return (bytes + step - 1) / step * step + (bytes == 0 ? step : 0);
  }

  void count(size_t size) {
    used_ += size;
    if (used_ > peak_) peak_ = used_;
  }

  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> free_;
  // Bytes in use, the most that ever were, and bytes kept for later: together at most a quarter (and `always_`) above
  // that most.
  static constexpr size_t always_ = size_t(1) << 24;
  size_t used_ = 0, peak_ = 0, kept_ = 0;
};

}  // namespace unrolled
