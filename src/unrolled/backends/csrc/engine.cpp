// The Python module `unrolled.backends._engine`: picks an instruction set, keeps threads and memory, and hands plain
// pointers to the kernels with the interpreter lock released. Shapes are the caller's business (backends/cpu.py);
// sizes are checked here once more, so that no mistake there can touch memory that is not an array's.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <pthread.h>

#include <string.h>

#include <algorithm>
#include <chrono>
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
};
State* state = new State;
Memory memory;

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
  const auto now = std::chrono::steady_clock::now();
  if (now - asked < std::chrono::milliseconds(100)) return false;
  asked = now;
  const nb::gil_scoped_acquire lock;
  return PyErr_CheckSignals() != 0;
}

// Runs work(worker) on `threads` threads (one if another call is using them) without the interpreter lock.
template <class Work>
void run(int threads, const Work& work) {
  bool done = true;
  {
    const nb::gil_scoped_release release;
    asked = std::chrono::steady_clock::now();
    State& s = *state;
    std::unique_lock<std::mutex> mine(s.running, std::defer_lock);
    if (threads > 1 && mine.try_lock()) {
      if (!s.pool || s.pool->size() != threads) {
        delete s.pool;
        s.pool = nullptr;
        s.pool = new Pool(threads);
      }
      const std::function<void(const Worker&)> flushed = [&](const Worker& w) {
        const FlushDenormals flush;
        work(w);
      };
      done = s.pool->run(flushed, interrupted);
    } else {
      const FlushDenormals flush;
      Shared shared;
      shared.interrupted = interrupted;
      work({0, 1, &shared});
      done = shared.stop == 0;
    }
  }
  if (!done) throw nb::python_error();
}

// Memory of a call, or of an array.
class Scratch {
  Memory::Block block_;

 public:
  explicit Scratch(size_t bytes) : block_(memory.take(bytes)) {}
  ~Scratch() { memory.give(block_); }
  char* get() const { return static_cast<char*>(block_.data); }
};

// An array's numbers, or null for None; at least `size` of them.
template <class T>
T* data(nb::handle h, size_t size, const char* what) {
  if (h.is_none()) return nullptr;
  nb::ndarray<T, nb::c_contig, nb::device::cpu> array;
  if (!nb::try_cast(h, array, false)) throw nb::type_error((std::string(what) + " has another dtype or layout").c_str());
  if (array.size() < size) throw nb::value_error((std::string(what) + " is too small").c_str());
  return array.data();
}

// Rows of a matrix that may lie apart, (rows, width); `row` becomes the distance.
template <class T>
const T* matrix(nb::handle h, long rows, long width, long& row, const char* what) {
  nb::ndarray<const T, nb::ndim<2>, nb::device::cpu> array;
  if (!nb::try_cast(h, array, false)) throw nb::type_error((std::string(what) + " has another dtype or rank").c_str());
  if (long(array.shape(0)) != rows || long(array.shape(1)) != width || (width > 1 && array.stride(1) != 1))
    throw nb::value_error((std::string(what) + " has another shape or layout").c_str());
  row = array.stride(0);
  return array.data();
}

template <class T>
const ScanKernels<T>& scan_of(const std::string& cell) {
  for (int i = 0; i < state->kernels->cell_count; ++i)
    if (state->kernels->cells[i].name == cell) {
      if constexpr (sizeof(T) == 4)
        return state->kernels->cells[i].f32;
      else
        return state->kernels->cells[i].f64;
    }
  throw nb::key_error(cell.c_str());
}

// What both directions have in common. `dims`: steps, batch, inputs, hidden, rows R, columns K, gates,
// parameters, record, by_panels.
template <class T>
Layer<T> layer_of(const std::vector<long>& dims, nb::handle x, nb::dict w, nb::handle live, nb::list keep, nb::list states,
                  nb::list proposed, nb::handle gates) {
  Layer<T> q = {};
  if (dims.size() != 10) throw nb::value_error("dims has 10 entries");
  q.steps = dims[0], q.batch = dims[1], q.inputs = dims[2], q.hidden = dims[3];
  const long rows = dims[4], columns = dims[5];
  q.record = dims[8] != 0, q.by_panels = dims[9] != 0;
  const long width = state->kernels->bytes / long(sizeof(T)), padded = (q.hidden + width - 1) / width * width;
  const size_t all = q.steps * q.batch;
  nb::ndarray<> any;
  if (nb::try_cast(x, any, false) && any.ndim() == 1) {
    q.tokens = data<const long long>(x, all, "x");
    for (size_t i = 0; i < all; ++i)
      if (q.tokens[i] < 0 || q.tokens[i] >= q.inputs) throw nb::value_error("x has an index outside weight_ih");
    q.table = q.inputs <= long(all);
  } else {
    q.x = matrix<T>(x, all, q.inputs, q.x_row, "x");
  }
  q.weight_ih = data<const T>(w["weight_ih"], rows * q.hidden * q.inputs, "weight_ih");
  q.weight_hh = data<const T>(w["weight_hh"], rows * q.hidden * columns, "weight_hh");
  q.bias_ih = data<const T>(w["bias_ih"], rows * q.hidden, "bias_ih");
  q.bias_hh = data<const T>(w["bias_hh"], rows * q.hidden, "bias_hh");
  q.params = data<const T>(w["params"], dims[7] * q.hidden, "params");
  q.live = data<const unsigned char>(live, all, "live");
  for (size_t i = 0; i < keep.size(); ++i) q.keep[i] = data<const unsigned char>(keep[i], all * q.hidden, "keep");
  for (size_t i = 0; i < states.size(); ++i)
    q.states[i] = data<T>(states[i], (q.record || i == 0 ? q.steps + 1 : 2) * q.batch * padded, "states");
  for (size_t i = 0; i < proposed.size(); ++i) q.proposed[i] = data<T>(proposed[i], all * padded, "proposed");
  q.gates = data<T>(gates, all * dims[6] * padded, "gates");
  q.plain = !q.live && keep.size() == 0 && proposed.size() == 0;
  return q;
}

