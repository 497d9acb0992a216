// What all bindings share, and the door of the module. What a call is handed is looked at here before any kernel reads it,
// whoever calls: sizes whose products can't overflow; arrays that are there, of the expected dtype and exactly the expected
// length, aligned; indices and programs in copies of our own, since another thread or a signal's handler may write over the
// caller's while the call runs.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdint.h>
#include <string.h>

#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "pool.h"
#include "runtime.h"

namespace unrolled {

// What a function of one type of numbers is called: forward32, forward64.
template <class T>
std::string named(const char* name) {
  return name + std::to_string(8 * sizeof(T));
}

template <class T>
const ArrayKernels<T>& array_kernels() {
  return state->kernels->arrays.of<T>();
}

// Below this many operations a call does not pay for threads.
inline int threads_for(double operations, double least) { return operations < least ? 1 : state->threads; }

inline void require(bool fits, const std::string& what) {
  if (!fits) throw nb::value_error((what + " does not fit").c_str());
}

// A whole number.
inline int number(nb::handle h, const std::string& what) {
  int value = 0;
  if (!nb::try_cast(h, value, false)) throw nb::type_error((what + " is no whole number").c_str());
  return value;
}

// The product of sizes, 0 where one is. It must be a number of things that memory can hold, whatever else is 0.
inline long count(std::initializer_list<long> sizes) {
  constexpr long most = 1L << 46;
  long whole = 1;
  bool none = false;
  for (long n : sizes) {
    require(n >= 0 && n <= most / whole, "a size");
    none |= n == 0;
    if (n) whole *= n;
  }
  return none ? 0 : whole;
}

// Memory of a call, or of an array.
class Scratch {
  Memory::Block block_;

 public:
  explicit Scratch(size_t bytes) : block_(memory.take(bytes)) {}
  ~Scratch() { memory.give(block_); }
  Scratch(const Scratch&) = delete;
  char* get() const { return static_cast<char*>(block_.data); }
};

// Numbers a row, for rows that are padded to whole vectors.
template <class T>
long padded_row(long width) {
  const long vector = state->kernels->bytes / long(sizeof(T));
  count({width});
  return (width + vector - 1) / vector * vector;
}

// The arrays of one call. They are kept alive until it ends, whatever becomes of the lists and dictionaries that held them.
// For an object that reads them later too, all but matrices are copied, whatever is written into the caller's by then.
class Arrays {
  const bool copies_all_;
  std::vector<nb::ndarray<>> held_;
  std::vector<std::unique_ptr<Scratch>> copies_;

  template <class Array>
  auto hold(Array& array, const std::string& what) {
    if (reinterpret_cast<uintptr_t>(array.data()) % alignof(decltype(*array.data())) != 0)
      throw nb::value_error((what + " is not aligned").c_str());
    held_.emplace_back(array.handle());
    return array.data();
  }

  template <class Array>
  auto hold_or_copy(Array& array, const std::string& what) {
    return copies_all_ ? copy(hold(array, what), long(array.size())) : hold(array, what);
  }

  template <class Array>
  static Array cast(nb::handle h, const std::string& what) {
    Array array;
    if (h.is_none() || !nb::try_cast(h, array, false))
      throw nb::type_error((what + " is no array of the dtype, rank and layout that is asked for").c_str());
    return array;
  }

 public:
  explicit Arrays(bool copies_all = false) : copies_all_(copies_all) { held_.reserve(32); }

  // Lets the caller's arrays go.
  void release() { held_.clear(); }

  // The numbers of an array in C order, of exactly `size`.
  template <class T>
  T* array(nb::handle h, size_t size, const std::string& what) {
    auto found = cast<nb::ndarray<T, nb::c_contig, nb::device::cpu>>(h, what);
    if (found.size() != size)
      throw nb::value_error((what + " has " + std::to_string(found.size()) + " numbers; expected " + std::to_string(size)).c_str());
    return hold_or_copy(found, what);
  }

  // The same of one of any size, which becomes `size`.
  template <class T>
  T* any(nb::handle h, long& size, const std::string& what) {
    auto found = cast<nb::ndarray<T, nb::c_contig, nb::device::cpu>>(h, what);
    size = long(found.size());
    return hold_or_copy(found, what);
  }

  // The same, or null for None.
  template <class T>
  T* optional(nb::handle h, size_t size, const std::string& what) {
    return h.is_none() ? nullptr : array<T>(h, size, what);
  }

  // A matrix (rows, width) whose rows may lie apart; `row` becomes the distance. A negative size is any, and becomes what it is.
  template <class T>
  T* matrix(nb::handle h, long& rows, long& width, long& row, const std::string& what) {
    auto found = cast<nb::ndarray<T, nb::ndim<2>, nb::device::cpu>>(h, what);
    const long height = long(found.shape(0)), across = long(found.shape(1));
    const bool beside = height == 0 || across < 2 || found.stride(1) == 1;
    if ((rows >= 0 && height != rows) || (width >= 0 && across != width) || !beside) {
      const auto text = [](long n) { return n < 0 ? "N" : std::to_string(n); };
      throw nb::value_error((what + " has shape (" + text(height) + ", " + text(across) + ")" + (beside ? "" : ", its columns apart") +
                             "; expected (" + text(rows) + ", " + text(width) + ")").c_str());
    }
    rows = height, width = across;
    row = rows > 1 ? long(found.stride(0)) : width;
    return hold(found, what);
  }
  template <class T>
  T* matrix(nb::handle h, long&& rows, long& width, long& row, const std::string& what) {
    return matrix<T>(h, rows, width, row, what);
  }

  // A copy of `count` numbers that no one else knows.
  template <class T>
  T* copy(const T* from, long count) {
    copies_.push_back(std::make_unique<Scratch>(size_t(count) * sizeof(T)));
    char* own = copies_.back()->get();
    if (count) memcpy(own, from, size_t(count) * sizeof(T));
    return reinterpret_cast<T*>(own);
  }

  // Whole numbers from 0 to below `end`, in a copy of our own.
  template <class I>
  const I* indices(nb::handle h, long& size, long end, const std::string& what) {
    const I* from = any<const I>(h, size, what);
    const I* own = copy(from, size);
    bool inside = true;
    for (long i = 0; i < size; ++i) inside &= own[i] >= 0 && own[i] < end;
    if (!inside) throw nb::value_error((what + " has a number outside 0 to " + std::to_string(end - 1)).c_str());
    return own;
  }
  // The same, of exactly `size`.
  const long long* tokens(nb::handle h, long size, long end, const std::string& what) {
    array<const long long>(h, size, what);
    return indices<long long>(h, size, end, what);
  }
};

}  // namespace unrolled
