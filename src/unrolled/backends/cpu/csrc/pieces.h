// The scratch memory of a call.
#pragma once

#include <stddef.h>

namespace unrolled::UNROLLED_ISA {

// Hands out 64-byte aligned pieces of the scratch memory; with a null base it only counts.
class Pieces {
  char* base_;

 public:
  size_t used = 0;
  explicit Pieces(char* base) : base_(base) {}
  template <class T>
  T* take(size_t count) {
    T* piece = base_ ? reinterpret_cast<T*>(base_ + used) : nullptr;
    used += (count * sizeof(T) + 127) / 64 * 64;  // a line apart: power-of-two strides would collide in the cache
    return piece;
  }
};

}  // namespace unrolled::UNROLLED_ISA
