// The threads that stay between calls, and the memory that stays between calls.
#pragma once

#include <stdlib.h>
#include <sys/mman.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "team.h"

namespace unrolled {

// Looks that a spinning thread takes in 200 microseconds; what a pause lasts differs tenfold between processors.
inline int looks() {
  double least = 1;
  for (int n = 0; n < 5; ++n) {  // the least: another process may come between
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < 500; ++i) Shared::pause();
    least = std::min(least, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / 500);
  }
  return least > 0 ? int(std::min(200e-6 / least, 1e6)) : 4000;
}

// Calls that run on one thread though they could share their steps. Where another program wants the processors, threads
// that meet after every short step sleep for one another again and again, and one alone is faster by far. A call finds
// that out; then some stay alone (more each time that it is so still) before another tries.
class Solitude {
  static constexpr int FEW = 2, FIRST = 64, MOST = 4096;  // sleeps of a call that are chance; calls
  std::atomic<int> left_{0}, next_{FIRST};

 public:
  int left() const { return left_; }
  void forget() { left_ = 0, next_ = FIRST; }

  // Whether the next call is alone.
  bool one() {
    if (left_ == 0) return false;
    --left_;
    return true;
  }

  // After a call that shared its steps.
  void shared(int sleeps) {
    if (sleeps > FEW) left_ = int(next_);
    next_ = sleeps > FEW ? std::min(2 * next_, int(MOST)) : std::max(next_ / 2, int(FIRST));
  }
};

// Threads that wait, within a call or for the next, spin for 200 microseconds, then sleep: clearly longer than waking one
// takes (50), else two that once slept would wake each other by turns for ever. More threads than processors
// never spin.
class Pool {
 public:
  // `wanted` threads, or as many as the system gives.
  explicit Pool(int wanted) : wanted_(wanted) {
    shared_.spins = unsigned(wanted) <= std::thread::hardware_concurrency() ? looks() : 0;
    shared_.sleep = &Pool::sleep, shared_.wake = &Pool::wake, shared_.bed = this;
    threads_.reserve(wanted - 1);
    try {
      for (int rank = 1; rank < wanted; ++rank) threads_.emplace_back([this, rank] { serve(rank); });
    } catch (const std::exception&) {  // a limit on processes or on memory: those that are there do the work
    }
    size_ = int(threads_.size()) + 1;
  }

  ~Pool() {
    work_ = nullptr;
    start();
    for (auto& thread : threads_) thread.join();
  }

  int wanted() const { return wanted_; }

  // Waits of the last call that spinning did not end.
  int sleeps() const { return shared_.sleeps; }

  // Runs work on every thread, the caller being the first. True unless something stopped it.
  bool run(const std::function<void(const Worker&)>& work, bool (*interrupted)()) {
    shared_.arrived = 0;
    shared_.stop = 0;
    shared_.sleeps = 0;
    shared_.interrupted = interrupted;
    work_ = &work;
    __atomic_store_n(&pending_, size_ - 1, __ATOMIC_RELAXED);
    start();
    work({0, size_, &shared_});
    for (int left; (left = __atomic_load_n(&pending_, __ATOMIC_ACQUIRE)) != 0;) {
      if (shared_.stopped()) std::this_thread::yield();  // they are about to leave
      shared_.wait(&pending_, left);
    }
    return !shared_.stopped();
  }

 private:
  void start() {
    ticket_.fetch_add(1, std::memory_order_seq_cst);
    if (idle_.load(std::memory_order_seq_cst) == 0) return;
    { const std::lock_guard<std::mutex> lock(mutex_); }
    called_.notify_all();
  }

  void serve(int rank) {
    unsigned seen = 0;
    for (;;) {
      for (int i = 0; ticket_.load(std::memory_order_acquire) == seen && i < shared_.spins; ++i) Shared::pause();
      if (ticket_.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        idle_.fetch_add(1, std::memory_order_seq_cst);
        called_.wait(lock, [&] { return ticket_.load(std::memory_order_seq_cst) != seen; });
        idle_.fetch_sub(1, std::memory_order_relaxed);
      }
      ++seen;
      const auto* work = work_;
      if (!work) return;
      (*work)({rank, size_, &shared_});
      if (__atomic_sub_fetch(&pending_, 1, __ATOMIC_SEQ_CST) == 0) shared_.wake_sleepers();
    }
  }

  // Within a call. Who sleeps says so before it looks a last time; who changes the word looks for sleepers after it.
  static void sleep(Shared* shared, const int* word, int value) {
    Pool* pool = static_cast<Pool*>(shared->bed);
    std::unique_lock<std::mutex> lock(pool->bedroom_);
    __atomic_add_fetch(&shared->sleepers, 1, __ATOMIC_SEQ_CST);
    ++shared->sleeps;
    pool->changed_.wait(lock, [&] { return __atomic_load_n(word, __ATOMIC_SEQ_CST) != value || shared->stopped(); });
    __atomic_sub_fetch(&shared->sleepers, 1, __ATOMIC_RELAXED);
  }

  static void wake(Shared* shared) {
    Pool* pool = static_cast<Pool*>(shared->bed);
    { const std::lock_guard<std::mutex> lock(pool->bedroom_); }
    pool->changed_.notify_all();
  }

  const int wanted_;
  int size_ = 1;
  Shared shared_;
  const std::function<void(const Worker&)>* work_ = nullptr;  // of the call that runs; null: end
  std::atomic<unsigned> ticket_{0};
  std::atomic<int> idle_{0};
  alignas(64) int pending_ = 0;  // threads that are still at work
  std::mutex mutex_, bedroom_;
  std::condition_variable called_, changed_;
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
    if (bytes > size_t(1) << 50) throw std::bad_alloc();  // and no sum with it overflows
    const size_t size = rounded(bytes);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      const auto found = free_.lower_bound(size);
      if (found != free_.end() && !found->second.empty() && found->first <= size + size / 2) {
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

  void give(const Block& block) noexcept {
    try {
      const std::lock_guard<std::mutex> lock(mutex_);
      used_ -= block.size;
      if (used_ + kept_ + block.size <= peak_ + peak_ / 4 + always_) {
        free_[block.size].push_back(block.data);
        kept_ += block.size;
        return;
      }
    } catch (const std::bad_alloc&) {  // no memory to note it down
    }
    std::free(block.data);
  }

  // Gives what is kept for later back to the system, which is asked for it anew.
  void trim() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      for (const auto& [size, blocks] : free_)
        for (void* data : blocks) std::free(data);
      free_.clear();
      kept_ = 0, peak_ = used_;
    }
#if defined(__GLIBC__)
    malloc_trim(0);  // which keeps some of it too
#endif
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
