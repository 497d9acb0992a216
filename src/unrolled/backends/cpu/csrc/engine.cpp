// The Python module `unrolled.backends.cpu._engine`. It hands plain pointers to the kernels with the interpreter lock
// released. Shapes are the caller's business (backends/cpu/kernels.py); sizes are checked here once more (binding.h), so that
// no mistake there can touch memory that is not an array's.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <pthread.h>

#include <string>
#include <vector>

#include "bind_arrays.h"
#include "bind_interpreter.h"
#include "bind_layers.h"
#include "bind_optim.h"
#include "bind_peaks.h"
#include "bind_sampler.h"
#include "bind_scan.h"
#include "binding.h"
#include "build.h"
#include "kernels.h"
#include "runtime.h"

namespace unrolled {

constexpr int MOST_THREADS = 1024;

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels* k : sets()) names.push_back(k->name);
  return names;
}

std::vector<std::string> cells() {
  std::vector<std::string> names;
  for (int i = 0; i < state->kernels->cell_count; ++i) names.push_back(state->kernels->cells[i].name);
  return names;
}

// How this very module was built.
nb::dict build() {
  nb::dict out, flags;
  for (const auto& set : BUILD_FLAGS) flags[set[0]] = set[1];
  out["compiler"] = BUILD_COMPILER;
  out["build_type"] = BUILD_TYPE;
  out["system"] = BUILD_SYSTEM;
  const auto text = [](int n) { return std::to_string(n); };
  out["nanobind"] = text(NB_VERSION_MAJOR) + "." + text(NB_VERSION_MINOR) + "." + text(NB_VERSION_PATCH);
  out["flags"] = flags;
  return out;
}

void set_threads(int n) {
  require(n >= 1 && n <= MOST_THREADS, "the number of threads");
  state->threads = n;
  state->solitude.forget();
}

// All that computes, for each type of numbers.
template <class... T>
void define_for(nb::module_& m) {
  (define_arrays<T>(m), ...);
  (define_scan<T>(m), ...);
  (define_interpreter<T>(m), ...);
  (define_layers<T>(m), ...);
  (define_optim<T>(m), ...);
  (define_sampler<T>(m), ...);
}

}  // namespace unrolled

NB_MODULE(_engine, m) {
  using namespace unrolled;
  nb::set_leak_warnings(false);  // a program may end while a daemon thread's frames still hold an object of ours
  state->kernels = sets().front();
  multiplies_pairs = pairs_here();
  pthread_atfork(nullptr, nullptr, after_fork);
  nb::module_::import_("atexit").attr("register")(nb::cpp_function(&end));
  m.def("instruction_sets", &instruction_sets);
  m.def("instruction_set", [] { return std::string(state->kernels->name); });
  m.def("select", &use_set, nb::arg("name"));
  m.def("build", &build);
  m.def("vector_bytes", [] { return state->kernels->bytes; });
  m.def("cells", &cells);
  m.def("operations", &operations);
  m.def("set_threads", &set_threads, nb::arg("n"));
  m.def("get_threads", [] { return state->threads; });
  m.def("calls_alone", [] { return state->solitude.left(); });
  m.def("fetch_above", [](long bytes) { fetched_above = bytes; }, nb::arg("bytes"));
  m.def("fetched_above", [] { return fetched_above; });
  m.def("multiply_pairs", [](bool wanted) { multiplies_pairs = wanted && pairs_here(); }, nb::arg("wanted"));
  m.def("multiplies_pairs", [] { return multiplies_pairs && state->kernels->bytes == 64; });
  m.def("trim", [] { memory.trim(); });
  define_peaks(m);
  define_for<float, double>(m);
}