// Small calls do not pay for threads.
template <class T>
int threads_for(const Layer<T>& q, double rows, double columns) {
  const double products = rows * q.hidden * double(q.steps) * q.batch * (columns + (q.tokens ? 0 : q.inputs));
  return products < 2e5 ? 1 : state->threads;
}

template <class T>
void forward(const std::string& cell, const std::vector<long>& dims, nb::handle x, nb::dict w, nb::handle live, nb::list keep,
             nb::list states, nb::list proposed, nb::handle gates, nb::handle y) {
  Layer<T> q = layer_of<T>(dims, x, w, live, keep, states, proposed, gates);
  q.y = data<T>(y, q.steps * q.batch * q.hidden, "y");
  const ScanKernels<T>& scan = scan_of<T>(cell);
  q.threads = threads_for(q, dims[4], dims[5]);
  const Scratch scratch(scan.forward_work(q));
  run(q.threads, [&](const Worker& worker) { scan.forward(q, scratch.get(), worker); });
}

template <class T>
void backward(const std::string& cell, const std::vector<long>& dims, nb::handle x, nb::dict w, nb::handle live, nb::list keep,
              nb::list states, nb::list proposed, nb::handle gates, nb::handle dy, nb::list dstate, nb::handle dx, nb::dict grads) {
  Layer<T> q = layer_of<T>(dims, x, w, live, keep, states, proposed, gates);
  const long width = state->kernels->bytes / long(sizeof(T)), padded = (q.hidden + width - 1) / width * width;
  q.dy = matrix<T>(dy, q.steps * q.batch, q.hidden, q.dy_row, "dy");
  for (size_t i = 0; i < dstate.size(); ++i) q.dstate[i] = data<T>(dstate[i], q.batch * padded, "dstate");
  q.dx_row = (q.inputs + width - 1) / width * width;
  q.dx = data<T>(dx, q.steps * q.batch * q.dx_row, "dx");
  q.d_weight_ih = data<T>(grads["weight_ih"], dims[4] * q.hidden * q.inputs, "weight_ih");
  q.d_weight_hh = data<T>(grads["weight_hh"], dims[4] * q.hidden * dims[5], "weight_hh");
  q.d_bias_ih = data<T>(grads["bias_ih"], dims[4] * q.hidden, "bias_ih");
  q.d_bias_hh = data<T>(grads["bias_hh"], dims[4] * q.hidden, "bias_hh");
  q.d_params = data<T>(grads["params"], dims[7] * q.hidden, "params");
  const ScanKernels<T>& scan = scan_of<T>(cell);
  q.threads = threads_for(q, dims[4], dims[5]);
  const Scratch scratch(scan.backward_work(q));
  run(q.threads, [&](const Worker& worker) { scan.backward(q, scratch.get(), worker); });
}

template <class T>
nb::ndarray<nb::numpy, T> empty_of(const std::vector<size_t>& shape) {
  size_t size = 1;
  for (size_t n : shape) size *= n;
  auto block = std::make_unique<Scratch>(size * sizeof(T));
  T* numbers = reinterpret_cast<T*>(block->get());
  nb::capsule owner(block.get(), [](void* p) noexcept { delete static_cast<Scratch*>(p); });
  block.release();
  return nb::ndarray<nb::numpy, T>(numbers, shape.size(), shape.data(), owner);
}

template <class T>
void map(const ArrayKernels<T>& kernels, const std::string& name, nb::handle x, nb::handle y) {
  nb::ndarray<const T, nb::c_contig, nb::device::cpu> from = nb::cast<nb::ndarray<const T, nb::c_contig, nb::device::cpu>>(x);
  (name == "exp" ? kernels.exp : name == "sigmoid" ? kernels.sigmoid : name == "log" ? kernels.log : kernels.tanh)(from.data(), data<T>(y, from.size(), "y"), long(from.size()));
}

#include "network_module.h"
// after network_module.h
#include "draw_module.h"
#include "program_module.h"

}  // namespace

NB_MODULE(_engine, m) {
  state->kernels = sets().front();
  pthread_atfork(nullptr, nullptr, after_fork);
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
  m.def("set_threads", [](int n) { state->threads = n < 1 ? 1 : n; }, nb::arg("n"));
  m.def("get_threads", [] { return state->threads; });
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
  Drawer<float>::define(m, "Drawer32");
  Drawer<double>::define(m, "Drawer64");
  m.def("map32", [](const std::string& name, nb::handle x, nb::handle y) { map(state->kernels->f32, name, x, y); });
  m.def("map64", [](const std::string& name, nb::handle x, nb::handle y) { map(state->kernels->f64, name, x, y); });
}
