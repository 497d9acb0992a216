// Programs: an instruction at a time over the numbers of a block, which stay in the first-level cache.
#pragma once

#include "kernels.h"
#include "math.h"
#include "simd.h"

namespace unrolled::UNROLLED_ISA {

enum Operation {
#define UNROLLED_OPERATION(name, expression) op_##name,
  UNROLLED_OPERATIONS(UNROLLED_OPERATION, UNROLLED_OPERATION, UNROLLED_OPERATION, UNROLLED_OPERATION)
#undef UNROLLED_OPERATION
};

constexpr long BLOCK_BYTES = 1024;  // of a slot: what an instruction works on at a time

// Runs the program on the n numbers in every slot, n being whole vectors of at most a block.
template <class T>
static NOINLINE void run_program(const Program& p, T* const* slot, long n) {
  typedef Vec<T> V;
  typedef typename Lanes<T>::I I;
  constexpr long width = W<T>;
  for (const int *code = p.code, *end = code + 5 * p.length; code < end; code += 5) {
    T* to = slot[code[1]];
    const T *first = slot[code[2]], *second = slot[code[3]], *third = slot[code[4]];
    switch (code[0]) {
#define UNROLLED_CASE(name, arguments, expression) \
  case op_##name:                                  \
    _Pragma("GCC unroll 1")                        \
    for (long i = 0; i < n; i += width) {          \
      arguments;                                   \
      store(to + i, (V)(expression));              \
    }                                              \
    break;
#define UNROLLED_UNARY(name, expression) UNROLLED_CASE(name, const V a = load(first + i), expression)
#define UNROLLED_BINARY(name, expression) \
  UNROLLED_CASE(name, const V a = load(first + i); const V b = load(second + i), expression)
#define UNROLLED_TERNARY(name, expression)                                                                        \
  UNROLLED_CASE(name, const V a = load(first + i); const V b = load(second + i); const V c = load(third + i), \
                expression)
      UNROLLED_OPERATIONS(UNROLLED_UNARY, UNROLLED_BINARY, UNROLLED_TERNARY, UNROLLED_BINARY)
#undef UNROLLED_TERNARY
#undef UNROLLED_BINARY
#undef UNROLLED_UNARY
#undef UNROLLED_CASE
    }
  }
}

}  // namespace unrolled::UNROLLED_ISA
