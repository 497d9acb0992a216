// What stands behind every call: the instruction set that was picked, the threads, the memory, and the way out of the
// interpreter and back.
#pragma once

#include <nanobind/nanobind.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kernels.h"
#include "pool.h"
#include "team.h"

namespace unrolled {

namespace nb = nanobind;

#define UNROLLED_SET(name) \
  namespace name {         \
  extern const Kernels kernels; \
  }
UNROLLED_SETS
#undef UNROLLED_SET

// Module state, made anew in a forked child (its threads do not exist there).
struct State {
  const Kernels* kernels = nullptr;
  Pool* pool = nullptr;
  int threads = 1;
  std::mutex running;  // held by the call that uses the pool
  Solitude solitude;
  std::atomic<int> inside{0};        // calls that have let the interpreter go
  std::atomic<bool> ending{false};   // the interpreter is about to end
};
inline State* state = new State;
inline Memory& memory = *new Memory;  // never destroyed: arrays may outlive the module

inline void after_fork() {
  State* fresh = new State;  // the old one may be locked by a thread that is gone
  fresh->kernels = state->kernels;
  fresh->threads = state->threads;
  state = fresh;
}

inline bool runs_here(const std::string& name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (name == "avx512")
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
  if (name == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return true;
}

// Whether there is AVX-512 BF16, which not all that has AVX-512 has.
inline bool pairs_here() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
#else
  return false;
#endif
}

// Best first; only those that this processor can run.
inline std::vector<const Kernels*> sets() {
  std::vector<const Kernels*> all;
#define UNROLLED_SET(name) \
  if (runs_here(#name)) all.push_back(&name::kernels);
  UNROLLED_SETS
#undef UNROLLED_SET
  return all;
}

inline void use_set(const std::string& name) {
  for (const Kernels* k : sets())
    if (k->name == name) {
      state->kernels = k;
      return;
    }
  throw nb::value_error(("this processor or this build has no instruction set " + name).c_str());
}

// Ctrl-C: the calling thread looks for it every tenth of a second. Only the interpreter's main thread ever finds one.
inline thread_local std::chrono::steady_clock::time_point asked;

inline bool interrupted() {
  if (state->ending.load(std::memory_order_relaxed)) return true;
  const auto now = std::chrono::steady_clock::now();
  if (now - asked < std::chrono::milliseconds(100)) return false;
  asked = now;
  const nb::gil_scoped_acquire lock;
  return PyErr_CheckSignals() != 0;
}

// The pool, or null where one thread is all that there is.
inline Pool* pool_of(State& s, int threads) {
  if (!s.pool || s.pool->wanted() != threads) {
    delete s.pool;
    s.pool = nullptr;
    try {
      s.pool = new Pool(threads);
    } catch (const std::exception&) {  // no memory for it
    }
  }
  return s.pool;
}

template <class Work>
bool run_alone(const Work& work, bool (*interrupted)()) {
  const FlushDenormals flush;
  Shared shared;
  shared.interrupted = interrupted;
  work(Worker{0, 1, &shared});
  return !shared.stopped();
}

// A call that has let the interpreter go; counted while it holds the lock, before and after.
class Inside {
  State& s_;

 public:
  explicit Inside(State& s) : s_(s) { ++s_.inside; }
  ~Inside() { --s_.inside; }
};

// Whether threads that share a step of so many products meet often: waking one takes about as long as such a step.
inline bool meets_often(double step) { return step < 1e6; }

// Runs work(worker) on `threads` threads (one if another call is using them) without the interpreter lock; `often` is
// whether they meet often.
template <class Work>
void run(int threads, const Work& work, bool often = false) {
  State& s = *state;
  if (s.ending) {  // whoever lets go now never comes back
    run_alone(work, nullptr);
    return;
  }
  bool done = true;
  {
    const Inside inside(s);
    const nb::gil_scoped_release release;
    asked = std::chrono::steady_clock::now();
    std::unique_lock<std::mutex> mine(s.running, std::defer_lock);
    const bool free = threads > 1 && mine.try_lock();
    Pool* pool = free && !(often && s.solitude.one()) ? pool_of(s, threads) : nullptr;
    if (pool) {
      const std::function<void(const Worker&)> flushed = [&](const Worker& w) {
        const FlushDenormals flush;
        work(w);
      };
      done = pool->run(flushed, interrupted);
      if (often) s.solitude.shared(pool->sleeps());
    } else {
      done = run_alone(work, interrupted);
    }
  }
  if (done) return;
  if (!PyErr_Occurred()) PyErr_SetNone(PyExc_SystemExit);  // the program ends: this thread (a daemon) does too
  throw nb::python_error();
}

// Before the interpreter ends, calls of daemon threads are: a thread that asks for the lock later is killed where it stands,
// which C++ takes for an error of its own and aborts.
inline void end() {
  State& s = *state;
  s.ending = true;
  const nb::gil_scoped_release release;
  while (s.inside) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace unrolled
