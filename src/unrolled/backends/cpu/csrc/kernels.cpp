// All kernels of one instruction set, in a table. Compiled once for each, with UNROLLED_ISA its name (also the namespace
// that keeps the copies apart) and UNROLLED_BYTES the width of its vectors.

#include "kernels.h"

#include "interpreter.h"
#include "linear.h"
#include "loss.h"
#include "math.h"
#include "optim.h"
#include "peaks.h"
#include "sampler.h"
#include "scan_backward.h"
#include "scan_forward.h"
#include "simd.h"

namespace unrolled::UNROLLED_ISA {

#include "emitted/cells.inc"

// Bytes of scratch memory that a Run of a layer needs, and the run.
template <class Run, class Q>
static size_t work_of(const Q& q) {
  return Run(q, nullptr).bytes;
}
template <class Run, class Q>
static void run(const Q& q, char* work, const Worker& w) {
  Run(q, work).run(w);
}

// A layer forward, in two parts: `prepare` and `run`.
template <class Run, class Q>
static void prepare(const Q& q, char* work, const Worker& w) {
  Run(q, work).prepare(w);
}
template <class Run, class Q>
static void forward(const Q& q, char* work, const Worker& w) {
  const Run f(q, work);
  if (f.prepare(w)) f.run(w);
}

template <class T, class C>
static constexpr ScanKernels<T> scan() {
  typedef Forward<T, C> F;
  return {work_of<F>, forward<F>, prepare<F>, run<F>, work_of<Backward<T, C>>, run<Backward<T, C>>};
}

static const CellKernels cells[] = {
#define UNROLLED_CELL(C) \
  {C::name, C::STATES, C::GATES, C::ROWS, C::OPERAND_WIDTH, C::PARAMS, {scan<float, C>(), scan<double, C>()}},
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
  typedef InterpreterForward<T> F;
  typedef InterpreterBackward<T> B;
  return {map<T, exp>, map<T, sigmoid>, map<T, tanh>, map<T, log>,
          L::forward_work, L::run_forward, L::run_prepare, sample<T>, L::backward_work, L::run_backward,
          cross_entropy<T>, sum_of_squares<T>, scale<T>, update_rules<T>, sizeof(update_rules<T>) / sizeof(update_rules<T>[0]),
          {work_of<F>, forward<F>, prepare<F>, run<F>, work_of<B>, run<B>}};
}

#define UNROLLED_TEXT(x) #x
#define UNROLLED_NAME(x) UNROLLED_TEXT(x)

extern const Kernels kernels;  // a const is private to its file unless it says so
const Kernels kernels = {UNROLLED_NAME(UNROLLED_ISA), UNROLLED_BYTES, cells, sizeof(cells) / sizeof(cells[0]),
                         {arrays<float>(), arrays<double>()}, multiply_adds, read};

}  // namespace unrolled::UNROLLED_ISA
