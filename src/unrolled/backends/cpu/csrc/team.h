// The threads of one call, as the kernels see them. Compiled once per instruction set, so it uses no templates of the
// standard library: an inline function compiled with AVX-512 must never be the one that the linker keeps for all. What
// puts threads to sleep is compiled once, in pool.h, and called through pointers.
#pragma once

namespace unrolled {

// What the threads of one call share. Lives as long as the pool.
struct Shared {
  alignas(64) int arrived = 0;  // threads waiting at the barrier
  alignas(64) int phase = 0;    // barriers passed
  alignas(64) int stop = 0;     // set once somebody wants the call to end; every wait looks at it
  alignas(64) int sleepers = 0;
  int sleeps = 0;                   // of this call: waits that spinning did not end
  int spins = 0;                    // looks of a thread that waits, before it sleeps
  bool (*interrupted)() = nullptr;  // asked by thread 0 between blocks of work
  void (*sleep)(Shared*, const int* word, int value) = nullptr;  // until *word is another, or the call is stopped
  void (*wake)(Shared*) = nullptr;
  void* bed = nullptr;  // theirs

  bool stopped() const { return __atomic_load_n(&stop, __ATOMIC_RELAXED) != 0; }

  // After a word was changed that others wait for.
  void wake_sleepers() {
    if (__atomic_load_n(&sleepers, __ATOMIC_SEQ_CST) != 0) wake(this);
  }

  // Waits until *word is another than `value`, or the call is stopped. The others are mostly some microseconds away; if
  // they don't come for long, the machine is busy, and whoever is waited for may need this very processor.
  void wait(const int* word, int value) {
    for (int i = 0; __atomic_load_n(word, __ATOMIC_ACQUIRE) == value && !stopped(); ++i)
      if (i < spins)
        pause();
      else
        sleep(this, word, value);
  }

  static void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
};

struct Worker {
  int rank;
  int size;
  Shared* shared;

  bool stopped() const { return shared->stopped(); }

  // Between blocks of work: thread 0 looks for Ctrl-C. False: leave at once.
  bool go_on() const {
    if (rank == 0 && shared->interrupted && shared->interrupted()) {
      __atomic_store_n(&shared->stop, 1, __ATOMIC_SEQ_CST);
      shared->wake_sleepers();
    }
    return !stopped();
  }

  // Wait for all threads. False: leave at once.
  bool barrier() const {
    if (size == 1) return !stopped();
    const int phase = __atomic_load_n(&shared->phase, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&shared->arrived, 1, __ATOMIC_ACQ_REL) == size) {
      __atomic_store_n(&shared->arrived, 0, __ATOMIC_RELAXED);
      __atomic_store_n(&shared->phase, phase + 1, __ATOMIC_SEQ_CST);
      shared->wake_sleepers();
    } else {
      shared->wait(&shared->phase, phase);
    }
    return !stopped();
  }
};
// This thread's even share [first, last) of n things.
struct Share {
  long first, last;
  Share(long first_, long last_) : first(first_), last(last_) {}
  Share(long n, const Worker& w) : first(n * w.rank / w.size), last(n * (w.rank + 1) / w.size) {}
};

// Denormals are flushed while this lives: they make some instructions a hundred times slower.
class FlushDenormals {
#if defined(__x86_64__)
  unsigned saved_;

 public:
  FlushDenormals() : saved_(__builtin_ia32_stmxcsr()) { __builtin_ia32_ldmxcsr(saved_ | 0x8040u); }
  ~FlushDenormals() { __builtin_ia32_ldmxcsr(saved_); }
#elif defined(__aarch64__)
  unsigned long saved_;

 public:
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" ::"r"(saved_ | (1ul << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }
#else
 public:
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
};

}  // namespace unrolled
