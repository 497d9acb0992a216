// Bindings of what a core can do at most (peaks.h); the interpreter lock is let go, so that threads run side by side.
#pragma once

#include "binding.h"
#include "kernels.h"

namespace unrolled {

inline double multiply_adds(long rounds) {
  const nb::gil_scoped_release release;
  return state->kernels->multiply_adds(rounds);
}

inline float read(nb::handle x, long times) {
  Arrays arrays;
  long size = 0;
  const float* from = arrays.any<const float>(x, size, "x");
  const nb::gil_scoped_release release;
  float total = 0;
  for (long i = 0; i < times; ++i) total += state->kernels->read(from, size);
  return total;
}

inline void define_peaks(nb::module_& m) {
  m.def("multiply_adds", &multiply_adds, nb::arg("rounds"));
  m.def("read", &read, nb::arg("x"), nb::arg("times"));
}

}  // namespace unrolled
