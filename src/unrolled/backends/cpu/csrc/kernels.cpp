// All kernels of one instruction set, in a table. Compiled once for each, with UNROLLED_ISA its name (also the namespace
// that keeps the copies apart) and UNROLLED_BYTES the width of its vectors.

#include "kernels.h"

#include "interpreter.h"
#include "linear.h"
#include "loss.h"
#include "math.h"
#include "optim.h"
#include "sampler.h"
#include "scan_backward.h"
#include "scan_forward.h"
#include "simd.h"

namespace unrolled::UNROLLED_ISA {

#include "emitted/cells.inc"

// The functions of a cell's scan.
template <class T, class C>
struct Entry {
  static size_t forward_work(const Layer<T>& q) { return Forward<T, C>(q, nullptr).bytes; }
  static void forward(const Layer<T>& q, char* work, const Worker& w) {
    const Forward<T, C> f(q, work);
    if (f.prepare(w)) f.run(w);
  }
  static void prepare(const Layer<T>& q, char* work, const Worker& w) { Forward<T, C>(q, work).prepare(w); }
  static void step(const Layer<T>& q, char* work, const Worker& w) { Forward<T, C>(q, work).run(w); }
  static size_t backward_work(const Layer<T>& q) { return Backward<T, C>(q, nullptr).bytes; }
  static void backward(const Layer<T>& q, char* work, const Worker& w) { Backward<T, C>(q, work).run(w); }

  static constexpr ScanKernels<T> table = {forward_work, forward, prepare, step, backward_work, backward};
};

template <class C>
static constexpr CellKernels cell() {
  return {C::name, C::STATES, C::GATES, C::ROWS, C::OPERAND_WIDTH, C::PARAMS, {Entry<float, C>::table, Entry<double, C>::table}};
}

static const CellKernels cells[] = {
#define UNROLLED_CELL(C) cell<C>(),
    UNROLLED_CELLS
#undef UNROLLED_CELL
};

template <class T, Vec<T> (*f)(Vec<T>)>
static void map(const T* x, T* y, long n) {
  const FlushDenormals flush;
  for (long i = 0; i < n; i += W<T>) store(y + i, f(load(x + i, n - i)), n - i);
}

template <class T>
static constexpr ArrayKernels<T> arrays() {
  typedef LinearLayer<T> L;
  typedef ProgramEntry<T> I;
  return {map<T, exp>, map<T, sigmoid>, map<T, tanh>, map<T, log>,
          L::forward_work, L::run_forward, L::run_prepare, draw<T>, L::backward_work, L::run_backward,
          cross_entropy<T>, sum_of_squares<T>, scale<T>, update_rules<T>, sizeof(update_rules<T>) / sizeof(update_rules<T>[0]),
          {I::forward_work, I::forward, I::backward_work, I::backward}};
}

#define UNROLLED_TEXT(x) #x
#define UNROLLED_NAME(x) UNROLLED_TEXT(x)

extern const Kernels kernels;  // a const is private to its file unless it says so
const Kernels kernels = {UNROLLED_NAME(UNROLLED_ISA), UNROLLED_BYTES, cells, sizeof(cells) / sizeof(cells[0]),
                         {arrays<float>(), arrays<double>()}};

}  // namespace unrolled::UNROLLED_ISA
