// The Python module `unrolled.backends.cpu._engine`: picks an instruction set, keeps threads and memory, and hands plain
// pointers to the kernels with the interpreter lock released. Shapes are the caller's business (backends/cpu/kernels.py);
// sizes are checked here once more (binding.h), so that no mistake there can touch memory that is not an array's.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <pthread.h>

#include <string.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <initializer_list>
#include <memory>
#include <string>

#include "build.h"
#include "kernels.h"
#include "pool.h"

namespace nb = nanobind;
using namespace unrolled;

namespace unrolled {
#define UNROLLED_SET(name) \
  namespace name {         \
  extern const Kernels kernels; \
  }
UNROLLED_SETS
#undef UNROLLED_SET
}  // namespace unrolled

namespace {

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
State* state = new State;
Memory& memory = *new Memory;  // never destroyed: arrays may outlive the module
constexpr int MOST_THREADS = 1024;

void after_fork() {
  State* fresh = new State;  // the old one may be locked by a thread that is gone
  fresh->kernels = state->kernels;
  fresh->threads = state->threads;
  state = fresh;
}

bool runs_here(const std::string& name) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (name == "avx512")
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl");
  if (name == "avx2") return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return true;
}

// Best first; only those that this processor can run.
std::vector<const Kernels*> sets() {
  std::vector<const Kernels*> all;
#define UNROLLED_SET(name) \
  if (runs_here(#name)) all.push_back(&name::kernels);
  UNROLLED_SETS
#undef UNROLLED_SET
  return all;
}

std::vector<std::string> names() {
  std::vector<std::string> out;
  for (const Kernels* k : sets()) out.push_back(k->name);
  return out;
}

// How this very module was built.
nb::dict build() {
  nb::dict out, flags;
  for (const auto& set : BUILD_FLAGS) flags[set[0]] = set[1];
  out["compiler"] = BUILD_COMPILER;
  out["build_type"] = BUILD_TYPE;
  out["system"] = BUILD_SYSTEM;
  out["nanobind"] = std::to_string(NB_VERSION_MAJOR) + "." + std::to_string(NB_VERSION_MINOR) + "." + std::to_string(NB_VERSION_PATCH);
  out["flags"] = flags;
  return out;
}

void use_set(const std::string& name) {
  for (const Kernels* k : sets())
    if (k->name == name) {
      state->kernels = k;
      return;
    }
  throw nb::value_error(("this processor or this build has no instruction set " + name).c_str());
}

// Ctrl-C: the calling thread looks for it every tenth of a second. Only the interpreter's main thread ever finds one.
thread_local std::chrono::steady_clock::time_point asked;

bool interrupted() {
  if (state->ending.load(std::memory_order_relaxed)) return true;
  const auto now = std::chrono::steady_clock::now();
  if (now - asked < std::chrono::milliseconds(100)) return false;
  asked = now;
  const nb::gil_scoped_acquire lock;
  return PyErr_CheckSignals() != 0;
}

// The pool, or null where one thread is all that there is.
Pool* pool_of(State& s, int threads) {
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
bool meets_often(double step) { return step < 1e6; }

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
void end() {
  State& s = *state;
  s.ending = true;
  const nb::gil_scoped_release release;
  while (s.inside) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

#include "binding.h"

const CellKernels& cell_of(const std::string& name) {
  for (int i = 0; i < state->kernels->cell_count; ++i)
    if (state->kernels->cells[i].name == name) return state->kernels->cells[i];
  throw nb::key_error(name.c_str());
}

// One number a state field.
nb::list a_field_each(nb::list list, const CellKernels& cell, const char* what) {
  require(long(list.size()) == cell.states, std::string("the number of ") + what);
  return list;
}

// A cell's parameters, by pointers to where they are kept: of a Layer<T>, or (not const) their gradients.
template <class T, class P>
struct Parameters {
  P *&weight_ih, *&weight_hh, *&bias_ih, *&bias_hh, *&params;

  void read(Arrays& arrays, nb::dict w, const CellKernels& cell, long inputs, long hidden) const {
    const long rows = count({cell.rows, hidden});
    weight_ih = arrays.array<P>(w["weight_ih"], count({rows, inputs}), "weight_ih");
    weight_hh = cell.columns ? arrays.array<P>(w["weight_hh"], count({rows, cell.columns, hidden}), "weight_hh") : nullptr;
    bias_ih = arrays.optional<P>(w["bias_ih"], rows, "bias_ih");
    bias_hh = arrays.optional<P>(w["bias_hh"], rows, "bias_hh");
    params = cell.params ? arrays.array<P>(w["params"], count({cell.params, hidden}), "params") : nullptr;
  }
};

// What both directions have in common. `dims`: steps, batch, inputs, hidden, record, by_panels.
template <class T>
Layer<T> layer_of(Arrays& arrays, const CellKernels& cell, const std::vector<long>& dims, nb::handle x, nb::dict w, nb::handle live,
                  nb::list keep, nb::list states, nb::list proposed, nb::handle gates) {
  Layer<T> q = {};
  require(dims.size() == 6 && dims[2] >= 1 && dims[3] >= 1, "dims");
  q.steps = dims[0], q.batch = dims[1], q.inputs = dims[2], q.hidden = dims[3];
  q.record = dims[4] != 0, q.by_panels = dims[5] != 0;
  count({q.steps, q.batch, q.inputs, cell.rows, q.hidden});
  long padded = padded_row<T>(q.hidden), all = count({q.steps, q.batch});
  nb::ndarray<nb::ro> any;
  if (nb::try_cast(x, any, false) && any.ndim() == 1) {
    q.tokens = arrays.tokens(x, all, q.inputs, "x");
    q.table = q.inputs <= all;
  } else {
    q.x = arrays.matrix<const T>(x, all, q.inputs, q.x_row, "x");
  }
  Parameters<T, const T>{q.weight_ih, q.weight_hh, q.bias_ih, q.bias_hh, q.params}.read(arrays, w, cell, q.inputs, q.hidden);
  q.live = arrays.optional<const unsigned char>(live, all, "live");
  if (keep.size()) a_field_each(keep, cell, "masks");
  for (size_t i = 0; i < keep.size(); ++i) q.keep[i] = arrays.optional<const unsigned char>(keep[i], count({all, q.hidden}), "keep");
  a_field_each(states, cell, "states");
  for (size_t i = 0; i < states.size(); ++i)
    q.states[i] = arrays.array<T>(states[i], count({q.record || i == 0 ? q.steps + 1 : 2, q.batch, padded}), "states");
  if (proposed.size()) a_field_each(proposed, cell, "proposed states");
  for (size_t i = 0; i < proposed.size(); ++i) q.proposed[i] = arrays.array<T>(proposed[i], count({all, padded}), "proposed");
  q.gates = arrays.array<T>(gates, q.record ? count({all, cell.gates, padded}) : 0, "gates");
  q.plain = !q.live && keep.size() == 0 && proposed.size() == 0;
  return q;
}

// Products of one step.
template <class T>
double step_of(const Layer<T>& q, const CellKernels& cell) {
  return double(cell.rows) * q.hidden * q.batch * cell.columns * q.hidden;
}

// Small calls do not pay for threads; nor do steps whose units threads share, if a step is short: they meet after each.
template <class T>
int threads_for(const Layer<T>& q, const CellKernels& cell) {
  const double step = step_of(q, cell);
  const double products = q.steps * (step + (q.tokens ? 0 : double(cell.rows) * q.hidden * q.batch * q.inputs));
  if (q.by_panels && (step < 1.2e4 || q.hidden <= padded_row<T>(1))) return 1;
  return products < 2e5 ? 1 : state->threads;
}

template <class T>
void forward(const std::string& name, const std::vector<long>& dims, nb::handle x, nb::dict w, nb::handle live, nb::list keep,
             nb::list states, nb::list proposed, nb::handle gates, nb::handle y) {
  Arrays arrays;
  const CellKernels& cell = cell_of(name);
  Layer<T> q = layer_of<T>(arrays, cell, dims, x, w, live, keep, states, proposed, gates);
  q.y = arrays.optional<T>(y, count({q.steps, q.batch, padded_row<T>(q.hidden)}), "y");
  if (q.steps == 0 || q.batch == 0) return;  // nothing to do, and arrays without any memory
  const ScanKernels<T>& scan = cell.scan.of<T>();
  q.threads = threads_for(q, cell);
  const Scratch scratch(scan.forward_work(q));
  const bool often = q.by_panels && meets_often(step_of(q, cell));
  run(q.threads, [&](const Worker& worker) { scan.forward(q, scratch.get(), worker); }, often);
}

template <class T>
void backward(const std::string& name, const std::vector<long>& dims, nb::handle x, nb::dict w, nb::handle live, nb::list keep,
              nb::list states, nb::list proposed, nb::handle gates, nb::handle dy, nb::list dstate, nb::handle dx, nb::dict grads) {
  Arrays arrays;
  const CellKernels& cell = cell_of(name);
  Layer<T> q = layer_of<T>(arrays, cell, dims, x, w, live, keep, states, proposed, gates);
  require(q.record, "a call without a record");
  q.dy = arrays.matrix<const T>(dy, count({q.steps, q.batch}), q.hidden, q.dy_row, "dy");
  a_field_each(dstate, cell, "the state's gradients");
  for (size_t i = 0; i < dstate.size(); ++i) q.dstate[i] = arrays.array<T>(dstate[i], count({q.batch, padded_row<T>(q.hidden)}), "dstate");
  q.dx_row = padded_row<T>(q.inputs);
  q.dx = arrays.optional<T>(dx, count({q.steps, q.batch, q.dx_row}), "dx");
  Parameters<T, T>{q.d_weight_ih, q.d_weight_hh, q.d_bias_ih, q.d_bias_hh, q.d_params}.read(arrays, grads, cell, q.inputs, q.hidden);
  if (q.steps == 0 || q.batch == 0) return;
  const ScanKernels<T>& scan = cell.scan.of<T>();
  q.threads = threads_for(q, cell);
  const Scratch scratch(scan.backward_work(q));
  const bool often = q.by_panels && meets_often(step_of(q, cell));
  run(q.threads, [&](const Worker& worker) { scan.backward(q, scratch.get(), worker); }, often);
}

template <class T>
nb::ndarray<nb::numpy, T> empty_of(const std::vector<size_t>& shape) {
  size_t size = 1;
  bool none = false;
  require(shape.size() <= 32, "a shape");
  for (size_t n : shape) {
    none |= n == 0;
    if (n > (size_t(1) << 46) / size) throw std::bad_alloc();
    size *= n ? n : 1;
  }
  size = none ? 0 : size;
  auto block = std::make_unique<Scratch>(size * sizeof(T));
  T* numbers = reinterpret_cast<T*>(block->get());
  nb::capsule owner(block.get(), [](void* p) noexcept { delete static_cast<Scratch*>(p); });
  block.release();
  return nb::ndarray<nb::numpy, T>(numbers, shape.size(), shape.data(), owner);
}

template <class T>
void map(const ArrayKernels<T>& kernels, const std::string& name, nb::handle x, nb::handle y) {
  Arrays arrays;
  long size = 0;
  const T* from = arrays.any<const T>(x, size, "x");
  T* to = arrays.array<T>(y, size, "y");
  const auto f = name == "exp" ? kernels.exp : name == "sigmoid" ? kernels.sigmoid : name == "log" ? kernels.log : name == "tanh" ? kernels.tanh : nullptr;
  if (!f) throw nb::key_error(name.c_str());
  f(from, to, size);
}

#include "bind_layers.h"
// after bind_layers.h
#include "bind_sampler.h"
#include "bind_interpreter.h"

}  // namespace

NB_MODULE(_engine, m) {
  nb::set_leak_warnings(false);  // a program may end while a daemon thread's frames still hold an object of ours
  state->kernels = sets().front();
  pthread_atfork(nullptr, nullptr, after_fork);
  nb::module_::import_("atexit").attr("register")(nb::cpp_function(&end));
  m.def("instruction_sets", &names);
  m.def("instruction_set", [] { return std::string(state->kernels->name); });
  m.def("build", &build);
  m.def("vector_bytes", [] { return state->kernels->bytes; });
  m.def("select", &use_set, nb::arg("name"));
  m.def("cells", [] {
    std::vector<std::string> out;
    for (int i = 0; i < state->kernels->cell_count; ++i) out.push_back(state->kernels->cells[i].name);
    return out;
  });
  m.def(
      "set_threads",
      [](int n) {
        require(n >= 1 && n <= MOST_THREADS, "the number of threads");
        state->threads = n;
        state->solitude.forget();
      },
      nb::arg("n"));
  m.def("get_threads", [] { return state->threads; });
  m.def("calls_alone", [] { return state->solitude.left(); });
  m.def("trim", [] { memory.trim(); });
  m.def("empty32", &empty_of<float>, nb::arg("shape"));
  m.def("empty64", &empty_of<double>, nb::arg("shape"));
  const auto def_forward = [&](const char* name, auto f) {
    m.def(name, f, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
          nb::arg().none());
  };
  const auto def_backward = [&](const char* name, auto f) {
    m.def(name, f, nb::arg(), nb::arg(), nb::arg(), nb::arg(), nb::arg().none(), nb::arg(), nb::arg(), nb::arg(), nb::arg(),
          nb::arg(), nb::arg(), nb::arg().none(), nb::arg());
  };
  def_forward("forward32", &forward<float>);
  def_forward("forward64", &forward<double>);
  def_backward("backward32", &backward<float>);
  def_backward("backward64", &backward<double>);
  define_network<float>(m, "32");
  define_network<double>(m, "64");
  m.def("operations", &operations);
  define_programs<float>(m, "32");
  define_programs<double>(m, "64");
  Sampler<float>::define(m, "Sampler32");
  Sampler<double>::define(m, "Sampler64");
  m.def("map32", [](const std::string& name, nb::handle x, nb::handle y) { map(state->kernels->arrays.f32, name, x, y); });
  m.def("map64", [](const std::string& name, nb::handle x, nb::handle y) { map(state->kernels->arrays.f64, name, x, y); });
}
