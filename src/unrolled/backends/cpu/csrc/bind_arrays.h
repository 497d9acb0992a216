// Bindings of arrays by themselves: new ones, of the memory that stays between calls, and functions of every number.
#pragma once

#include <memory>
#include <new>
#include <string>
#include <vector>

#include "binding.h"
#include "kernels.h"

namespace unrolled {

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
void map(const std::string& name, nb::handle x, nb::handle y) {
  const ArrayKernels<T>& kernels = array_kernels<T>();
  Arrays arrays;
  long size = 0;
  const T* from = arrays.any<const T>(x, size, "x");
  T* to = arrays.array<T>(y, size, "y");
  const auto f = name == "exp"       ? kernels.exp
                 : name == "sigmoid" ? kernels.sigmoid
                 : name == "log"     ? kernels.log
                 : name == "tanh"    ? kernels.tanh
                                     : nullptr;
  if (!f) throw nb::key_error(name.c_str());
  f(from, to, size);
}

template <class T>
void define_arrays(nb::module_& m) {
  m.def(named<T>("empty").c_str(), &empty_of<T>, nb::arg("shape"));
  m.def(named<T>("map").c_str(), &map<T>);
}

}  // namespace unrolled
