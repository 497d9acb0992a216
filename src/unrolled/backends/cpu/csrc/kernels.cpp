// All kernels of one instruction set. Compiled once for each, with UNROLLED_ISA its name (also the namespace that
// keeps the copies apart) and UNROLLED_BYTES the width of its vectors.

#include "kernels.h"

#include <math.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace unrolled {
namespace UNROLLED_ISA {

#include "simd.h"
// after simd.h
#include "math.h"
#include "tile.h"
// after tile.h
#include "emitted/cells.inc"
#include "scan.h"
// after scan.h
#include "linear.h"
#include "loss.h"
// after linear.h and loss.h
#include "interpreter.h"
#include "sampler.h"
#include "optim.h"

template <class T, Vec<T> (*f)(Vec<T>)>
static void map(const T* x, T* y, long n) {
  const FlushDenormals flush;
  for (long i = 0; i < n; i += W<T>) store(y + i, f(load(x + i, n - i)), n - i);
}

static Vec<float> exp32(Vec<float> x) { return exp(x); }
static Vec<float> sigmoid32(Vec<float> x) { return sigmoid(x); }
static Vec<double> sigmoid64(Vec<double> x) { return sigmoid(x); }
static Vec<float> tanh32(Vec<float> x) { return tanh(x); }
static Vec<double> exp64(Vec<double> x) { return exp(x); }
static Vec<double> tanh64(Vec<double> x) { return tanh(x); }
static Vec<float> log32(Vec<float> x) { return log(x); }
static Vec<double> log64(Vec<double> x) { return log(x); }

template <class C>
static constexpr CellKernels cell() {
  return {C::name, C::STATES, C::GATES, C::ROWS, C::OPERAND_WIDTH, C::PARAMS,
          {Entry<float, C>::forward_work, Entry<float, C>::forward, Entry<float, C>::prepare, Entry<float, C>::step,
           Entry<float, C>::backward_work, Entry<float, C>::backward},
          {Entry<double, C>::forward_work, Entry<double, C>::forward, Entry<double, C>::prepare, Entry<double, C>::step,
           Entry<double, C>::backward_work, Entry<double, C>::backward}};
}

static const CellKernels cells[] = {
#define UNROLLED_CELL(C) cell<C>(),
    UNROLLED_CELLS
#undef UNROLLED_CELL
};

template <class T>
static constexpr ArrayKernels<T> arrays(void (*exp_)(const T*, T*, long), void (*sigmoid_)(const T*, T*, long),
                                        void (*tanh_)(const T*, T*, long), void (*log_)(const T*, T*, long)) {
  typedef LinearLayer<T> L;
  typedef ProgramEntry<T> P;
  return {exp_, sigmoid_, tanh_, log_, L::forward_work, L::run_forward, L::run_prepare, draw<T>, L::backward_work, L::run_backward, cross_entropy<T>,
          sum_of_squares<T>, scale<T>, update_rules<T>, sizeof(update_rules<T>) / sizeof(update_rules<T>[0]),
          {P::forward_work, P::forward, P::backward_work, P::backward}};
}

#define UNROLLED_TEXT(x) #x
#define UNROLLED_NAME(x) UNROLLED_TEXT(x)

extern const Kernels kernels;  // a const is private to its file unless it says so
const Kernels kernels = {UNROLLED_NAME(UNROLLED_ISA), UNROLLED_BYTES, cells, sizeof(cells) / sizeof(cells[0]),
                         arrays<float>(map<float, exp32>, map<float, sigmoid32>, map<float, tanh32>, map<float, log32>),
                         arrays<double>(map<double, exp64>, map<double, sigmoid64>, map<double, tanh64>, map<double, log64>)};

}  // namespace UNROLLED_ISA
}  // namespace unrolled
